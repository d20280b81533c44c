//! Delays between attempts: doubling, capped, jittered so that many waiters do not come back together.

use std::time::Duration;

use rand::RngExt as _;

/// A sequence of delays. Pure but for the random numbers.
#[derive(Debug, Clone)]
pub struct Backoff {
    first: Duration,
    most: Duration,
    next: Duration,
}

impl Backoff {
    /// Delays that begin around `first` and never exceed `most`.
    #[must_use]
    pub fn new(first: Duration, most: Duration) -> Self {
        Self { first, most, next: first }
    }

    /// For a store or broker that went away: from 50 ms to 2 s.
    #[must_use]
    pub fn dependency() -> Self {
        Self::new(Duration::from_millis(50), Duration::from_secs(2))
    }

    /// The next delay: between half of the current step and the whole of it ("equal jitter", from M. Brooker,
    /// "Exponential Backoff And Jitter", 2015).
    pub fn next_delay(&mut self) -> Duration {
        let step = self.next;
        self.next = (step * 2).min(self.most);
        step.mul_f64(rand::rng().random_range(0.5..=1.0))
    }

    /// After a success: begin again.
    pub fn reset(&mut self) {
        self.next = self.first;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_the_cap_and_start_again_after_a_success() {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_millis(300));
        for step in [100, 200, 300, 300] {
            let delay = backoff.next_delay();
            assert!(
                delay >= Duration::from_millis(step / 2) && delay <= Duration::from_millis(step),
                "{delay:?}"
            );
        }
        backoff.reset();
        assert!(backoff.next_delay() <= Duration::from_millis(100));
    }
}
