//! A soft limit on concurrent work, which makes batches fewer and larger.
//!
//! Several tasks each turn the messages that wait for them into a batch, and a batch costs much more than a message in it.
//! Without a limit each task begins a batch as soon as one message is there. If only a few may work at the same time, the
//! messages of the others accumulate meanwhile. That needs no clock and no guess about the load: a single busy task never
//! waits, and the batches grow with the load.
//!
//! The limit is for economy, never for correctness: a task continues without a permit after [`TIMEOUT`], so that a task
//! that hangs does not stop the others.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::OwnedSemaphorePermit;

use crate::permits::Permits;
use crate::shutdown::Shutdown;

/// The longest wait for a permit.
const TIMEOUT: Duration = Duration::from_millis(25);

/// A number of permits, granted in the order of requests. Cheap to clone.
#[derive(Debug, Clone)]
pub struct ConcurrencyLimit {
    permits: Permits,
}

/// The permission to work, released when dropped.
#[derive(Debug)]
pub struct Permit {
    _permit: Option<OwnedSemaphorePermit>,
}

impl ConcurrencyLimit {
    /// A limit of `concurrent` tasks; 0 counts as 1.
    #[must_use]
    pub fn new(concurrent: usize) -> Self {
        Self { permits: Permits::new(concurrent.max(1)) }
    }

    /// Changes the limit. Tasks that work already go on.
    pub fn resize(&self, concurrent: usize, tasks: &Shutdown) {
        self.permits.resize(concurrent.max(1), tasks);
    }

    /// Waits for a permit, at most for [`TIMEOUT`].
    pub async fn acquire(&self) -> Permit {
        if let Ok(permit) = Arc::clone(self.permits.semaphore()).try_acquire_owned() {
            return Permit { _permit: Some(permit) };
        }
        let acquiring = Arc::clone(self.permits.semaphore()).acquire_owned();
        let waited = tokio::time::timeout(TIMEOUT, acquiring).await;
        Permit { _permit: waited.ok().and_then(Result::ok) }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_dropped_permit_is_granted_again_and_a_wait_ends_without_one() {
        let limit = ConcurrencyLimit::new(2);
        let (first, _second) = (limit.acquire().await, limit.acquire().await);
        assert!(limit.acquire().now_or_never().is_none());
        drop(first);
        let third = limit.acquire().now_or_never().unwrap();
        assert!(third._permit.is_some());
        let begun = tokio::time::Instant::now();
        assert!(limit.acquire().await._permit.is_none(), "two tasks hang");
        assert_eq!(begun.elapsed(), TIMEOUT);
    }
}
