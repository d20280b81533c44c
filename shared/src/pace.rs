//! Spaces the batches of a process, so that each gathers messages where that pays.
//!
//! A batch costs all processes together as much as dozens of messages in it. At a medium rate a batch would be begun for
//! nearly every message: the cores would be busy with batches, and messages would wait for a core. So batches begin in
//! rounds, and an interval lies between two rounds. What waits for several shards begins in one round.
//!
//! The interval follows the load:
//! * It rises while batches have several messages. A wait in which no message came was in vain, and lowers it. A sender
//!   alone, who waits for each reply, has no interval.
//! * Larger batches have a longer interval, 0.1 ms for each message, up to 5 ms: batches keep their share of the processors.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// By how much a batch of several messages raises the level.
const RISE: u32 = 32;
/// By how much a wait in vain lowers it. With this relation the interval stays at zero while fewer than some 1.5 messages
/// come in one: for messages that come at random, `RISE` times the share of batches with several, 1 - (1 + x) e^-x, equals
/// `FALL` times that of waits in vain, x e^-x, at x = 1.5. Fewer would wait for little: measured, 500/s cost the same with
/// and without, and were pushed 2.7 ms later.
const FALL: u32 = 42;
/// The level of the whole interval.
const LEVEL_MAX: u32 = 256;
/// How much longer the interval is for each message of a batch.
const GROWTH: Duration = Duration::from_micros(100);
/// Larger batches are taken for this size.
const SIZE_MAX: u32 = 256;
/// The longest interval of large batches, unless that of small ones is set to more.
const INTERVAL_MAX: Duration = Duration::from_millis(5);
/// The mean size is taken over about this many batches.
const MEAN_OF: u32 = 8;
/// Units of the mean size in one message.
const MEAN_UNIT: u32 = 16;

/// The rounds of the batches of a process. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Pacer {
    pace: Arc<Mutex<Pace>>,
}

impl Pacer {
    /// Rounds with about `interval` between them; without rounds if it is zero.
    #[must_use]
    pub fn new(interval: Duration) -> Self {
        Self { pace: Arc::new(Mutex::new(Pace::new(interval))) }
    }

    /// Changes the interval.
    pub fn set_interval(&self, interval: Duration) {
        self.pace.lock().base = interval;
    }

    /// Waits for the next round. A batch that is full does not wait.
    pub async fn wait(&self, is_full: bool) -> Turn {
        let turn = self.pace.lock().take(is_full, Instant::now());
        if turn.waits {
            tokio::time::sleep_until(turn.at.into()).await;
        }
        turn
    }

    /// A batch of `messages` begins in `turn`; `gathered` of them came during the wait.
    pub fn begun(&self, turn: Turn, messages: usize, gathered: usize) {
        self.pace.lock().begun(turn, messages, gathered, Instant::now());
    }
}

/// The round in which a batch begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Turn {
    at: Instant,
    waits: bool,
}

/// The rule. Pure.
#[derive(Debug)]
struct Pace {
    base: Duration,
    /// The share of the interval that is waited for, of [`LEVEL_MAX`].
    level: u32,
    /// The mean size of batches in units of [`MEAN_UNIT`].
    mean: u32,
    /// When the next round begins.
    next: Option<Instant>,
}

impl Pace {
    fn new(base: Duration) -> Self {
        Self { base, level: 0, mean: 0, next: None }
    }

    fn interval(&self) -> Duration {
        if self.base.is_zero() {
            return self.base;
        }
        let whole = self.base + GROWTH * self.mean / MEAN_UNIT;
        whole.min(INTERVAL_MAX.max(self.base)) * self.level / LEVEL_MAX
    }

    fn take(&self, is_full: bool, now: Instant) -> Turn {
        let at = self.next.filter(|next| !is_full && *next > now);
        Turn { at: at.unwrap_or(now), waits: at.is_some() }
    }

