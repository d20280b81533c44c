//! Identical reads at the same time become one.
//!
//! A page is read by one at a time. Who asks for it meanwhile waits for the next read of it: one that has begun is never
//! joined, for it may have looked before the commit that the newcomer has already been told about. So merging costs
//! nothing in freshness, and a page that nobody else asks for waits for nobody. After a read for several a rest follows: a
//! thousand members of a group that come back at once are answered by few reads, and these leave most of the time to
//! others.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ahash::AHashMap;
use futures_util::future::{FutureExt as _, Shared};
use parking_lot::Mutex;
use shared::conversation::Conversation;
use shared::ids::Seq;
use shared::mysql::Pool;
use shared::mysql::timeline::Direction;
use tokio::sync::{Semaphore, oneshot};
use tokio_tungstenite::tungstenite::Utf8Bytes;

use super::pull::read_page;
use crate::wire::refusal::Refusal;

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

type Reply = Result<Utf8Bytes, Refusal>;

/// After a read for several, the same page is not read for so many times as long as it took: its readers leave the rest of
/// the time to others, and the more a read costs, the more of them gather.
const REST_TIMES: u32 = 4;
/// Shortest and longest rest.
const REST: (Duration, Duration) = (Duration::from_millis(4), Duration::from_millis(50));

/// The pages that are being read.
#[derive(Debug)]
pub(super) struct SharedReads {
    pool: Pool,
    turns: Semaphore,
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

impl SharedReads {
    pub(super) fn new(pool: Pool, concurrent: usize) -> Arc<Self> {
        Arc::new(Self { pool, turns: Semaphore::new(concurrent), pages: Mutex::default() })
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
        reply.await.unwrap_or(Err(Refusal::Fault))
    }

    /// Reads a page as long as someone waits for it.
    async fn run(self: Arc<Self>, page: Page) {
        loop {
            let Ok(turn) = self.turns.acquire().await else { return };
            // From here on nobody joins.
            let next = self.pages.lock().get_mut(&page).and_then(Option::take);
            let Some(next) = next else { return };
            let begun = Instant::now();
            let _ = next.done.send(read_page(&self.pool, &page).await);
            drop(turn);
            if next.is_for_several {
                tokio::time::sleep((begun.elapsed() * REST_TIMES).clamp(REST.0, REST.1)).await;
            }
            let mut pages = self.pages.lock();
            if pages.get(&page).is_none_or(Option::is_none) {
                pages.remove(&page);
                return;
            }
        }
    }
}
