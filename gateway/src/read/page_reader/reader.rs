//! The layers, put together.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use shared::conversation::Conversation;
use shared::ids::Seq;
use shared::mysql::{Pool, conversations};
use shared::shutdown::Shutdown;
use tokio_tungstenite::tungstenite::Utf8Bytes;

use super::page_cache::PageCache;
use super::page_key::{PageKey, PageReply};
use super::page_query::PageQuery;
use super::single_flight::SingleFlight;
use crate::batch_loader::{BatchLoader, BatchPolicy};
use crate::wire::api_error::ApiError;
use crate::wire::retry_delay::RetryDelay;

/// How `last_seq` is loaded for revalidation. The statements are quick: without a pause each would have one conversation.
const LAST_SEQ_POLICY: BatchPolicy = BatchPolicy {
    concurrency: 2,
    batch_max: 256,
    waiting_max: 100_000,
    overloaded,
    pause_after: |_| LAST_SEQ_PAUSE,
};
/// Only clients that request a shared or cached page wait for it.
const LAST_SEQ_PAUSE: Duration = Duration::from_millis(10);

/// Handle to the layers.
#[derive(Debug)]
pub(in crate::read) struct PageReader {
    flights: Arc<SingleFlight<PageKey, Utf8Bytes>>,
}

impl PageReader {
    /// `concurrency` page queries may run at the same time; reads are run in tasks of `tasks`.
    pub(in crate::read) fn new(pool: Pool, concurrency: usize, tasks: Shutdown) -> Self {
        let cached = Arc::new(CachedPages::new(pool, concurrency, tasks.clone()));
        let load = move |key: PageKey, is_shared| {
            let cached = Arc::clone(&cached);
            async move { cached.read(&key, is_shared).await }.boxed()
        };
        Self { flights: SingleFlight::new(Box::new(load), tasks) }
    }

    /// The page as it is at some moment after this call began.
    ///
    /// # Errors
    /// 503 while MySQL is unavailable, and 500.
    pub(in crate::read) async fn read(&self, key: PageKey) -> PageReply {
        self.flights.load(key).await
    }
}

/// The page cache in front of the page query.
#[derive(Debug)]
struct CachedPages {
    cache: PageCache,
    last_seqs: Arc<BatchLoader<Conversation, Seq>>,
    query: PageQuery,
}

impl CachedPages {
    fn new(pool: Pool, concurrency: usize, tasks: Shutdown) -> Self {
        let query = PageQuery::new(pool.clone(), concurrency);
        let load = move |conversations| load_last_seqs(pool.clone(), conversations).boxed();
        let last_seqs = BatchLoader::new(LAST_SEQ_POLICY, Box::new(load), tasks);
        Self { cache: PageCache::default(), last_seqs, query }
    }

    /// The page, and how long MySQL took to read it. `is_shared`: several clients wait for it.
    async fn read(&self, key: &PageKey, is_shared: bool) -> (PageReply, Duration) {
        // A single client that requests a page that is not cached does not wait for a revalidation.
        if !is_shared && !self.cache.contains(key) {
            return self.query.read(key).await;
        }
        let last_seq = match self.last_seqs.load(key.conversation.clone()).await {
            Ok(last_seq) => last_seq,
            Err(error) => return (Err(error), Duration::ZERO),
        };
        if let Some(page) = self.cache.get(key, last_seq) {
            metrics::counter!(shared::metrics::GATEWAY_PAGES_AGAIN).increment(1);
            return (Ok(page), Duration::ZERO);
        }
        let (reply, elapsed) = self.query.read(key).await;
        if let (true, Ok(page)) = (is_shared, &reply) {
            self.cache.insert(key.clone(), last_seq, page.clone());
        }
        (reply, elapsed)
    }
}

async fn load_last_seqs(pool: Pool, conversations: Vec<Conversation>) -> Result<Vec<Seq>, ApiError> {
    let conversations: Vec<&Conversation> = conversations.iter().collect();
    conversations::last_seqs(&pool, &conversations).await.map_err(|e| ApiError::database(&e))
}

fn overloaded() -> ApiError {
    ApiError::unavailable("too many pulls are waiting: try again", RetryDelay::Overloaded)
}
