//! Reads pages of the change feed.

use std::collections::BTreeMap;
use std::sync::Arc;

use shared::feed::{Cursor, Cursors, FeedShards, Page, Row, SeqRange, plan};
use shared::metrics::{GATEWAY_FEED_EVENTS, GATEWAY_FEED_ROWS};
use shared::mysql::Pool;
use shared::mysql::feed::{self, Extent};
use shared::shutdown::Shutdown;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::Utf8Bytes;

use super::gone::{ReadError, check, check_all};
use super::heads::{Heads, Newest};
use super::view::{EventView, PageView, not_rendered};
use crate::wire::api_error::ApiError;
use crate::wire::message::MessageView;
use crate::wire::retry_delay::RetryDelay;

/// Readers that wait at this gateway at a time; a further one gets 503.
const WAITING_MAX: usize = 64;
/// Rows that are read at once, until a page is full.
const ROWS_AT_ONCE: u32 = 64;
/// A page has no further event when its messages have this many bytes.
const PAGE_BYTES_MAX: usize = 1 << 20;
/// Rows of one page.
const ROWS_MAX: usize = 512;

/// Where a page begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Start {
    /// With the oldest event that is kept.
    Oldest,
    /// After all events that there are.
    Latest,
    /// After this one.
    After(Cursor),
}

/// A page.
#[derive(Debug)]
pub(crate) struct FeedPage {
    /// As JSON.
    pub(crate) json: Utf8Bytes,
    /// It has no event: the reader may wait for one after this cursor.
    pub(crate) waits_after: Option<Cursor>,
}

/// The change feed.
#[derive(Debug)]
pub(crate) struct ChangeFeed {
    pool: Pool,
    shards: FeedShards,
    keep_s: u32,
    heads: Heads,
    waiting: Semaphore,
    /// Ends waiting.
    stop: Shutdown,
}

impl ChangeFeed {
    /// The feed in `pool`, whose rows are kept for `keep_s`. Nobody waits any more when `stop` is asked for; `tasks` stops the
    /// task that it starts.
    pub(crate) fn start(
        pool: Pool,
        shards: FeedShards,
        keep_s: u32,
        (stop, tasks): (Shutdown, &Shutdown),
    ) -> Arc<Self> {
        let (heads, waiting) = (Heads::new(pool.clone()), Semaphore::new(WAITING_MAX));
        let feed = Arc::new(Self { pool, shards, keep_s, heads, waiting, stop });
        let (following, until) = (Arc::clone(&feed), tasks.clone());
        tasks.spawn_essential("positions of the change feed", async move {
            following.heads.follow(&until).await;
        });
        feed
    }

    /// The number of shards.
    pub(crate) fn shards(&self) -> FeedShards {
        self.shards
    }

    /// How long rows are kept, in seconds.
    pub(crate) fn keep_s(&self) -> u32 {
        self.keep_s
    }

    /// The oldest and the newest position of each shard.
    ///
    /// # Errors
    /// 503
    pub(crate) async fn extents(&self) -> Result<Vec<Extent>, ApiError> {
        let mut extents = feed::extents(&self.pool).await.map_err(|error| ApiError::database(&error))?;
        extents.retain(|extent| extent.shard < self.shards.get());
        Ok(extents)
    }

    async fn extent(&self, shard: u16) -> Result<Extent, ApiError> {
        let none = Extent { shard, before: 0, head: 0 };
        Ok(self.extents().await?.into_iter().find(|extent| extent.shard == shard).unwrap_or(none))
    }

