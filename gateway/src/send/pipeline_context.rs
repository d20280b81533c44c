//! What the pipelines of all shards share.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use shared::concurrency_limit::ConcurrencyLimit;
use shared::pace::Pacer;
use shared::shutdown::Shutdown;

use super::admission::batch_timeout;
use super::gate::Gate;
use super::in_flight::InFlight;
use crate::config::Limits;

/// What the pipelines of all shards share.
#[derive(Debug, Clone)]
pub(crate) struct PipelineContext {
    pub(super) in_flight: Arc<InFlight>,
    pub(super) gate: Arc<Gate>,
    pub(super) limits: Arc<BatchLimits>,
    pub(super) batch_timeout: Duration,
    /// From the admission of a message to the deadline of its reply.
    pub(super) reply_timeout: Duration,
}

impl PipelineContext {
    /// Batches within `limits`, whose replies are settled by `in_flight`.
    #[must_use]
    pub(crate) fn new(limits: &Limits, in_flight: Arc<InFlight>) -> Self {
        Self {
            in_flight,
            gate: Arc::new(Gate::new()),
            limits: Arc::new(BatchLimits::new(limits)),
            batch_timeout: batch_timeout(limits),
            reply_timeout: Duration::from_millis(limits.request_deadline_ms),
        }
    }

    /// What can change while the process runs.
    #[must_use]
    pub(crate) fn limits(&self) -> &Arc<BatchLimits> {
        &self.limits
    }

    /// The gate before all pipelines.
    #[must_use]
    pub(super) fn gate(&self) -> &Arc<Gate> {
        &self.gate
    }
}

/// The size and number of batches. Atomic, since they can change.
#[derive(Debug)]
pub(crate) struct BatchLimits {
    batches: ConcurrencyLimit,
    pacer: Pacer,
    messages_max: AtomicUsize,
    bytes_max: AtomicUsize,
}

impl BatchLimits {
    fn new(limits: &Limits) -> Self {
        Self {
            batches: ConcurrencyLimit::new(limits.batches_at_once),
            pacer: Pacer::new(Duration::from_millis(limits.batch_interval_ms)),
            messages_max: AtomicUsize::new(limits.batch_messages_max),
            bytes_max: AtomicUsize::new(limits.batch_bytes_max),
        }
    }

    /// Applies those of `limits` that can change while the process runs, from the next batch on.
    pub(crate) fn set(&self, limits: &Limits, tasks: &Shutdown) {
        self.batches.resize(limits.batches_at_once, tasks);
        self.pacer.set_interval(Duration::from_millis(limits.batch_interval_ms));
        self.messages_max.store(limits.batch_messages_max, Ordering::Relaxed);
        self.bytes_max.store(limits.batch_bytes_max, Ordering::Relaxed);
    }

    /// Batches that are numbered and published at the same time.
    pub(super) fn batches(&self) -> &ConcurrencyLimit {
        &self.batches
    }

    /// The rounds in which batches begin.
    pub(super) fn pacer(&self) -> &Pacer {
        &self.pacer
    }

    /// Messages of a batch.
    pub(super) fn messages_max(&self) -> usize {
        self.messages_max.load(Ordering::Relaxed)
    }

    /// Bytes of a batch.
    pub(super) fn bytes_max(&self) -> usize {
        self.bytes_max.load(Ordering::Relaxed)
    }
}
