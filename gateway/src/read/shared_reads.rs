//! Identical reads at the same time become one.
//!
//! A page is read by one at a time. Who asks for it meanwhile waits for the next read of it: one that has begun is never
//! joined, for it may have looked before the commit that the newcomer has already been told about. So merging costs
//! nothing in freshness, and a page that nobody else asks for waits for nobody. After a read for several a rest follows: a
//! thousand members of a group that come back at once are answered by few reads, and these leave most of the time to
//! others.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use ahash::AHashMap;
use futures_util::future::{BoxFuture, FutureExt as _, Shared};
use parking_lot::Mutex;
use shared::conversation::Conversation;
use shared::ids::Seq;
use shared::mysql::timeline::Direction;
use tokio::sync::oneshot;
use tokio_tungstenite::tungstenite::Utf8Bytes;

use crate::wire::api_error::ApiError;

/// What a pull asks for. Equal pages have equal replies.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Page {
    pub(super) conversation: Conversation,
    pub(super) cursor: Seq,
    pub(super) direction: Direction,
    pub(super) limit: u16,
    /// Nothing at or below is shown.
    pub(super) floor: Seq,
}

pub(super) type Reply = Result<Utf8Bytes, ApiError>;

/// After a read for several, the same page is not read for so many times as long as it took: its readers leave the rest of
/// the time to others, and the more a read costs, the more of them gather.
const REST_TIMES: u32 = 4;
/// Shortest and longest rest.
const REST: (Duration, Duration) = (Duration::from_millis(4), Duration::from_millis(50));

/// Reads and renders a page, for several who asked or for one, and says how long the database was at it.
type Read = dyn Fn(Page, bool) -> BoxFuture<'static, (Reply, Duration)> + Send + Sync;

/// The pages that are being read.
pub(super) struct SharedReads {
    read: Box<Read>,
    /// With the next read of each, if someone waits for it.
    pages: Mutex<AHashMap<Page, Option<Next>>>,
}

/// A read that has not begun yet.
#[derive(Debug)]
struct Next {
    done: oneshot::Sender<Reply>,
    reply: Shared<oneshot::Receiver<Reply>>,
    is_for_several: bool,
}

impl Next {
    fn new() -> Self {
        let (done, reply) = oneshot::channel();
        Self { done, reply: reply.shared(), is_for_several: false }
    }
}

impl fmt::Debug for SharedReads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedReads").field("pages", &self.pages.lock().len()).finish_non_exhaustive()
    }
}

impl SharedReads {
    pub(super) fn new(read: Box<Read>) -> Arc<Self> {
        Arc::new(Self { read, pages: Mutex::default() })
    }

    pub(super) async fn read(self: Arc<Self>, page: Page) -> Reply {
        let (reply, is_first) = {
            let mut pages = self.pages.lock();
            match pages.get_mut(&page) {
                Some(Some(next)) => {
                    metrics::counter!(shared::metrics::GATEWAY_READS_MERGED).increment(1);
                    next.is_for_several = true;
                    (next.reply.clone(), false)
                }
                Some(none) => (none.insert(Next::new()).reply.clone(), false),
                None => {
                    let next = Next::new();
                    let reply = next.reply.clone();
                    pages.insert(page.clone(), Some(next));
                    (reply, true)
                }
            }
        };
        if is_first {
            // A task of its own: whoever asked first may go away, the others still wait.
            tokio::spawn(self.run(page));
        }
        reply.await.unwrap_or(Err(ApiError::Internal))
    }

    /// Reads a page as long as someone waits for it.
    async fn run(self: Arc<Self>, page: Page) {
        loop {
            // From here on nobody joins.
            let next = self.pages.lock().get_mut(&page).and_then(Option::take);
            let Some(next) = next else { return };
            let (reply, took) = (self.read)(page.clone(), next.is_for_several).await;
            let _ = next.done.send(reply);
            if next.is_for_several {
                tokio::time::sleep((took * REST_TIMES).clamp(REST.0, REST.1)).await;
            }
            let mut pages = self.pages.lock();
            if pages.get(&page).is_none_or(Option::is_none) {
                pages.remove(&page);
                return;
            }
        }
    }
}

#[cfg(test)]
impl Page {
    /// 50 messages after `cursor` of some group.
    pub(super) fn after(cursor: u64) -> Self {
        Self {
            conversation: Conversation::from_key("group_1").unwrap(),
            cursor: Seq(cursor),
            direction: Direction::Forward,
            limit: 50,
            floor: Seq::ZERO,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::sync::{Semaphore, mpsc};

    use super::*;

    /// Each read says that it begins, waits for a word, and is answered with how many there were before it.
    fn reads() -> (Arc<SharedReads>, mpsc::Receiver<Seq>, Arc<Semaphore>) {
        let (told, begun) = mpsc::channel(100);
        let (words, count) = (Arc::new(Semaphore::new(0)), AtomicUsize::new(0));
        let heard = Arc::clone(&words);
        let read = move |page: Page, _| {
            let (told, heard, before) =
                (told.clone(), Arc::clone(&heard), count.fetch_add(1, Ordering::Relaxed));
            async move {
                told.send(page.cursor).await.unwrap();
                heard.acquire().await.unwrap().forget();
                (Ok(Utf8Bytes::from(before.to_string())), Duration::ZERO)
            }
            .boxed()
        };
        (SharedReads::new(Box::new(read)), begun, words)
    }

    fn ask(reads: &Arc<SharedReads>, cursor: u64) -> tokio::task::JoinHandle<Reply> {
        tokio::spawn(Arc::clone(reads).read(Page::after(cursor)))
    }

    #[tokio::test(start_paused = true)]
    async fn who_asks_during_a_read_is_answered_by_the_next_one_and_another_page_waits_for_nobody() {
        let (reads, mut begun, words) = reads();
        let first = ask(&reads, 1);
        assert_eq!(begun.recv().await, Some(Seq(1)));
        let others: Vec<_> = (0..5).map(|_| ask(&reads, 1)).collect();
        let another = ask(&reads, 2);
        assert_eq!(begun.recv().await, Some(Seq(2)));
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(begun.try_recv().is_err(), "the same page is read by one at a time");
        // Who asked first goes away: the others are answered all the same.
        others[0].abort();
        words.add_permits(3);
        assert!(first.await.unwrap().is_ok() && another.await.unwrap().is_ok());
        for other in others.into_iter().skip(1) {
            assert_eq!(other.await.unwrap().unwrap().as_str(), "2", "a read that began after they asked");
        }
        assert_eq!(begun.recv().await, Some(Seq(1)));
        tokio::time::sleep(REST.1).await;
        assert!(reads.pages.lock().is_empty() && begun.try_recv().is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_page_that_several_asked_for_rests_and_one_that_nobody_shared_does_not() {
        let (reads, mut begun, words) = reads();
        words.add_permits(100);
        for _ in 0..3 {
            let now = tokio::time::Instant::now();
            ask(&reads, 1).await.unwrap().unwrap();
            assert_eq!(now.elapsed(), Duration::ZERO);
        }
        // They ask before the first one's read begins.
        let (first, second) = (ask(&reads, 1), ask(&reads, 1));
        assert_eq!(first.await.unwrap().unwrap(), second.await.unwrap().unwrap());
        let now = tokio::time::Instant::now();
        ask(&reads, 1).await.unwrap().unwrap();
        assert!(now.elapsed() >= REST.0, "{:?}", now.elapsed());
        let mut all = 0;
        while begun.try_recv().is_ok() {
            all += 1;
        }
        assert_eq!(all, 5);
    }
}
