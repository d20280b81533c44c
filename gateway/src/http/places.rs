//! Places for calls in progress.
//!
//! A call holds its place from before its body is read to its end. Nobody can take all places: an address has a share,
//! calls without authentication have half of them, and the operator has some of its own.

use std::net::IpAddr;
use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

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
    all: Arc<Semaphore>,
    /// Within `all`.
    anonymous: Arc<Semaphore>,
    operator: Arc<Semaphore>,
    by_address: Shares<IpAddr>,
    address_max: usize,
}

/// The place of one call, until it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    _permits: [Option<OwnedSemaphorePermit>; 2],
    _share: Option<Share<IpAddr>>,
}

impl Places {
    /// `calls_max` places, of which an address has `address_max` (0: no limit), and some more for the operator.
    pub(super) fn new(calls_max: usize, address_max: usize) -> Self {
        let places = |count: usize| Arc::new(Semaphore::new(count.max(1)));
        Self {
            all: places(calls_max),
            anonymous: places(calls_max / ANONYMOUS_PART),
            operator: places(calls_max / OPERATOR_PART),
            by_address: Shares::new(),
            address_max: if address_max == 0 { usize::MAX } else { address_max },
        }
    }

    /// Takes a place for a call of `caller` from `address`.
    ///
    /// # Errors
    /// 429 if the address has its share, 503 if all places are taken.
    pub(super) fn take(&self, caller: &Result<Caller, ApiError>, address: IpAddr) -> Result<Place, ApiError> {
        if matches!(caller, Ok(Caller::Operator(_))) {
            let permit = permit(&self.operator).or_else(|_| permit(&self.all))?;
            return Ok(Place { _permits: [Some(permit), None], _share: None });
        }
        let Some((share, _)) = self.by_address.take(&address, self.address_max) else {
            return Err(ApiError::RateLimited {
                message: "your address has its share of calls in progress: wait for their responses"
                    .to_owned(),
                retry_after_ms: RetryDelay::Overloaded.random_ms(),
            });
        };
        let anonymous = if caller.is_err() { Some(permit(&self.anonymous)?) } else { None };
        Ok(Place { _permits: [Some(permit(&self.all)?), anonymous], _share: Some(share) })
    }
}

fn permit(places: &Arc<Semaphore>) -> Result<OwnedSemaphorePermit, ApiError> {
    Arc::clone(places).try_acquire_owned().map_err(|_| {
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
