//! How fast one user may send.

use std::num::NonZeroU32;

use governor::clock::{Clock as _, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use shared::ids::UserId;

/// Users remembered before those with a full allowance are forgotten.
const USERS_MAX: usize = 100_000;

/// One token bucket per user, over all of the user's connections to this gateway.
#[derive(Debug)]
pub(super) struct UserRates {
    limiter: DefaultKeyedRateLimiter<UserId>,
    clock: DefaultClock,
}

impl UserRates {
    /// `None` if `per_second` is 0: no limit.
    pub(super) fn new(per_second: u32, burst: u32) -> Option<Self> {
        let per_second = NonZeroU32::new(per_second)?;
        let burst = NonZeroU32::new(burst).unwrap_or(per_second);
        let limiter = RateLimiter::keyed(Quota::per_second(per_second).allow_burst(burst));
        Some(Self { limiter, clock: DefaultClock::default() })
    }

    /// Takes one token, or says after how many milliseconds there will be one.
    pub(super) fn take(&self, user: &UserId) -> Result<(), u64> {
        if self.limiter.len() > USERS_MAX {
            self.limiter.retain_recent();
        }
        self.limiter.check_key(user).map_err(|until| {
            let wait = until.wait_time_from(self.clock.now());
            u64::try_from(wait.as_millis()).unwrap_or(u64::MAX).saturating_add(1)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_and_then_the_wait_is_named_per_user() {
        let rates = UserRates::new(10, 3).unwrap();
        let (alice, bob) = (UserId::parse("alice").unwrap(), UserId::parse("bob").unwrap());
        for _ in 0..3 {
            assert_eq!(rates.take(&alice), Ok(()));
        }
        let wait = rates.take(&alice).unwrap_err();
        assert!((1..=101).contains(&wait), "{wait} ms for one of ten a second");
        assert_eq!(rates.take(&bob), Ok(()));
        assert!(UserRates::new(0, 3).is_none());
    }
}
