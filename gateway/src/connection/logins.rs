//! Logins ask the database together.
//!
//! A few reads run at once, each for all who have gathered since ([`Gathered`]). A short pause lies between two reads, the
//! longer the more the last one was about: where many come one after the other, they gather, too. A herd that comes back
//! after a gateway was lost costs a few statements instead of thousands, and leaves the connections to the database to
//! those who are here. A single login waits for nobody.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use shared::ids::UserId;
use tokio::sync::Semaphore;

use crate::gather::{Gathered, How, Read};
use crate::wire::refusal::Refusal;

/// When someone who could not even wait is asked to come back, in milliseconds.
const RETRY_AFTER_MS: std::ops::RangeInclusive<u64> = 1_000..=5_000;
/// Users that one read is about: a user may be in hundreds of groups.
const TOGETHER: usize = 64;
/// From one read to the next, for each user that the first was about: where more than 200 come in a second, reads grow
/// until there is one in each [`PAUSE_MAX`]; where fewer come, hardly anyone waits.
const PAUSE_EACH: Duration = Duration::from_millis(5);
/// Longest pause.
const PAUSE_MAX: Duration = Duration::from_millis(100);

/// The entrance. Whoever comes first is first.
pub struct Logins<T> {
    gathered: Arc<Gathered<UserId, T>>,
    /// Those who ask and those who wait.
    inside: Semaphore,
}

impl<T> fmt::Debug for Logins<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Logins").field("waiting", &self.gathered.waiting()).finish_non_exhaustive()
    }
}

impl<T: Send + 'static> Logins<T> {
    /// `at_once` calls of `read`, which says of each of these users what a login has to know, may run, and `waiting_max`
    /// users may wait for one.
    #[must_use]
    pub fn new(at_once: usize, waiting_max: usize, read: Box<Read<UserId, T>>) -> Self {
        let how = How { at_once, together: TOGETHER, pause_after };
        Self { gathered: Gathered::new(how, read), inside: Semaphore::new(at_once + waiting_max) }
    }

    /// What is to be known about `user`, read after this call began.
    ///
    /// # Errors
    /// 503 at once, if too many wait already; what the read says.
    pub async fn load(&self, user: &UserId) -> Result<T, Refusal> {
        let _inside = self.inside.try_acquire().map_err(|_| Refusal::Overloaded {
            message: "too many are logging in at this moment: come back a little later".to_owned(),
            retry_after_ms: rand::random_range(RETRY_AFTER_MS),
        })?;
        self.gathered.ask(user.clone()).await
    }
}

/// From a read about so many users to the next one. One that was full is followed at once: others wait already.
fn pause_after(users: usize) -> Duration {
    if users >= TOGETHER {
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

    /// Each read waits for a word, and says whom it is about.
    fn logins(waiting_max: usize) -> (Arc<Logins<String>>, mpsc::Receiver<usize>, Arc<Semaphore>) {
        let (told, reads) = mpsc::channel(100);
        let words = Arc::new(Semaphore::new(0));
        let heard = Arc::clone(&words);
        let read = move |users: Vec<UserId>| {
            let (told, heard) = (told.clone(), Arc::clone(&heard));
            async move {
                told.send(users.len()).await.unwrap();
                heard.acquire().await.unwrap().forget();
                if users.iter().any(|user| user.as_str() == "user666") {
                    return Err(Refusal::Fault);
                }
                Ok(users.iter().map(ToString::to_string).collect())
            }
            .boxed()
        };
        (Arc::new(Logins::new(1, waiting_max, Box::new(read))), reads, words)
    }

    #[tokio::test]
    async fn who_comes_during_a_read_is_in_the_next_one_and_gets_its_own() {
        let (logins, mut reads, words) = logins(200);
        let load = |n| {
            let logins = Arc::clone(&logins);
            tokio::spawn(async move { logins.load(&user(n)).await })
        };
        let first = load(0);
        assert_eq!(reads.recv().await, Some(1));
        let others: Vec<_> = (1..=TOGETHER + 2).map(load).collect();
        let gone = load(500);
        while logins.gathered.waiting() < TOGETHER + 3 {
            tokio::task::yield_now().await;
        }
        gone.abort();
        words.add_permits(3);
        assert_eq!(first.await.unwrap().unwrap(), "user0");
        for (n, other) in (1..).zip(others) {
            assert_eq!(other.await.unwrap().unwrap(), format!("user{n}"));
        }
        assert_eq!((reads.recv().await, reads.recv().await), (Some(TOGETHER), Some(2)));
        assert_eq!(logins.gathered.waiting(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn logins_one_after_the_other_gather_and_a_single_one_waits_for_nobody() {
        let pauses = [1, 5, 10, TOGETHER - 1, TOGETHER].map(|users| pause_after(users).as_millis());
        assert_eq!(pauses, [5, 25, 50, 100, 0]);
        let (logins, mut reads, words) = logins(200);
        words.add_permits(1_000);
        logins.load(&user(0)).await.unwrap();
        tokio::time::sleep(PAUSE_EACH).await;
        let begun = Instant::now();
        logins.load(&user(0)).await.unwrap();
        assert_eq!(begun.elapsed(), Duration::ZERO);
        // One each millisecond, for a second.
        let coming = (0..1_000).map(|n| {
            let logins = Arc::clone(&logins);
            async move {
                tokio::time::sleep(Duration::from_millis(n)).await;
                logins.load(&user(1)).await.unwrap();
            }
        });
        futures_util::future::join_all(coming).await;
        let mut sizes = Vec::new();
        while let Ok(users) = reads.try_recv() {
            sizes.push(users);
        }
        assert_eq!(sizes.iter().sum::<usize>(), 1_002);
        assert!(sizes.len() < 30, "{sizes:?}");
    }

    #[tokio::test]
    async fn a_read_that_fails_refuses_its_users_only() {
        let (logins, _reads, words) = logins(10);
        words.add_permits(2);
        assert!(matches!(logins.load(&user(666)).await, Err(Refusal::Fault)));
        assert_eq!(logins.load(&user(1)).await.unwrap(), "user1");
    }

    #[tokio::test]
    async fn some_ask_some_wait_and_the_others_are_told_to_come_back() {
        let (logins, mut reads, words) = logins(1);
        let (one, two) = (user(1), user(2));
        let (mut first, mut second) = (Box::pin(logins.load(&one)), Box::pin(logins.load(&two)));
        assert!((&mut first).now_or_never().is_none());
        assert_eq!(reads.recv().await, Some(1));
        assert!((&mut second).now_or_never().is_none(), "it waits");
        let third = logins.load(&user(3)).await.unwrap_err();
        assert!(matches!(third, Refusal::Overloaded { retry_after_ms: 1_000..=5_000, .. }), "{third:?}");
        words.add_permits(2);
        assert_eq!((first.await.unwrap(), second.await.unwrap()), ("user1".to_owned(), "user2".to_owned()));
    }
}
