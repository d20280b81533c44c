//! What a batch adds to the metrics.

/// Metrics of one batch.
#[derive(Default)]
pub(super) struct Counts {
    pub(super) stored: u64,
    pub(super) skipped: u64,
    pub(super) renumbered: u64,
    pub(super) duplicates: u64,
    /// Messages that began to be held.
    pub(super) held: u64,
}

impl Counts {
    pub(super) fn record(&self) {
        #[expect(clippy::cast_precision_loss, reason = "a batch is far below 2^52")]
        metrics::histogram!(shared::metrics::WORKER_BATCH).record(self.stored as f64);
        for (name, count) in [
            (shared::metrics::WORKER_COMMITTED, self.stored),
            (shared::metrics::WORKER_HOLES, self.skipped),
            (shared::metrics::WORKER_RENUMBERED, self.renumbered),
            (shared::metrics::WORKER_DUPLICATES, self.duplicates),
            (shared::metrics::WORKER_GAP_WAITS, self.held),
        ] {
            if count > 0 {
                metrics::counter!(name).increment(count);
            }
        }
    }
}
