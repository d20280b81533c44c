//! Rate limits per user or address.

use std::hash::Hash;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ahash::{AHashMap, RandomState};
use parking_lot::Mutex;
use tokio::time::Instant;

/// Parts of the table, each with a lock of its own. A power of two.
const PARTS: usize = 16;
/// Number of keys of a part from which on keys with a full bucket are removed.
const PART_KEYS_MAX: usize = 100_000 / PARTS;

/// One token bucket per key: per user, or per address. Its rate can change at any time; the buckets keep what they have.
///
/// A bucket is one moment: when it is full again. Taking a token moves it by the time for one token, and is refused if it would
/// be further ahead than an empty bucket takes to fill (the generic cell rate algorithm).
#[derive(Debug)]
pub(crate) struct Rates<K> {
    /// The time for one token, in nanoseconds; 0: no limit.
    token_ns: AtomicU64,
    /// The time in which an empty bucket fills, in nanoseconds.
    full_ns: AtomicU64,
    start: Instant,
    hasher: RandomState,
    parts: [Mutex<Buckets<K>>; PARTS],
}

#[derive(Debug)]
struct Buckets<K> {
    /// When each bucket is full, in nanoseconds since the start.
    full_at: AHashMap<K, u64>,
    /// The number of keys that starts the next removal of full buckets.
    cleanup_at: usize,
}

/// How many tokens a bucket gets, and how many it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rate {
    token_ns: u64,
    full_ns: u64,
}

impl Rate {
    /// `per_second` with `burst` at once; no limit if `per_second` is 0. A `burst` of 0 counts as `per_second`.
    #[must_use]
    pub(crate) fn per_second(per_second: u32, burst: u32) -> Self {
        Self::new(Duration::from_secs(1), per_second, if burst == 0 { per_second } else { burst })
    }

    /// `times` per minute, all of them at once after a pause; no limit if `times` is 0.
    #[must_use]
    pub(crate) fn per_minute(times: u32) -> Self {
        Self::new(Duration::from_secs(60), times, times)
    }

    fn new(period: Duration, times: u32, burst: u32) -> Self {
        let token = period.checked_div(times).unwrap_or_default();
        let ns = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        Self { token_ns: ns(token), full_ns: ns(token.saturating_mul(burst)) }
    }
}

impl<K: Hash + Eq + Clone> Rates<K> {
    /// Full buckets.
    #[must_use]
    pub(crate) fn new(rate: Rate) -> Self {
        let buckets = |_| Mutex::new(Buckets { full_at: AHashMap::new(), cleanup_at: PART_KEYS_MAX });
        Self {
            token_ns: AtomicU64::new(rate.token_ns),
            full_ns: AtomicU64::new(rate.full_ns),
            start: Instant::now(),
            hasher: RandomState::new(),
            parts: std::array::from_fn(buckets),
        }
    }

    /// Changes the rate.
    pub(crate) fn set(&self, rate: Rate) {
        self.token_ns.store(rate.token_ns, Ordering::Relaxed);
        self.full_ns.store(rate.full_ns, Ordering::Relaxed);
    }

    /// Takes one token of `key`'s bucket.
    ///
    /// # Errors
    /// The milliseconds until the next token, at least 1.
    pub(crate) fn take(&self, key: &K) -> Result<(), u64> {
        let token_ns = self.token_ns.load(Ordering::Relaxed);
        if token_ns == 0 {
            return Ok(());
        }
        let now = u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let latest = now.saturating_add(self.full_ns.load(Ordering::Relaxed));
        let part = usize::try_from(self.hasher.hash_one(key)).unwrap_or_default() & (PARTS - 1);
        self.parts[part].lock().take(key, token_ns, now, latest)
    }
}