    /// A place to wait.
    ///
    /// # Errors
    /// 503 if too many readers wait.
    pub(crate) fn place(&self) -> Result<SemaphorePermit<'_>, ApiError> {
        self.waiting.try_acquire().map_err(|_| too_many_wait(WAITING_MAX))
    }

    /// Waits until `shard` has an event after `cursor`. False at `until`, and when the gateway stops.
    pub(crate) async fn wait(&self, shard: u16, cursor: Cursor, until: Instant) -> bool {
        let is_after =
            |newest: &BTreeMap<u16, u64>| newest.get(&shard).is_some_and(|last| *last > cursor.position);
        self.wait_for(is_after, until).await.is_some()
    }

    /// Waits until the newest positions are those that a reader waits for. `None` at `until`, and when the gateway stops.
    pub(super) async fn wait_for(
        &self,
        is_due: impl FnMut(&BTreeMap<u16, u64>) -> bool,
        until: Instant,
    ) -> Option<Newest> {
        self.heads.wait_for(is_due, until, &self.stop).await
    }

    /// The newest position of each shard.
    ///
    /// # Errors
    /// 503
    pub(super) async fn heads(&self) -> Result<Newest, ApiError> {
        let heads = feed::heads(&self.pool).await.map_err(|error| ApiError::database(&error))?;
        Ok(Arc::new(heads.into_iter().collect()))
    }

    /// Checks cursors of all shards after which something is missing.
    ///
    /// # Errors
    /// 410, 503
    pub(super) async fn check(&self, cursors: &Cursors) -> Result<(), ApiError> {
        check_all(cursors, &self.extents().await?, self.keep_s)
    }

    /// The database.
    pub(super) fn pool(&self) -> &Pool {
        &self.pool
    }

    /// At most `limit` events of `shard`, as JSON.
    ///
    /// # Errors
    /// 410 if the events after the cursor are removed, 503.
    pub(crate) async fn page(&self, shard: u16, start: Start, limit: usize) -> Result<FeedPage, ApiError> {
        self.read(shard, start, limit, |page, has_more| {
            let view = PageView {
                shard,
                events: page
                    .events
                    .iter()
                    .map(|event| EventView::new(event, event.cursor.to_string()))
                    .collect(),
                next_cursor: page.next.to_string(),
                has_more,
            };
            let json = serde_json::to_string(&view).map_err(|error| not_rendered(&error))?;
            let waits_after = page.events.is_empty().then_some(page.next);
            Ok(FeedPage { json: json.into(), waits_after })
        })
        .await?
    }

    /// Reads at most `limit` events of `shard`, and gives them to `render` with whether there are more.
    ///
    /// # Errors
    /// [`ReadError`]
    pub(crate) async fn read<R>(
        &self,
        shard: u16,
        start: Start,
        limit: usize,
        render: impl FnOnce(&Page<'_>, bool) -> R,
    ) -> Result<R, ReadError> {
        let cursor = match start {
            Start::After(cursor) => cursor,
            Start::Oldest => Cursor::after(self.extent(shard).await?.before),
            Start::Latest => Cursor::after(self.extent(shard).await?.head),
        };
        let (rows, read_all) = self.rows(shard, cursor, limit).await?;
        if rows.first().is_none_or(|row| row.position > cursor.position + 1) {
            let extent = self.extent(shard).await?;
            check(cursor, extent, self.keep_s)?;
        }
        let plan = plan(&rows, cursor, limit);
        let found = feed::messages(&self.pool, &plan).await.map_err(|error| ApiError::database(&error))?;
        let page =
            plan.page(&found, (limit, PAGE_BYTES_MAX), |stored| MessageView::from(stored).content_bytes());
        metrics::counter!(GATEWAY_FEED_EVENTS).increment(page.events.len() as u64);
        Ok(render(&page, page.is_cut || !read_all))
    }

    /// The next rows: as many as a page of `limit` events needs, and whether these are all.
    async fn rows(&self, shard: u16, cursor: Cursor, limit: usize) -> Result<(Vec<Row>, bool), ApiError> {
        let mut rows: Vec<Row> = Vec::new();
        let mut events = 0;
        loop {
            let after = rows.last().map_or(cursor.position, |row| row.position);
            let next = feed::rows(&self.pool, shard, after, ROWS_AT_ONCE).await;
            let next = next.map_err(|error| ApiError::database(&error))?;
            metrics::counter!(GATEWAY_FEED_ROWS).increment(next.len() as u64);
            let read_all = next.len() < ROWS_AT_ONCE as usize;
            events += next.iter().map(at_least).sum::<u64>();
            rows.extend(next);
            let is_enough = events > limit as u64 + cursor.index || rows.len() >= ROWS_MAX;
            if read_all || is_enough {
                return Ok((rows, read_all));
            }
        }
    }
}

/// 503: `max` calls wait already.
pub(super) fn too_many_wait(max: usize) -> ApiError {
    let message = format!("{max} readers wait at this gateway: ask another one, or without wait_s");
    ApiError::unavailable(message, RetryDelay::Overloaded)
}

/// The events of a row, if no numbers are voided.
fn at_least(row: &Row) -> u64 {
    let body = &row.body;
    let others = body.corrected.len() + body.refused.len();
    let others = others + usize::from(body.group.is_some()) + usize::from(body.profile.is_some());
    body.ranges.iter().map(SeqRange::width).sum::<u64>() + others as u64
}
