//! For how long the cache may be relied on.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

/// For how long after a reading of the list of changes the cache is relied on.
pub(super) const FRESH_FOR: Duration = Duration::from_secs(5);

/// Whether lost events would have been noticed.
#[derive(Debug)]
pub(super) struct Freshness {
    start: Instant,
    /// Milliseconds after `start` until which the last reading counts; 0 if there is none.
    fresh_until_ms: AtomicU64,
    /// Events were lost since the last reading began.
    is_invalid: AtomicBool,
    /// The last reading failed.
    is_database_away: AtomicBool,
    invalidated: Notify,
}

impl Freshness {
    /// Nothing was read yet.
    pub(super) fn new(start: Instant) -> Self {
        Self {
            start,
            fresh_until_ms: AtomicU64::new(0),
            is_invalid: AtomicBool::new(false),
            is_database_away: AtomicBool::new(false),
            invalidated: Notify::new(),
        }
    }

    /// Whether the list was read lately, and no events were lost since.
    pub(super) fn is_fresh(&self, now: Instant) -> bool {
        !self.is_invalid.load(Ordering::Acquire)
            && self.elapsed_ms(now) < self.fresh_until_ms.load(Ordering::Relaxed)
    }

    /// Whether the last reading failed, so that there is no database to ask.
    pub(super) fn is_database_away(&self) -> bool {
        self.is_database_away.load(Ordering::Relaxed)
    }

    /// Events were lost: nothing is fresh until a reading that begins from now on has ended.
    pub(super) fn invalidate(&self) {
        self.is_invalid.store(true, Ordering::Relaxed);
        self.invalidated.notify_one();
    }

    /// Resolves after [`invalidate`](Self::invalidate).
    pub(super) async fn invalidated(&self) {
        self.invalidated.notified().await;
    }

    /// A reading begins.
    pub(super) fn begin(&self) {
        if self.is_invalid.load(Ordering::Relaxed) {
            // In this order: in between, the cache is not fresh either.
            self.fresh_until_ms.store(0, Ordering::Relaxed);
            self.is_invalid.store(false, Ordering::Release);
        }
    }

    /// The reading ended.
    pub(super) fn succeed(&self, now: Instant) {
        self.is_database_away.store(false, Ordering::Relaxed);
        self.fresh_until_ms.store(self.elapsed_ms(now + FRESH_FOR), Ordering::Relaxed);
    }

    /// The reading failed.
    pub(super) fn fail(&self) {
        self.is_database_away.store(true, Ordering::Relaxed);
    }

    fn elapsed_ms(&self, now: Instant) -> u64 {
        u64::try_from(now.duration_since(self.start).as_millis()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cache_is_fresh_for_a_while_after_a_reading() {
        let now = Instant::now();
        let freshness = Freshness::new(now);
        assert!(!freshness.is_fresh(now));
        freshness.begin();
        freshness.succeed(now);
        assert!(freshness.is_fresh(now));
        assert!(!freshness.is_fresh(now + FRESH_FOR));
    }

    #[test]
    fn after_a_loss_of_events_only_a_later_reading_counts() {
        let now = Instant::now();
        let freshness = Freshness::new(now);
        freshness.begin();
        freshness.invalidate();
        freshness.succeed(now);
        assert!(!freshness.is_fresh(now), "the reading began before");
        freshness.begin();
        assert!(!freshness.is_fresh(now), "the reading has not ended");
        freshness.succeed(now);
        assert!(freshness.is_fresh(now));
    }
}
