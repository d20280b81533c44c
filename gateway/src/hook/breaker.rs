//! The circuit breaker: whether the endpoint is called at all.
//!
//! | state | a call | goes over to |
//! |---|---|---|
//! | closed | is allowed | open, after enough failures one after the other, or a large share of failures |
//! | open | is not allowed, until a time has passed; then one, the probe, is allowed | half-open |
//! | half-open | is not allowed while the probe is in progress | closed if the probe succeeds, open if it fails |
//!
//! The end of a call that began in an earlier state changes nothing: of many calls that fail together, the first ones open it, and
//! the others do not open it again. A probe that never ends is followed by another one.

use std::time::Duration;

use tokio::time::Instant;

/// The calls that a share is computed of.
const HISTORY: u32 = 64;
/// A share of fewer calls says nothing.
const SHARE_CALLS_MIN: u32 = 20;

/// When the breaker opens, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BreakerPolicy {
    /// Failures one after the other.
    pub(crate) failures: u32,
    /// The share of failures of the last 64 calls.
    pub(crate) percent: u32,
    /// The time until the probe.
    pub(crate) open_for: Duration,
}

/// A call that was allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Call {
    /// The state in which it began.
    period: u64,
}

/// What the end of a call changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    /// The endpoint is not called any more.
    Opened,
    /// The probe failed.
    StaysOpen,
    /// The endpoint is called again.
    Closed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Closed,
    Open { until: Instant },
    HalfOpen { until: Instant },
}

/// The state machine. It knows no clock: callers say what time it is.
#[derive(Debug)]
pub(crate) struct Breaker {
    state: State,
    /// Counts the changes of the state.
    period: u64,
    failures_in_a_row: u32,
    /// One bit for each of the last calls of this period, the newest one lowest; 1 is a failure.
    history: u64,
    /// The calls in `history`.
    calls: u32,
}

impl Breaker {
    /// Closed, without a history.
    #[must_use]
    pub(crate) fn new() -> Self {
        Self { state: State::Closed, period: 0, failures_in_a_row: 0, history: 0, calls: 0 }
    }

    /// Whether the endpoint is not called, but for probes.
    #[must_use]
    pub(crate) fn is_open(&self) -> bool {
        self.state != State::Closed
    }

    /// Whether [`begin`](Self::begin) would allow no call now.
    #[must_use]
    pub(crate) fn blocks(&self, now: Instant) -> bool {
        match self.state {
            State::Closed => false,
            State::Open { until } | State::HalfOpen { until } => now < until,
        }
    }

    /// Allows a call, or not.
    pub(crate) fn begin(&mut self, policy: BreakerPolicy, now: Instant) -> Option<Call> {
        if self.blocks(now) {
            return None;
        }
        if self.is_open() {
            self.go(State::HalfOpen { until: now + policy.open_for });
        }
        Some(Call { period: self.period })
    }

    /// A call has ended.
    pub(crate) fn end(
        &mut self,
        policy: BreakerPolicy,
        call: Call,
        is_failure: bool,
        now: Instant,
    ) -> Option<Change> {
        if call.period != self.period {
            return None;
        }
        let open = State::Open { until: now + policy.open_for };
        match self.state {
            State::Closed => {
                self.record(is_failure);
                if !self.is_too_much(policy) {
                    return None;
                }
                self.go(open);
                Some(Change::Opened)
            }
            State::HalfOpen { .. } if is_failure => {
                self.go(open);
                Some(Change::StaysOpen)
            }
            State::HalfOpen { .. } => {
                self.go(State::Closed);
                Some(Change::Closed)
            }
            // No call begins in this state.
            State::Open { .. } => None,
        }
    }

    fn record(&mut self, is_failure: bool) {
        self.history = self.history << 1 | u64::from(is_failure);
        self.calls = (self.calls + 1).min(HISTORY);
        self.failures_in_a_row = if is_failure { self.failures_in_a_row.saturating_add(1) } else { 0 };
    }

    fn is_too_much(&self, policy: BreakerPolicy) -> bool {
        let is_share =
            self.calls >= SHARE_CALLS_MIN && self.history.count_ones() * 100 >= self.calls * policy.percent;
        self.failures_in_a_row >= policy.failures || is_share
    }

