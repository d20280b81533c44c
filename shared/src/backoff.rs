//! Delays between attempts: doubling, capped, and jittered, so that many callers do not retry at the same moment.

use std::time::Duration;

use rand::RngExt as _;

/// A sequence of delays. Pure except for the random numbers.
#[derive(Debug, Clone)]
pub struct Backoff {
    first: Duration,
    most: Duration,
    next: Duration,
}

impl Backoff {
    /// Delays that start at about `first` and never exceed `most`.
    #[must_use]
    pub fn new(first: Duration, most: Duration) -> Self {
        Self { first, most, next: first }
    }

    /// Delays for a store or broker that is unavailable: from 50 ms to 2 s.
    #[must_use]
    pub fn dependency() -> Self {
        Self::new(Duration::from_millis(50), Duration::from_secs(2))
    }

    /// The next delay: between half of the current step and the full step ("equal jitter", M. Brooker, "Exponential Backoff
    /// And Jitter", 2015).
    pub fn next_delay(&mut self) -> Duration {
        let step = self.next;
        self.next = (step * 2).min(self.most);
        step.mul_f64(rand::rng().random_range(0.5..=1.0))
    }

    /// Starts again at the first delay: call it after a success.
    pub fn reset(&mut self) {
        self.next = self.first;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_the_cap_and_restart_after_a_reset() {
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