impl<K: Hash + Eq + Clone> Buckets<K> {
    fn take(&mut self, key: &K, token_ns: u64, now: u64, latest: u64) -> Result<(), u64> {
        let full_at = self.full_at.get_mut(key);
        let next = full_at.as_ref().map_or(now, |full_at| now.max(**full_at)).saturating_add(token_ns);
        if next > latest {
            return Err(Duration::from_nanos(next - latest)
                .as_millis()
                .try_into()
                .unwrap_or(u64::MAX)
                .saturating_add(1));
        }
        match full_at {
            Some(full_at) => *full_at = next,
            None => self.insert(key, next, now),
        }
        Ok(())
    }

    fn insert(&mut self, key: &K, full_at: u64, now: u64) {
        if self.full_at.len() >= self.cleanup_at {
            self.full_at.retain(|_, full_at| *full_at > now);
            // If most buckets are in use, an immediate second pass would remove nothing either.
            self.cleanup_at = PART_KEYS_MAX.max(2 * self.full_at.len());
        }
        self.full_at.insert(key.clone(), full_at);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_burst_passes_and_then_each_key_waits_on_its_own() {
        let rates = Rates::new(Rate::per_second(10, 3));
        for _ in 0..3 {
            assert_eq!(rates.take(&"alice"), Ok(()));
        }
        assert_eq!(rates.take(&"alice"), Err(101), "one of ten a second");
        assert_eq!(rates.take(&"bob"), Ok(()));
        tokio::time::advance(Duration::from_millis(101)).await;
        assert_eq!(rates.take(&"alice"), Ok(()));
        assert!(rates.take(&"alice").is_err());
        let unlimited = Rates::new(Rate::per_second(0, 3));
        assert!((0..10).all(|_| unlimited.take(&"alice").is_ok()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_period_may_be_longer_than_a_second() {
        let rates = Rates::new(Rate::per_minute(2));
        assert_eq!([rates.take(&1), rates.take(&1)], [Ok(()), Ok(())]);
        assert_eq!(rates.take(&1), Err(30_001));
        assert_eq!(Rate::per_minute(0), Rate::per_second(0, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn another_rate_applies_at_once_and_buckets_are_kept() {
        let rates = Rates::new(Rate::per_second(1, 2));
        assert_eq!([rates.take(&1), rates.take(&1)], [Ok(()), Ok(())]);
        rates.set(Rate::per_second(1, 3));
        assert_eq!(rates.take(&1), Ok(()));
        assert_eq!(rates.take(&1), Err(1_001), "a change of the rate fills no bucket");
        rates.set(Rate::per_second(0, 0));
        assert!((0..100).all(|_| rates.take(&1).is_ok()));
    }

    #[tokio::test(start_paused = true)]
    async fn full_buckets_are_removed_and_others_are_kept() {
        let rates = Rates::new(Rate::per_second(1, 1));
        let kept = || rates.parts.iter().map(|part| part.lock().full_at.len()).sum::<usize>();
        for key in 0..PARTS * PART_KEYS_MAX {
            rates.take(&key).unwrap();
        }
        tokio::time::advance(Duration::from_secs(2)).await;
        for key in 0..PARTS * PART_KEYS_MAX {
            rates.take(&(key + 1_000_000)).unwrap();
        }
        assert!(kept() < PARTS * PART_KEYS_MAX * 3 / 2, "{}", kept());
        assert!(rates.take(&1_000_000).is_err());
    }

    proptest! {
        #[test]
        fn over_any_time_no_more_than_the_burst_and_the_rate_pass(
            pauses in proptest::collection::vec(0..200_000_000_u64, 1..200),
        ) {
            let Rate { token_ns, full_ns } = Rate::per_second(10, 5);
            let mut buckets = Buckets { full_at: AHashMap::new(), cleanup_at: PART_KEYS_MAX };
            let (mut now, mut taken) = (0, 0);
            for pause in pauses {
                now += pause;
                taken += u64::from(buckets.take(&"a", token_ns, now, now + full_ns).is_ok());
                prop_assert!(taken * token_ns <= full_ns + now, "{taken} after {now} ns");
            }
        }
    }
}