    fn go(&mut self, state: State) {
        let period = self.period + 1;
        *self = Self { state, period, ..Self::new() };
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const POLICY: BreakerPolicy =
        BreakerPolicy { failures: 3, percent: 50, open_for: Duration::from_secs(5) };

    fn run(breaker: &mut Breaker, now: Instant, is_failure: bool) -> Option<Change> {
        let call = breaker.begin(POLICY, now).unwrap();
        breaker.end(POLICY, call, is_failure, now)
    }

    #[test]
    fn failures_one_after_the_other_open_it_and_a_probe_closes_it() {
        let (mut breaker, start) = (Breaker::new(), Instant::now());
        for is_failure in [true, true, false, true, true] {
            assert_eq!(run(&mut breaker, start, is_failure), None);
        }
        assert_eq!(run(&mut breaker, start, true), Some(Change::Opened));
        let before = start + POLICY.open_for - Duration::from_millis(1);
        assert!(breaker.is_open() && breaker.blocks(before) && breaker.begin(POLICY, before).is_none());

        let second = start + POLICY.open_for;
        let probe = breaker.begin(POLICY, second).unwrap();
        assert!(breaker.begin(POLICY, second).is_none(), "one probe at a time");
        assert_eq!(breaker.end(POLICY, probe, true, second), Some(Change::StaysOpen));
        assert!(breaker.blocks(second + POLICY.open_for - Duration::from_millis(1)));

        let third = second + POLICY.open_for;
        let probe = breaker.begin(POLICY, third).unwrap();
        assert_eq!(breaker.end(POLICY, probe, false, third), Some(Change::Closed));
        assert!(!breaker.is_open());
        assert_eq!(run(&mut breaker, third, true), None, "failures of before do not count");
    }

    #[test]
    fn a_share_of_failures_opens_it_from_20_calls_on() {
        let mut breaker = Breaker::new();
        let now = Instant::now();
        for n in 0..19 {
            assert_eq!(run(&mut breaker, now, n % 2 == 0), None, "{n}");
        }
        assert_eq!(run(&mut breaker, now, false), Some(Change::Opened), "10 of 20");

        let mut breaker = Breaker::new();
        for n in 0..1_000 {
            assert_eq!(run(&mut breaker, now, n % 3 == 0), None, "{n}: a third");
        }
        // Old calls do not count: 64 are remembered.
        let opened = (0..64).find(|n| run(&mut breaker, now, n % 3 != 0).is_some());
        assert!(opened.is_some_and(|after| after > 15), "{opened:?}");
    }

    #[test]
    fn calls_of_an_earlier_state_change_nothing() {
        let (mut breaker, now) = (Breaker::new(), Instant::now());
        let calls: Vec<Call> = (0..10).map(|_| breaker.begin(POLICY, now).unwrap()).collect();
        let changes: Vec<_> = calls.iter().filter_map(|call| breaker.end(POLICY, *call, true, now)).collect();
        assert_eq!(changes, [Change::Opened]);
        let probe = breaker.begin(POLICY, now + POLICY.open_for).unwrap();
        assert_eq!(breaker.end(POLICY, calls[9], false, now + POLICY.open_for), None, "not the probe");
        assert!(breaker.is_open());
        assert_eq!(breaker.end(POLICY, probe, false, now + POLICY.open_for), Some(Change::Closed));
        assert_eq!(breaker.end(POLICY, calls[0], true, now + POLICY.open_for), None);
    }

    #[test]
    fn a_probe_that_never_ends_is_followed_by_another_one() {
        let (mut breaker, start) = (Breaker::new(), Instant::now());
        for _ in 0..3 {
            let _ = run(&mut breaker, start, true);
        }
        let lost = breaker.begin(POLICY, start + POLICY.open_for).unwrap();
        assert!(breaker.begin(POLICY, start + POLICY.open_for * 2 - Duration::from_millis(1)).is_none());
        let next = breaker.begin(POLICY, start + POLICY.open_for * 2).unwrap();
        assert_eq!(breaker.end(POLICY, lost, false, start + POLICY.open_for * 2), None);
        assert_eq!(breaker.end(POLICY, next, false, start + POLICY.open_for * 2), Some(Change::Closed));
    }

    proptest! {
        /// Any order of begins and ends, with any results: an open breaker allows one call per `open_for`, a closed one allows
        /// all, and it is open only after failures.
        #[test]
        fn an_open_breaker_allows_one_call_at_a_time(
            steps in prop::collection::vec((0_u64..3_000, any::<bool>(), any::<prop::sample::Index>()), 1..200),
        ) {
            let (mut breaker, mut now) = (Breaker::new(), Instant::now());
            let (mut running, mut last_probe): (Vec<Call>, Option<Instant>) = (Vec::new(), None);
            for (pause_ms, is_failure, which) in steps {
                now += Duration::from_millis(pause_ms);
                let was_open = breaker.is_open();
                match breaker.begin(POLICY, now) {
                    Some(call) => {
                        if was_open {
                            prop_assert!(last_probe.is_none_or(|last| now >= last + POLICY.open_for));
                            last_probe = Some(now);
                        }
                        running.push(call);
                    }
                    None => prop_assert!(was_open),
                }
                if !running.is_empty() && which.index(2) == 0 {
                    let call = running.swap_remove(which.index(running.len()));
                    let was_open = breaker.is_open();
                    match breaker.end(POLICY, call, is_failure, now) {
                        Some(Change::Opened) => prop_assert!(is_failure || !was_open),
                        Some(Change::StaysOpen) => prop_assert!(is_failure && was_open),
                        Some(Change::Closed) => {
                            prop_assert!(!is_failure && was_open);
                            last_probe = None;
                        }
                        None => prop_assert_eq!(breaker.is_open(), was_open),
                    }
                }
            }
        }

        #[test]
        fn without_failures_it_never_opens(calls in 1_usize..500) {
            let mut breaker = Breaker::new();
            for _ in 0..calls {
                prop_assert_eq!(run(&mut breaker, Instant::now(), false), None);
            }
        }
    }
}
