//! One page of a conversation as a reply frame.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use shared::conversation::Conversation;
use shared::ids::Seq;
use shared::message::Stored;
use shared::mysql::timeline::{self, Direction};
use shared::mysql::{Pool, conversations};
use tokio::sync::Semaphore;

use super::recent::RecentPages;
use super::shared_reads::{Page, Reply};
use crate::gather::{Gathered, How};
use crate::wire::api_error::ApiError;
use crate::wire::message::MessageView;
use crate::wire::reply;

/// A reply ends before the message that would take its contents beyond this; the client goes on from there.
const REPLY_BYTES_MAX: usize = 512 * 1024;

/// Last numbers are asked for by so many statements at once, each for so many conversations. They are quick: without a
/// pause each would be about one.
const HEADS: How = How { at_once: 2, together: 256, pause_after: |_| HEADS_PAUSE };
/// Only readers of what several want, or wanted, wait for it.
const HEADS_PAUSE: Duration = Duration::from_millis(10);

/// Reads pages, and gives those again that several want.
#[derive(Debug)]
pub(super) struct Pages {
    pool: Pool,
    /// Of queries for pages.
    turns: Semaphore,
    heads: Arc<Gathered<Conversation, Seq>>,
    recent: RecentPages,
}

impl Pages {
    /// `concurrent` queries for pages may run.
    pub(super) fn new(pool: Pool, concurrent: usize) -> Self {
        let all = pool.clone();
        let heads = move |conversations| read_heads(all.clone(), conversations).boxed();
        Self {
            pool,
            turns: Semaphore::new(concurrent),
            heads: Gathered::new(HEADS, Box::new(heads)),
            recent: RecentPages::default(),
        }
    }

    /// The page as it is now, or at any moment after this call began, and how long MySQL was at it.
    pub(super) async fn read(&self, page: &Page, for_several: bool) -> (Reply, Duration) {
        // Who asks alone for what is not kept is not made to wait for the last number, too.
        if !for_several && !self.recent.has(page) {
            return self.read_now(page).await;
        }
        let head = match self.heads.ask(page.conversation.clone()).await {
            Ok(head) => head,
            Err(refusal) => return (Err(refusal), Duration::ZERO),
        };
        if let Some(reply) = self.recent.get(page, head) {
            metrics::counter!(shared::metrics::GATEWAY_PAGES_AGAIN).increment(1);
            return (Ok(reply), Duration::ZERO);
        }
        let (reply, took) = self.read_now(page).await;
        if let (true, Ok(reply)) = (for_several, &reply) {
            self.recent.keep(page.clone(), head, reply.clone());
        }
        (reply, took)
    }

    async fn read_now(&self, page: &Page) -> (Reply, Duration) {
        // Never closed.
        let Ok(_turn) = self.turns.acquire().await else { return (Err(ApiError::Internal), Duration::ZERO) };
        let begun = Instant::now();
        (read_page(&self.pool, page).await, begun.elapsed())
    }
}

async fn read_heads(pool: Pool, of: Vec<Conversation>) -> Result<Vec<Seq>, ApiError> {
    let asked: Vec<&Conversation> = of.iter().collect();
    conversations::last_seqs(&pool, &asked).await.map_err(|e| ApiError::database(&e))
}

/// Reads a page and renders it.
async fn read_page(pool: &Pool, page: &Page) -> Reply {
    // One more than asked for says whether there is more.
    let limit = u32::from(page.limit) + 1;
    let rows = timeline::read(pool, &page.conversation, page.cursor, page.direction, limit);
    let mut rows = rows.await.map_err(|e| ApiError::database(&e))?;
    // Backward: what came before is not for this reader.
    rows.retain(|row| row.seq > page.floor);
    let mut bytes = 0;
    let fits = |row: &&Stored| {
        let first = bytes == 0;
        bytes += row.kind.body_bytes();
        first || bytes <= REPLY_BYTES_MAX
    };
    let shown = rows.iter().take(usize::from(page.limit)).take_while(fits).count();
    let has_more = shown < rows.len();
    let messages: Vec<_> = rows[..shown].iter().map(MessageView::from).collect();
    let next = rows[..shown].last().map_or(page.cursor, |last| last.seq);
    debug_assert!(page.direction == Direction::Backward || next >= page.cursor);
    Ok(reply::pull(&page.conversation.wire(), &messages, next, has_more))
}
