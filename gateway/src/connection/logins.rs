//! How many logins may ask the database at once.
//!
//! A herd that comes back after a gateway was lost would otherwise take every connection to the database, and reads of
//! those who are connected would wait behind thousands of logins.

use tokio::sync::{Semaphore, SemaphorePermit};

use crate::wire::refusal::Refusal;

/// When someone who could not even wait is asked to come back, in milliseconds.
const RETRY_AFTER_MS: std::ops::RangeInclusive<u64> = 1_000..=5_000;

/// The entrance. Whoever comes first is first.
#[derive(Debug)]
pub struct Logins {
    asking: Semaphore,
    /// Those who ask and those who wait.
    inside: Semaphore,
}

/// A place at the database, given back when dropped.
#[derive(Debug)]
pub struct Place<'l> {
    _asking: SemaphorePermit<'l>,
    _inside: SemaphorePermit<'l>,
}

impl Logins {
    /// `at_once` may ask, and `waiting_max` may wait for it.
    #[must_use]
    pub fn new(at_once: usize, waiting_max: usize) -> Self {
        Self { asking: Semaphore::new(at_once), inside: Semaphore::new(at_once + waiting_max) }
    }

    /// Waits for its turn.
    ///
    /// # Errors
    /// 503 at once, if too many wait already.
    pub async fn admit(&self) -> Result<Place<'_>, Refusal> {
        let busy = |_| Refusal::Overloaded {
            message: "too many are logging in at this moment: come back a little later".to_owned(),
            retry_after_ms: rand::random_range(RETRY_AFTER_MS),
        };
        let _inside = self.inside.try_acquire().map_err(busy)?;
        // Never closed.
        let _asking = self.asking.acquire().await.map_err(|_| Refusal::Fault)?;
        Ok(Place { _asking, _inside })
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn some_ask_some_wait_and_the_others_are_told_to_come_back() {
        let logins = Logins::new(1, 1);
        let first = logins.admit().await.unwrap();
        let mut second = Box::pin(logins.admit());
        assert!((&mut second).now_or_never().is_none(), "it waits");
        let third = logins.admit().await.unwrap_err();
        assert!(matches!(third, Refusal::Overloaded { retry_after_ms: 1_000..=5_000, .. }), "{third:?}");
        drop(first);
        let second = second.await.unwrap();
        // One who gives up leaves its place too.
        drop(Box::pin(logins.admit()).now_or_never());
        drop(second);
        logins.admit().await.unwrap();
    }
}
