//! Loads what a login needs from MySQL, for many users with one query.
//!
//! While batches are being loaded, further logins wait and form the next batch ([`BatchLoader`]). After a batch follows a
//! short pause, which is longer the larger the batch was, so that logins in quick succession form batches, too. When
//! thousands of clients reconnect after the loss of a gateway, they cost a few statements, and the connections to MySQL
//! stay available to the clients that are connected. A single login does not wait.

use std::sync::Arc;
use std::time::Duration;

use shared::ids::UserId;
use shared::shutdown::Shutdown;

use crate::batch_loader::{BatchLoader, BatchPolicy, LoadBatch};
use crate::wire::api_error::ApiError;
use crate::wire::retry_delay::RetryDelay;

/// Users of one batch: a user may be in hundreds of groups.
const BATCH_MAX: usize = 64;
/// The pause after a batch, for each of its users. Above 200 logins per second, batches grow until there is one per
/// [`PAUSE_MAX`]; below, hardly any login waits.
const PAUSE_PER_USER: Duration = Duration::from_millis(5);
/// The longest pause.
const PAUSE_MAX: Duration = Duration::from_millis(100);

/// Handle to the loader of logins; first in, first out.
#[derive(Debug)]
pub struct Logins<T> {
    loader: Arc<BatchLoader<UserId, T>>,
}

impl<T: Send + 'static> Logins<T> {
    /// `load` returns for each of its users what a login needs. `concurrency` calls of it may run at the same time, and
    /// `waiting_max` further logins may wait.
    #[must_use]
    pub fn new(
        concurrency: usize,
        waiting_max: usize,
        load: Box<LoadBatch<UserId, T>>,
        tasks: Shutdown,
    ) -> Self {
        let policy = BatchPolicy { concurrency, batch_max: BATCH_MAX, waiting_max, overloaded, pause_after };
        Self { loader: BatchLoader::new(policy, load, tasks) }
    }

    /// Changes how many queries run at the same time, and how many logins may wait.
    pub(crate) fn resize(&self, concurrency: usize, waiting_max: usize, tasks: &Shutdown) {
        self.loader.resize(concurrency, waiting_max, tasks);
    }

    /// How many logins wait for the next query.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.loader.waiting()
    }

    /// What the login of `user` needs, loaded after this call began.
    ///
    /// # Errors
    /// 503 at once if too many logins wait, and the errors of `load`.
    pub async fn load(&self, user: &UserId) -> Result<T, ApiError> {
        self.loader.load(user.clone()).await
    }
}

fn overloaded() -> ApiError {
    let message = "too many users are logging in at this moment: try again a little later";
    ApiError::unavailable(message, RetryDelay::LoginRush)
}

/// A full batch is followed by the next one at once: there are others waiting.
fn pause_after(users: usize) -> Duration {
    if users >= BATCH_MAX {
        return Duration::ZERO;
    }
    (PAUSE_PER_USER * u32::try_from(users).unwrap_or(u32::MAX)).min(PAUSE_MAX)
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;
    use tokio::sync::{Semaphore, mpsc};
    use tokio::time::Instant;

    use super::*;

    fn user(n: usize) -> UserId {
        UserId::parse(&format!("user{n}")).unwrap()
    }

    /// Each batch reports its size and waits for a permit.
    fn logins(waiting_max: usize) -> (Arc<Logins<String>>, mpsc::Receiver<usize>, Arc<Semaphore>) {
        let (report, sizes) = mpsc::channel(100);
        let permits = Arc::new(Semaphore::new(0));
        let acquired = Arc::clone(&permits);
        let load = move |users: Vec<UserId>| {
            let (report, acquired) = (report.clone(), Arc::clone(&acquired));
            async move {
                report.send(users.len()).await.unwrap();
                acquired.acquire().await.unwrap().forget();
                if users.iter().any(|user| user.as_str() == "user666") {
                    return Err(ApiError::Internal);
                }
                Ok(users.iter().map(ToString::to_string).collect())
            }
            .boxed()
        };
        (Arc::new(Logins::new(1, waiting_max, Box::new(load), Shutdown::new())), sizes, permits)
    }

    #[tokio::test]
    async fn logins_during_a_batch_form_the_next_one_and_each_gets_its_own_value() {
        let (logins, mut sizes, permits) = logins(200);
        let load = |n| {
            let logins = Arc::clone(&logins);
            tokio::spawn(async move { logins.load(&user(n)).await })
        };
        let first = load(0);
        assert_eq!(sizes.recv().await, Some(1));
        let others: Vec<_> = (1..=BATCH_MAX + 2).map(load).collect();
        let canceled = load(500);
        while logins.loader.waiting() < BATCH_MAX + 3 {
            tokio::task::yield_now().await;
        }
        canceled.abort();
        permits.add_permits(3);
        assert_eq!(first.await.unwrap().unwrap(), "user0");
        for (n, other) in (1..).zip(others) {
            assert_eq!(other.await.unwrap().unwrap(), format!("user{n}"));
        }
        assert_eq!((sizes.recv().await, sizes.recv().await), (Some(BATCH_MAX), Some(2)));
        assert_eq!(logins.loader.waiting(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn logins_in_quick_succession_form_batches_and_a_single_one_does_not_wait() {
        let pauses = [1, 5, 10, BATCH_MAX - 1, BATCH_MAX].map(|users| pause_after(users).as_millis());
        assert_eq!(pauses, [5, 25, 50, 100, 0]);
        let (logins, mut sizes, permits) = logins(200);
        permits.add_permits(1_000);
        logins.load(&user(0)).await.unwrap();
        tokio::time::sleep(PAUSE_PER_USER).await;
        let start = Instant::now();
        logins.load(&user(0)).await.unwrap();
        assert_eq!(start.elapsed(), Duration::ZERO);
        // One per millisecond, for a second.
        let requests = (0..1_000).map(|n| {
            let logins = Arc::clone(&logins);
            async move {
                tokio::time::sleep(Duration::from_millis(n)).await;
                logins.load(&user(1)).await.unwrap();
            }
        });
        futures_util::future::join_all(requests).await;
        let mut batches = Vec::new();
        while let Ok(users) = sizes.try_recv() {
            batches.push(users);
        }
        assert_eq!(batches.iter().sum::<usize>(), 1_002);
        assert!(batches.len() < 30, "{batches:?}");
    }

    #[tokio::test]
    async fn a_failed_batch_refuses_only_its_own_users() {
        let (logins, _sizes, permits) = logins(10);
        permits.add_permits(2);
        assert!(matches!(logins.load(&user(666)).await, Err(ApiError::Internal)));
        assert_eq!(logins.load(&user(1)).await.unwrap(), "user1");
    }

    #[tokio::test]
    async fn logins_above_the_limit_are_refused_with_a_retry_delay() {
        let (logins, mut sizes, permits) = logins(1);
        let (one, two) = (user(1), user(2));
        let (mut first, mut second) = (Box::pin(logins.load(&one)), Box::pin(logins.load(&two)));
        assert!((&mut first).now_or_never().is_none());
        assert_eq!(sizes.recv().await, Some(1));
        assert!((&mut second).now_or_never().is_none(), "it waits");
        let third = logins.load(&user(3)).await.unwrap_err();
        assert!(matches!(third, ApiError::Unavailable { retry_after_ms: 1_000..=5_000, .. }), "{third:?}");
        permits.add_permits(2);
        assert_eq!((first.await.unwrap(), second.await.unwrap()), ("user1".to_owned(), "user2".to_owned()));
    }
}
