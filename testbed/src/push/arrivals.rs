//! Waiting for requests instead of sleeping.

use tokio::sync::watch;

/// Counts requests that were answered.
#[derive(Debug)]
pub(super) struct Arrivals(watch::Sender<u64>);

impl Default for Arrivals {
    fn default() -> Self {
        Self(watch::Sender::new(0))
    }
}

impl Arrivals {
    pub(super) fn record(&self) {
        self.0.send_modify(|count| *count += 1);
    }

    pub(super) fn count(&self) -> u64 {
        *self.0.borrow()
    }

    /// Waits until `condition` is true, which is looked at after each request.
    pub(super) async fn until<T>(&self, condition: impl Fn() -> Option<T>) -> T {
        let mut changes = self.0.subscribe();
        loop {
            changes.mark_unchanged();
            if let Some(value) = condition() {
                return value;
            }
            // The sender lives as long as `self`.
            if changes.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }
}
