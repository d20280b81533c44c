//! Batched reads for logins.
//!
//! A few reads run at once, each for all users that have logged in since ([`Gathered`]). After a read comes a pause, the
//! longer the more users it was for, so that logins in quick succession share a read, too. When thousands of clients
//! reconnect after a gateway was lost, they cost a few statements, and leave the database to the users that are
//! connected. A single login does not wait.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use shared::ids::UserId;
use tokio::sync::Semaphore;

use crate::gather::{Gathered, How, Read};
use crate::wire::api_error::ApiError;
use crate::wire::retry_delay::RetryDelay;

/// Users per read: a user may be in hundreds of groups.
const BATCH_USERS_MAX: usize = 64;
/// Pause after a read, for each user that it was for: with more than 200 logins per second, reads grow until there is one
/// per [`PAUSE_MAX`]; with fewer, hardly any login waits.
const PAUSE_EACH: Duration = Duration::from_millis(5);
/// Longest pause.
const PAUSE_MAX: Duration = Duration::from_millis(100);

/// Reads what logins need, in batches; first in, first out.
pub struct Logins<T> {
    gathered: Arc<Gathered<UserId, T>>,
    /// Logins that read or wait.
    places: Semaphore,
}

impl<T> fmt::Debug for Logins<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Logins").field("waiting", &self.gathered.waiting()).finish_non_exhaustive()
    }
}

impl<T: Send + 'static> Logins<T> {
    /// At most `at_once` calls of `read` run at the same time, and at most `waiting_max` users wait for one. `read` returns
    /// one result for each user, in their order.
    #[must_use]
    pub fn new(at_once: usize, waiting_max: usize, read: Box<Read<UserId, T>>) -> Self {
        let how = How { at_once, together: BATCH_USERS_MAX, pause_after };
        Self { gathered: Gathered::new(how, read), places: Semaphore::new(at_once + waiting_max) }
    }

    /// The result for `user`, of a read that begins after this call.
    ///
    /// # Errors
    /// 503 at once if too many users wait already; otherwise the error of the read.
    pub async fn load(&self, user: &UserId) -> Result<T, ApiError> {
        let _place = self.places.try_acquire().map_err(|_| {
            let message = "too many users are logging in at this moment: try again a little later";
            ApiError::unavailable(message, RetryDelay::LoginRush)
        })?;
        self.gathered.ask(user.clone()).await
    }
}

/// The pause after a read for this many users. A full one has none: others wait already.
fn pause_after(users: usize) -> Duration {
    if users >= BATCH_USERS_MAX {
        return Duration::ZERO;
    }
    (PAUSE_EACH * u32::try_from(users).unwrap_or(u32::MAX)).min(PAUSE_MAX)
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;
    use tokio::sync::mpsc;
    use tokio::time::Instant;

    use super::*;

    fn user(n: usize) -> UserId {
        UserId::parse(&format!("user{n}")).unwrap()
    }

    /// Each read reports how many users it is for, and waits for a permit.
    fn logins(waiting_max: usize) -> (Arc<Logins<String>>, mpsc::Receiver<usize>, Arc<Semaphore>) {
        let (report, reads) = mpsc::channel(100);
        let permits = Arc::new(Semaphore::new(0));
        let gate = Arc::clone(&permits);
        let read = move |users: Vec<UserId>| {
            let (report, gate) = (report.clone(), Arc::clone(&gate));
            async move {
                report.send(users.len()).await.unwrap();
                gate.acquire().await.unwrap().forget();
                if users.iter().any(|user| user.as_str() == "user666") {
                    return Err(ApiError::Internal);
                }
                Ok(users.iter().map(ToString::to_string).collect())
            }
            .boxed()
        };
        (Arc::new(Logins::new(1, waiting_max, Box::new(read))), reads, permits)
    }

    #[tokio::test]
    async fn logins_during_a_read_share_the_next_one_and_each_gets_its_own_result() {
        let (logins, mut reads, permits) = logins(200);
        let load = |n| {
            let logins = Arc::clone(&logins);
            tokio::spawn(async move { logins.load(&user(n)).await })
        };
        let first = load(0);
        assert_eq!(reads.recv().await, Some(1));
        let others: Vec<_> = (1..=BATCH_USERS_MAX + 2).map(load).collect();
        let canceled = load(500);
        while logins.gathered.waiting() < BATCH_USERS_MAX + 3 {
            tokio::task::yield_now().await;
        }
        canceled.abort();
        permits.add_permits(3);
        assert_eq!(first.await.unwrap().unwrap(), "user0");
        for (n, other) in (1..).zip(others) {
            assert_eq!(other.await.unwrap().unwrap(), format!("user{n}"));
        }
        assert_eq!((reads.recv().await, reads.recv().await), (Some(BATCH_USERS_MAX), Some(2)));
        assert_eq!(logins.gathered.waiting(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn logins_in_quick_succession_share_reads_and_a_single_one_does_not_wait() {
        let pauses =
            [1, 5, 10, BATCH_USERS_MAX - 1, BATCH_USERS_MAX].map(|users| pause_after(users).as_millis());
        assert_eq!(pauses, [5, 25, 50, 100, 0]);
        let (logins, mut reads, permits) = logins(200);
        permits.add_permits(1_000);
        logins.load(&user(0)).await.unwrap();
        tokio::time::sleep(PAUSE_EACH).await;
        let start = Instant::now();
        logins.load(&user(0)).await.unwrap();
        assert_eq!(start.elapsed(), Duration::ZERO);
        // One per millisecond, for a second.
        let all = (0..1_000).map(|n| {
            let logins = Arc::clone(&logins);
            async move {
                tokio::time::sleep(Duration::from_millis(n)).await;
                logins.load(&user(1)).await.unwrap();
            }
        });
        futures_util::future::join_all(all).await;
        let mut sizes = Vec::new();
        while let Ok(users) = reads.try_recv() {
            sizes.push(users);
        }
        assert_eq!(sizes.iter().sum::<usize>(), 1_002);
        assert!(sizes.len() < 30, "{sizes:?}");
    }

    #[tokio::test]
    async fn a_read_that_fails_refuses_only_its_own_users() {
        let (logins, _reads, permits) = logins(10);
        permits.add_permits(2);
        assert!(matches!(logins.load(&user(666)).await, Err(ApiError::Internal)));
        assert_eq!(logins.load(&user(1)).await.unwrap(), "user1");
    }

    #[tokio::test]
    async fn logins_beyond_those_that_read_and_wait_are_refused_at_once() {
        let (logins, mut reads, permits) = logins(1);
        let (one, two) = (user(1), user(2));
        let (mut first, mut second) = (Box::pin(logins.load(&one)), Box::pin(logins.load(&two)));
        assert!((&mut first).now_or_never().is_none());
        assert_eq!(reads.recv().await, Some(1));
        assert!((&mut second).now_or_never().is_none(), "it waits");
        let third = logins.load(&user(3)).await.unwrap_err();
        assert!(matches!(third, ApiError::Unavailable { retry_after_ms: 1_000..=5_000, .. }), "{third:?}");
        permits.add_permits(2);
        assert_eq!((first.await.unwrap(), second.await.unwrap()), ("user1".to_owned(), "user2".to_owned()));
    }
}
