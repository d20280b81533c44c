//! Rate limits per user or address.

use std::hash::Hash;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use governor::clock::{Clock as _, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};

/// Number of keys from which on keys with a full bucket are removed.
const KEYS_MAX: usize = 100_000;

/// One token bucket per key: per user, or per address.
#[derive(Debug)]
pub(crate) struct Rates<K: Hash + Eq + Clone> {
    limiter: DefaultKeyedRateLimiter<K>,
    clock: DefaultClock,
    /// The number of keys that starts the next removal of full buckets.
    cleanup_at: AtomicUsize,
}

impl<K: Hash + Eq + Clone> Rates<K> {
    /// A limit of `per_second` with `burst` at once; `None` if `per_second` is 0: no limit.
    #[must_use]
    pub(crate) fn new(per_second: u32, burst: u32) -> Option<Self> {
        let per_second = NonZeroU32::new(per_second)?;
        let burst = NonZeroU32::new(burst).unwrap_or(per_second);
        Some(Self::with_quota(Quota::per_second(per_second).allow_burst(burst)))
    }

    /// A limit of `times` per minute, all of them at once after a pause; `None` if `times` is 0: no limit.
    #[must_use]
    pub(crate) fn per_minute(times: u32) -> Option<Self> {
        let times = NonZeroU32::new(times)?;
        Self::every(Duration::from_secs(60) / times.get(), times)
    }

    /// A limit of `burst` at once, then one every `period`.
    #[must_use]
    fn every(period: Duration, burst: NonZeroU32) -> Option<Self> {
        Some(Self::with_quota(Quota::with_period(period)?.allow_burst(burst)))
    }

    fn with_quota(quota: Quota) -> Self {
        Self {
            limiter: RateLimiter::keyed(quota),
            clock: DefaultClock::default(),
            cleanup_at: AtomicUsize::new(KEYS_MAX),
        }
    }

    /// Takes one token of `key`'s bucket.
    ///
    /// # Errors
    /// The milliseconds until the next token, at least 1.
    pub(crate) fn take(&self, key: &K) -> Result<(), u64> {
        if self.limiter.len() > self.cleanup_at.load(Ordering::Relaxed) {
            self.limiter.retain_recent();
            // If most buckets are in use, an immediate second pass would remove nothing either.
            self.cleanup_at.store(KEYS_MAX.max(2 * self.limiter.len()), Ordering::Relaxed);
        }
        self.limiter.check_key(key).map_err(|until| {
            let wait = until.wait_time_from(self.clock.now());
            u64::try_from(wait.as_millis()).unwrap_or(u64::MAX).saturating_add(1)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_and_then_each_key_waits_on_its_own() {
        let rates = Rates::new(10, 3).unwrap();
        for _ in 0..3 {
            assert_eq!(rates.take(&"alice"), Ok(()));
        }
        let wait = rates.take(&"alice").unwrap_err();
        assert!((1..=101).contains(&wait), "{wait} ms for one of ten a second");
        assert_eq!(rates.take(&"bob"), Ok(()));
        assert!(Rates::<&str>::new(0, 3).is_none());
    }

    #[test]
    fn a_period_may_be_longer_than_a_second() {
        let rates = Rates::per_minute(2).unwrap();
        assert_eq!([rates.take(&1), rates.take(&1)], [Ok(()), Ok(())]);
        assert!((29_000..=30_001).contains(&rates.take(&1).unwrap_err()));
        assert!(Rates::<u8>::per_minute(0).is_none());
    }
}
