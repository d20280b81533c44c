//! The delay that a refused client is told to wait. Every delay is random within a range, so that clients that were
//! refused at the same moment do not return at the same moment.

use std::ops::RangeInclusive;

/// The reason for a delay, which decides its range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RetryDelay {
    /// A queue or a limit of this gateway is full: it has room again soon.
    Overloaded,
    /// A store does not answer.
    StoreUnavailable,
    /// Many clients log in at the same time.
    LoginRush,
    /// The connection is closed: the client reconnects, to this gateway or another one.
    Reconnect,
}

impl RetryDelay {
    const fn range_ms(self) -> RangeInclusive<u64> {
        match self {
            Self::Overloaded => 200..=1_000,
            Self::StoreUnavailable => 500..=2_000,
            Self::LoginRush => 1_000..=5_000,
            Self::Reconnect => 200..=3_000,
        }
    }

    /// A random delay, in milliseconds.
    pub(crate) fn random_ms(self) -> u64 {
        rand::random_range(self.range_ms())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_that_are_refused_together_do_not_return_together() {
        for delay in [
            RetryDelay::Overloaded,
            RetryDelay::StoreUnavailable,
            RetryDelay::LoginRush,
            RetryDelay::Reconnect,
        ] {
            let range = delay.range_ms();
            let delays: Vec<u64> = (0..100).map(|_| delay.random_ms()).collect();
            assert!(delays.iter().all(|ms| range.contains(ms)), "{delay:?}");
            let spread = delays.iter().max().unwrap() - delays.iter().min().unwrap();
            assert!(spread > (range.end() - range.start()) / 2, "{delay:?}: {spread}");
        }
    }
}
