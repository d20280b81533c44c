//! How often someone may do something.

use std::hash::Hash;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use governor::clock::{Clock as _, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};

/// Keys remembered before those with a full allowance are forgotten.
const KEYS_MAX: usize = 100_000;

/// One token bucket per key: per user, or per address.
#[derive(Debug)]
pub struct Rates<K: Hash + Eq + Clone> {
    limiter: DefaultKeyedRateLimiter<K>,
    clock: DefaultClock,
    /// With so many keys it is worth looking for those that can be forgotten.
    tidy_at: AtomicUsize,
}

impl<K: Hash + Eq + Clone> Rates<K> {
    /// `None` if `per_second` is 0: no limit.
    #[must_use]
    pub fn new(per_second: u32, burst: u32) -> Option<Self> {
        let per_second = NonZeroU32::new(per_second)?;
        let burst = NonZeroU32::new(burst).unwrap_or(per_second);
        Some(Self::of(Quota::per_second(per_second).allow_burst(burst)))
    }

    /// `burst` at once, then one every `period`.
    #[must_use]
    pub fn every(period: Duration, burst: NonZeroU32) -> Option<Self> {
        Some(Self::of(Quota::with_period(period)?.allow_burst(burst)))
    }

    fn of(quota: Quota) -> Self {
        Self {
            limiter: RateLimiter::keyed(quota),
            clock: DefaultClock::default(),
            tidy_at: AtomicUsize::new(KEYS_MAX),
        }
    }

    /// Takes one token, or says after how many milliseconds there will be one.
    ///
    /// # Errors
    /// The milliseconds, at least 1.
    pub fn take(&self, key: &K) -> Result<(), u64> {
        if self.limiter.len() > self.tidy_at.load(Ordering::Relaxed) {
            self.limiter.retain_recent();
            // Where most are recent, looking at all of them again at once would find nothing to forget either.
            self.tidy_at.store(KEYS_MAX.max(2 * self.limiter.len()), Ordering::Relaxed);
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
    fn a_burst_passes_and_then_the_wait_is_named_per_key() {
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
    fn slower_than_one_a_second() {
        let rates = Rates::every(Duration::from_secs(6), NonZeroU32::MIN).unwrap();
        assert_eq!(rates.take(&1), Ok(()));
        assert!((5_000..=6_001).contains(&rates.take(&1).unwrap_err()));
    }
}