    fn begun(&mut self, turn: Turn, messages: usize, gathered: usize, now: Instant) {
        if turn.waits && gathered == 0 {
            self.level = self.level.saturating_sub(FALL);
        } else if messages > 1 {
            self.level = (self.level + RISE).min(LEVEL_MAX);
        }
        let messages = u32::try_from(messages).unwrap_or(u32::MAX).min(SIZE_MAX);
        self.mean = (self.mean * (MEAN_OF - 1) + messages * MEAN_UNIT) / MEAN_OF;
        // The first batch of a round begins the interval.
        if self.next.is_none_or(|next| next <= now) {
            self.next = Some(now + self.interval());
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BASE: Duration = Duration::from_millis(4);

    /// Messages that arrive at `arrivals`, handled by one task whose batches take `batch`. Returns the longest and the mean
    /// wait for a round, and the number of batches.
    fn run(pace: &mut Pace, arrivals: &[Duration], batch: Duration) -> (Duration, Duration, u32) {
        let origin = Instant::now();
        let (mut now, mut next) = (origin, 0);
        let (mut longest, mut sum, mut batches) = (Duration::ZERO, Duration::ZERO, 0);
        let arrived = |now: Instant| arrivals.partition_point(|at| origin + *at <= now);
        while next < arrivals.len() {
            now = now.max(origin + arrivals[next]);
            let waiting = arrived(now) - next;
            let turn = pace.take(waiting >= 256, now);
            let wait = turn.at - now;
            (longest, sum, batches) = (longest.max(wait), sum + wait, batches + 1);
            now = turn.at;
            let messages = arrived(now) - next;
            pace.begun(turn, messages, messages - waiting, now);
            next += messages;
            now += batch;
        }
        (longest, sum / batches.max(1), batches)
    }

    fn evenly(per_second: u32, seconds: u32) -> Vec<Duration> {
        (0..per_second * seconds).map(|n| Duration::from_secs(1) * n / per_second).collect()
    }

    #[test]
    fn a_sender_who_waits_for_each_reply_never_waits_for_a_round() {
        let mut pace = Pace::new(BASE);
        let mut now = Instant::now();
        for _ in 0..1_000 {
            let turn = pace.take(false, now);
            assert!(!turn.waits);
            pace.begun(turn, 1, 0, now);
            now += Duration::from_millis(1);
        }
    }

    #[test]
    fn a_high_rate_has_few_batches_and_a_low_rate_waits_little() {
        let batch = Duration::from_millis(1);
        let (_, mean, batches) = run(&mut Pace::new(BASE), &evenly(100, 5), batch);
        assert_eq!((mean, batches), (Duration::ZERO, 500));
        let (longest, _, batches) = run(&mut Pace::new(BASE), &evenly(5_000, 5), batch);
        assert!(longest <= INTERVAL_MAX && batches < 5 * 300, "{longest:?}, {batches}");
        let (_, _, unpaced) = run(&mut Pace::new(Duration::ZERO), &evenly(5_000, 5), batch);
        assert!(unpaced > batches * 3, "{unpaced}, {batches}");
    }

    #[test]
    fn a_load_that_ends_leaves_no_interval_behind() {
        let mut pace = Pace::new(BASE);
        run(&mut pace, &evenly(5_000, 2), Duration::from_millis(1));
        assert!(pace.level > LEVEL_MAX / 2, "{}", pace.level);
        // A sender alone: each message comes a moment after the last batch. The first one waits for nothing.
        let (mut now, moment) = (Instant::now() + Duration::from_secs(10), Duration::from_micros(100));
        for _ in 0..=LEVEL_MAX / FALL {
            let turn = pace.take(false, now);
            pace.begun(turn, 1, 0, turn.at);
            now = turn.at + moment;
        }
        assert!(pace.interval() <= moment, "{:?}", pace.interval());
    }

    #[test]
    fn batches_that_wait_begin_in_one_round_and_a_full_one_at_once() {
        let mut pace = Pace::new(BASE);
        run(&mut pace, &evenly(5_000, 1), Duration::from_millis(1));
        let now = Instant::now() + Duration::from_secs(5);
        let first = pace.take(false, now);
        pace.begun(first, 4, 0, now);
        let later = now + Duration::from_micros(500);
        let (one, other) = (pace.take(false, later), pace.take(false, later + Duration::from_micros(500)));
        assert_eq!((one, one.waits), (other, true));
        assert!(!pace.take(true, later).waits);
        pace.begun(one, 4, 3, one.at);
        pace.begun(other, 4, 3, one.at + Duration::from_micros(50));
        let next = pace.take(false, one.at + Duration::from_micros(100));
        // The first batch of the round began it, not the second.
        assert!(next.waits && next.at >= one.at + BASE && next.at <= one.at + INTERVAL_MAX, "{next:?}");
    }

    proptest! {
        #[test]
        fn nobody_waits_longer_than_the_longest_interval(
            gaps in proptest::collection::vec(0u64..6_000, 1..300),
            batch in 0u64..5_000,
            base_ms in 0u64..20,
        ) {
            let mut at = 0;
            let arrivals: Vec<Duration> = gaps.iter().map(|gap| { at += gap; Duration::from_micros(at) }).collect();
            let base = Duration::from_millis(base_ms);
            let (longest, _, _) = run(&mut Pace::new(base), &arrivals, Duration::from_micros(batch));
            let longest_interval = if base_ms == 0 { base } else { INTERVAL_MAX.max(base) };
            prop_assert!(longest <= longest_interval, "{longest:?}");
        }
    }
}
