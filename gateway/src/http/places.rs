//! Places for calls in progress.
//!
//! A call holds its place from before its body is read to its end. Nobody can take all places: an address has a share,
//! calls without authentication have half of them, and the operator has some of its own.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use shared::permits::Permits;
use shared::shutdown::Shutdown;
use tokio::sync::OwnedSemaphorePermit;

use crate::auth::caller::Caller;
use crate::shares::{Share, Shares};
use crate::wire::api_error::ApiError;
use crate::wire::retry_delay::RetryDelay;

/// The operator has one place of its own for this many of others.
const OPERATOR_PART: usize = 10;
/// Calls without authentication have one of this many places.
const ANONYMOUS_PART: usize = 2;

/// The places for calls in progress.
#[derive(Debug)]
pub(super) struct Places {
    all: Permits,
    /// Within `all`.
    anonymous: Permits,
    operator: Permits,
    by_address: Shares<IpAddr>,
    address_max: AtomicUsize,
}

/// The place of one call, until it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    permits: [Option<OwnedSemaphorePermit>; 2],
    _share: Option<Share<IpAddr>>,
}

impl Place {
    /// Leaves the place to others and keeps the share of the address: for a call that waits, and has a place for that.
    pub(super) fn leave(&mut self) {
        self.permits.iter_mut().for_each(|permit| drop(permit.take()));
    }
}

impl Places {
    /// `calls_max` places, of which an address has `address_max` (0: no limit), and some more for the operator.
    pub(super) fn new(calls_max: usize, address_max: usize) -> Self {
        let [all, anonymous, operator] = sizes(calls_max).map(Permits::new);
        let address_max = AtomicUsize::new(no_limit_if_0(address_max));
        Self { all, anonymous, operator, by_address: Shares::new(), address_max }
    }

    /// Changes the number of places. Calls in progress go on.
    pub(super) fn resize(&self, calls_max: usize, address_max: usize, tasks: &Shutdown) {
        for (places, size) in [&self.all, &self.anonymous, &self.operator].into_iter().zip(sizes(calls_max)) {
            places.resize(size, tasks);
        }
        self.address_max.store(no_limit_if_0(address_max), Ordering::Relaxed);
    }

    /// Takes a place for a call of `caller` from `address`.
    ///
    /// # Errors
    /// 429 if the address has its share, 503 if all places are taken.
    pub(super) fn take(&self, caller: &Result<Caller, ApiError>, address: IpAddr) -> Result<Place, ApiError> {
        if matches!(caller, Ok(Caller::Operator(_))) {
            let permit = permit(&self.operator).or_else(|_| permit(&self.all))?;
            return Ok(Place { permits: [Some(permit), None], _share: None });
        }
        let address_max = self.address_max.load(Ordering::Relaxed);
        let Some((share, _)) = self.by_address.take(&address, address_max) else {
            return Err(ApiError::RateLimited {
                message: "your address has its share of calls in progress: wait for their responses"
                    .to_owned(),
                retry_after_ms: RetryDelay::Overloaded.random_ms(),
            });
        };
        let anonymous = if caller.is_err() { Some(permit(&self.anonymous)?) } else { None };
        Ok(Place { permits: [Some(permit(&self.all)?), anonymous], _share: Some(share) })
    }
}

/// All places, those for calls without authentication, those of the operator.
fn sizes(calls_max: usize) -> [usize; 3] {
    [calls_max, calls_max / ANONYMOUS_PART, calls_max / OPERATOR_PART].map(|size| size.max(1))
}

fn no_limit_if_0(limit: usize) -> usize {
    if limit == 0 { usize::MAX } else { limit }
}

fn permit(places: &Permits) -> Result<OwnedSemaphorePermit, ApiError> {
    Arc::clone(places.semaphore()).try_acquire_owned().map_err(|_| {
        let message = "this gateway has the maximum number of calls in progress: try again";
        ApiError::unavailable(message, RetryDelay::Overloaded)
    })
}

#[cfg(test)]
mod tests {
    use shared::ids::UserId;

    use super::*;

    fn address(n: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, n])
    }

    #[tokio::test]
    async fn more_and_fewer_places_apply_to_the_next_call() {
        let (places, tasks) = (Places::new(1, 0), Shutdown::new());
        let user = Ok(Caller::User(UserId::parse("alice").unwrap()));
        let first = places.take(&user, address(1)).unwrap();
        assert!(places.take(&user, address(1)).is_err());
        places.resize(10, 2, &tasks);
        let second = places.take(&user, address(1)).unwrap();
        assert_eq!(places.take(&user, address(1)).unwrap_err().code(), 429);
        places.resize(1, 0, &tasks);
        drop((first, second));
        tokio::task::yield_now().await;
        let _only = places.take(&user, address(1)).unwrap();
        assert_eq!(places.take(&user, address(1)).unwrap_err().code(), 503);
    }

    #[test]
    fn a_call_that_waits_leaves_its_place_and_keeps_the_share_of_its_address() {
        let places = Places::new(1, 2);
        let user = Ok(Caller::User(UserId::parse("alice").unwrap()));
        let mut waiting = places.take(&user, address(1)).unwrap();
        assert_eq!(places.take(&user, address(1)).unwrap_err().code(), 503);
        waiting.leave();
        let mut second = places.take(&user, address(1)).unwrap();
        second.leave();
        assert_eq!(places.take(&user, address(1)).unwrap_err().code(), 429);
        drop(places.take(&user, address(2)).unwrap());
        drop(waiting);
        assert!(places.take(&user, address(1)).is_ok());
    }

    #[test]
    fn nobody_takes_all_places() {
        let places = Places::new(20, 6);
        let nobody = Err(ApiError::Unauthenticated(String::new()));
        let user = Ok(Caller::User(UserId::parse("alice").unwrap()));
        let operator = Ok(Caller::Operator(None));
        let take = |caller: &Result<Caller, ApiError>, n: u8, count: usize| -> (Vec<Place>, u16) {
            let mut taken = Vec::new();
            for _ in 0..count {
                match places.take(caller, address(n)) {
                    Ok(place) => taken.push(place),
                    Err(refusal) => return (taken, refusal.code()),
                }
            }
            (taken, 0)
        };
        let (first, code) = take(&nobody, 1, 20);
        assert_eq!((first.len(), code), (6, 429), "the share of an address");
        let (second, code) = take(&nobody, 2, 20);
        assert_eq!((second.len(), code), (4, 503), "half of the places without authentication");
        let (users, code) = take(&user, 3, 20);
        assert_eq!((users.len(), code), (6, 429));
        let (others, code) = take(&user, 4, 20);
        assert_eq!((others.len(), code), (4, 503), "all places");
        let (operators, code) = take(&operator, 1, 20);
        assert_eq!((operators.len(), code), (2, 503), "places of its own");
        drop((first, second, users, others, operators));
        assert_eq!(take(&operator, 1, 30).0.len(), 22);
    }
}
