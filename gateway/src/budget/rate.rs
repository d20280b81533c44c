//! A budget by cost: it is spent after the work, when its cost is known, and may be overdrawn; then it has to recover
//! before more work is begun.

use std::time::Duration;

use tokio::time::Instant;

/// How fast a budget recovers.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CostRate {
    /// The time in which one unit is regained.
    unit: Duration,
    /// The time in which an empty budget is regained.
    burst: Duration,
}

impl CostRate {
    /// `per_second` units are regained each second, up to `burst`. `None` if `per_second` is 0: no limit.
    #[must_use]
    pub(crate) fn new(per_second: u32, burst: u32) -> Option<Self> {
        let unit = Duration::from_secs(1).checked_div(per_second)?;
        Some(Self { unit, burst: unit * burst.max(1) })
    }
}

/// What a user has spent.
#[derive(Debug, Clone, Copy)]
pub(super) struct Spent {
    /// When everything that was spent is regained.
    regained_at: Instant,
}

impl Spent {
    /// Nothing is spent.
    pub(super) fn nothing(now: Instant) -> Self {
        Self { regained_at: now }
    }

    /// The time until the budget is not overdrawn.
    pub(super) fn wait(&self, rate: CostRate, now: Instant) -> Duration {
        self.regained_at.saturating_duration_since(now).saturating_sub(rate.burst)
    }

    /// Spends `units`.
    pub(super) fn spend(&mut self, rate: CostRate, units: u32, now: Instant) {
        self.regained_at = self.regained_at.max(now) + rate.unit * units;
    }

    /// Whether everything is regained.
    pub(super) fn is_nothing(&self, now: Instant) -> bool {
        self.regained_at <= now
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_overdrawn_budget_recovers_before_it_is_spent_again() {
        let (rate, start) = (CostRate::new(100, 50).unwrap(), Instant::now());
        let at = |ms| start + Duration::from_millis(ms);
        let mut spent = Spent::nothing(start);
        spent.spend(rate, 50, start);
        assert_eq!(spent.wait(rate, start), Duration::ZERO, "all of it");
        spent.spend(rate, 20, start);
        assert_eq!(spent.wait(rate, start), Duration::from_millis(200), "20 too many");
        assert_eq!(spent.wait(rate, at(200)), Duration::ZERO);
        assert!(!spent.is_nothing(at(699)) && spent.is_nothing(at(700)));
        assert!(CostRate::new(0, 1).is_none());
    }

    proptest! {
        #[test]
        fn over_any_time_no_more_than_the_burst_the_rate_and_the_last_work_are_spent(
            work in proptest::collection::vec((0..2_000_u64, 1..500_u32), 1..50),
        ) {
            let (rate, start) = (CostRate::new(1_000, 200).unwrap(), Instant::now());
            let (mut now, mut spent, mut units) = (start, Spent::nothing(start), 0);
            for (pause_ms, cost) in work {
                now += Duration::from_millis(pause_ms);
                now += spent.wait(rate, now);
                let regained = 200.0 + now.duration_since(start).as_secs_f64() * 1_000.0;
                prop_assert!(f64::from(units) <= regained + 0.001, "{units} of {regained}");
                spent.spend(rate, cost, now);
                units += cost;
            }
        }
    }
}
