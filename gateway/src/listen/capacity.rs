//! How many connections the listener accepts.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use shared::permits::Permits;
use shared::shutdown::Shutdown;
use tokio::sync::Semaphore;

/// How many connections the listener accepts. It can change at any time; open connections stay open.
#[derive(Debug)]
pub(crate) struct Capacity {
    connections: Permits,
    pending_max: AtomicUsize,
}

impl Capacity {
    /// `connections_max` open connections, further ones wait in the kernel; `pending_max` of one address that are not upgraded,
    /// further ones have little time for each request head (0: no limit).
    pub(crate) fn new(connections_max: usize, pending_max: usize) -> Self {
        show(connections_max);
        Self { connections: Permits::new(connections_max), pending_max: AtomicUsize::new(pending_max) }
    }

    /// Changes both.
    pub(crate) fn set(&self, connections_max: usize, pending_max: usize, tasks: &Shutdown) {
        show(connections_max);
        self.connections.resize(connections_max, tasks);
        self.pending_max.store(pending_max, Ordering::Relaxed);
    }

    /// Open connections, and those of one address that are not upgraded.
    pub(super) fn get(&self) -> (usize, usize) {
        (self.connections.size(), self.pending_max.load(Ordering::Relaxed))
    }

    /// One for each open connection.
    pub(super) fn permits(&self) -> &Arc<Semaphore> {
        self.connections.semaphore()
    }
}

#[expect(clippy::cast_precision_loss, reason = "the number of connections is far below 2^52")]
fn show(connections_max: usize) {
    metrics::gauge!(shared::metrics::GATEWAY_CONNECTIONS_LIMIT).set(connections_max as f64);
}
