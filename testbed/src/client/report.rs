//! Counters that all clients of a run share, and the progress of a single sender.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hdrhistogram::Histogram;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::home::Home;
use super::refusals::Refusals;

/// Counters that all clients of a run share.
#[derive(Debug, Default)]
pub struct Report {
    /// Messages that were sent for the first time, or were due.
    pub sent: AtomicU64,
    /// Messages with a reply of code 0.
    pub acked: AtomicU64,
    /// Replies with 429, 500 or 503: the message is sent again.
    pub refused: AtomicU64,
    /// Pushed messages that were received.
    pub pushed: AtomicU64,
    /// Replies with another sequence number than an earlier reply.
    pub corrected: AtomicU64,
    /// Connections after the first one of each client.
    pub reconnects: AtomicU64,
    /// All refusals, by code.
    pub refusals: Refusals,
    /// Microseconds until each reply with code 0, from the first call of [`take_latency`](Self::take_latency) on.
    latency: Mutex<Option<Histogram<u64>>>,
}

impl Report {
    /// The latency at this quantile since the last call; begins a new count.
    pub fn take_latency(&self, quantile: f64) -> Duration {
        let before =
            std::mem::replace(&mut *self.latency.lock(), Histogram::new_with_max(120_000_000, 3).ok());
        Duration::from_micros(before.map_or(0, |histogram| histogram.value_at_quantile(quantile)))
    }

    pub(super) fn record_latency(&self, micros: u64) {
        if let Some(latency) = self.latency.lock().as_mut() {
            latency.saturating_record(micros);
        }
    }
}

/// The progress of one sender.
#[derive(Debug, Default)]
pub struct Progress {
    oldest: Mutex<Option<Instant>>,
    newest_acked: AtomicU64,
    pub(super) home: Home,
}

impl Progress {
    /// The age of its oldest unanswered message, counted from the first sending.
    #[must_use]
    pub fn waiting(&self, now: Instant) -> Duration {
        self.oldest.lock().map_or(Duration::ZERO, |oldest| now.saturating_duration_since(oldest))
    }

    pub(super) fn set_oldest(&self, sent: Option<Instant>) {
        *self.oldest.lock() = sent;
    }

    /// Records an acknowledged sequence number.
    pub fn acked(&self, seq: u64) {
        self.newest_acked.fetch_max(seq, Ordering::Relaxed);
    }

    /// Lets it connect to the first of its gateways, if it is connected to another one.
    pub fn return_home(&self) {
        self.home.call();
    }

    /// The highest acknowledged sequence number.
    #[must_use]
    pub fn newest_acked(&self) -> u64 {
        self.newest_acked.load(Ordering::Relaxed)
    }
}

/// The number of messages in a push, without parsing it.
#[must_use]
pub fn messages_in(push: &str) -> u64 {
    push.matches("\"sender_id\":").count() as u64
}
