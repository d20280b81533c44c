//! Delays between attempts.

use std::time::Duration;

const FIRST: Duration = Duration::from_millis(500);
const LONGEST: Duration = Duration::from_secs(30);
/// Beyond this many doublings the longest delay is reached.
const DOUBLINGS_MAX: u32 = 10;

/// Delays that grow with each attempt, with a random part, so that clients do not act at the same moment.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    attempts: u32,
}

impl Backoff {
    /// The next delay: between half of and the whole of 500 ms, 1 s, 2 s … 30 s.
    pub(crate) fn next(&mut self) -> Duration {
        let whole = FIRST.saturating_mul(1 << self.attempts.min(DOUBLINGS_MAX)).min(LONGEST);
        self.attempts = self.attempts.saturating_add(1);
        whole.mul_f64(rand::random_range(0.5..=1.0))
    }

    /// The delay that the server asks for, or else the next one.
    pub(crate) fn after(&mut self, retry_after: Option<Duration>) -> Duration {
        retry_after.map_or_else(|| self.next(), obey)
    }

    /// After a success.
    pub(crate) fn reset(&mut self) {
        self.attempts = 0;
    }
}

/// A delay that the server asks for, with up to a tenth and 100 ms more.
pub(crate) fn obey(retry_after: Duration) -> Duration {
    let extra = retry_after / 10 + Duration::from_millis(100);
    retry_after + extra.mul_f64(rand::random_range(0.0..=1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_grow_to_half_a_minute_and_begin_anew_after_a_success() {
        let mut backoff = Backoff::default();
        for whole in [500, 1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000] {
            let (delay, whole) = (backoff.next(), Duration::from_millis(whole));
            assert!((whole / 2..=whole).contains(&delay), "{delay:?} of {whole:?}");
        }
        (0..100).for_each(|_| assert!(backoff.next() <= LONGEST));
        backoff.reset();
        assert!(backoff.next() <= FIRST);
    }

    #[test]
    fn a_delay_of_the_server_is_never_cut() {
        let asked = Duration::from_secs(2);
        for _ in 0..1_000 {
            assert!((asked..=Duration::from_millis(2_300)).contains(&obey(asked)));
        }
    }
}
