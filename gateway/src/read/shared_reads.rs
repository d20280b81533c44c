//! Identical reads that wait for their turn become one.
//!
//! A read that has begun is never joined: it may have looked before the commit that the newcomer has already been told
//! about. So merging costs nothing in freshness, and happens exactly when there is a queue, as when a thousand members
//! of a group come back at once.

use std::sync::Arc;

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

type Waiting = Shared<oneshot::Receiver<Result<Utf8Bytes, Refusal>>>;

/// The reads that have not begun yet.
#[derive(Debug)]
pub(super) struct SharedReads {
    pool: Pool,
    turns: Semaphore,
    waiting: Mutex<AHashMap<Page, Waiting>>,
}

impl SharedReads {
    pub(super) fn new(pool: Pool, concurrent: usize) -> Arc<Self> {
        Arc::new(Self { pool, turns: Semaphore::new(concurrent), waiting: Mutex::default() })
    }

    pub(super) async fn read(self: Arc<Self>, page: Page) -> Result<Utf8Bytes, Refusal> {
        if let Ok(_turn) = self.turns.try_acquire() {
            return read_page(&self.pool, &page).await;
        }
        let joined = {
            let mut waiting = self.waiting.lock();
            match waiting.get(&page) {
                Some(same) => {
                    metrics::counter!(shared::metrics::GATEWAY_READS_MERGED).increment(1);
                    same.clone()
                }
                None => {
                    let (done, result) = oneshot::channel();
                    let result = result.shared();
                    waiting.insert(page.clone(), result.clone());
                    // A task of its own: whoever asked first may go away, the others still wait.
                    tokio::spawn(Arc::clone(&self).run(page, done));
                    result
                }
            }
        };
        joined.await.unwrap_or(Err(Refusal::Fault))
    }

    async fn run(self: Arc<Self>, page: Page, done: oneshot::Sender<Result<Utf8Bytes, Refusal>>) {
        let Ok(_turn) = self.turns.acquire().await else { return };
        // From here on nobody joins.
        self.waiting.lock().remove(&page);
        let _ = done.send(read_page(&self.pool, &page).await);
    }
}
