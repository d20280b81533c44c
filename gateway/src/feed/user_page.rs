//! One page of the feed for a user: rows that do not concern it are passed over before messages are read.

use std::sync::Arc;

use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};
use shared::feed::{Cursor, Cursors, Reader, Row, plan_for};
use shared::metrics::GATEWAY_FEED_EVENTS;
use shared::mysql::{Pool, feed};
use tokio::time::{Duration, timeout};
use tokio_tungstenite::tungstenite::Utf8Bytes;

use super::pages::ChangeFeed;
use super::reading::Reading;
use super::tails::{NextRows, Tails};
use super::view::{EventView, not_rendered};
use crate::budget::{Budgets, ReplyBytes, cost, page_bytes};
use crate::membership::Memberships;
use crate::wire::api_error::ApiError;
use crate::wire::message::MessageView;

/// Rows of one page, whether they concern the user or not. Then the call returns, and is made again.
const ROWS_MAX: usize = 4_096;
/// A page has no further event when its messages have this many bytes.
const PAGE_BYTES_MAX: usize = 512 << 10;

/// What a page is read with.
#[derive(Debug, Clone, Copy)]
pub(super) struct PageContext<'f> {
    pub(super) feed: &'f ChangeFeed,
    pub(super) tails: &'f Tails,
    pub(super) memberships: &'f Memberships,
    pub(super) budgets: &'f Budgets,
    pub(super) deadline: Duration,
}

/// A page that is being made.
#[derive(Debug, Default)]
struct UserPage {
    events: Vec<Box<RawValue>>,
    /// Of its messages.
    bytes: usize,
    rows: usize,
    /// Reserved with the first event.
    reserved: Option<ReplyBytes>,
}

#[derive(Debug, Serialize)]
struct UserPageView<'a> {
    events: &'a [Box<RawValue>],
    next_cursor: String,
    has_more: bool,
}

/// A page as JSON.
///
/// # Errors
/// 500 if it cannot be serialized, which does not happen.
pub(super) fn render(
    events: &[Box<RawValue>],
    cursors: &Cursors,
    has_more: bool,
) -> Result<Utf8Bytes, ApiError> {
    let view = UserPageView { events, next_cursor: cursors.to_string(), has_more };
    serde_json::to_string(&view).map(Utf8Bytes::from).map_err(|error| not_rendered(&error))
}

/// The next page; `None` if there is nothing.
///
/// # Errors
/// 410, 429, 503
pub(super) async fn next(
    context: PageContext<'_>,
    reading: &mut Reading<'_>,
) -> Result<Option<Utf8Bytes>, ApiError> {
    let shards = context.feed.shards().get();
    // From any shard on, so that a busy one does not keep a reader from the others.
    let first = rand::random_range(0..shards);
    let mut page = UserPage::default();
    for shard in (first..shards).chain(0..first) {
        while reading.cursors.of(shard).position < reading.head(shard) {
            if page.rows >= ROWS_MAX {
                return page.finish(reading, true).map(Some);
            }
            match page.add(context, reading, shard).await? {
                Added::All => {}
                Added::NothingVisible => break,
                Added::UntilFull => return page.finish(reading, true).map(Some),
            }
        }
    }
    if page.events.is_empty() { Ok(None) } else { page.finish(reading, false).map(Some) }
}

/// How the next rows of a shard were added.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Added {
    /// To their end.
    All,
    /// The next row cannot be seen yet.
    NothingVisible,
    /// The page is full.
    UntilFull,
}

impl UserPage {
    /// Adds what the next rows of `shard` have for the user.
    async fn add(
        &mut self,
        context: PageContext<'_>,
        reading: &mut Reading<'_>,
        shard: u16,
    ) -> Result<Added, ApiError> {
        let cursor = reading.cursors.of(shard);
        let next = context.tails.rows(shard, cursor.position).await;
        let NextRows { rows, read } = next.map_err(|error| ApiError::database(&error))?;
        reading.payer.spend(cost::of_rows(read as u64));
        let Some(end) = rows.last().map(|row| Cursor::after(row.position)) else {
            // With events, the next call finds it: they must not be passed over by the cursor of a refusal.
            if self.events.is_empty() {
                context.feed.check(&reading.cursors).await?;
            }
            return Ok(Added::NothingVisible);
        };
        self.rows += rows.len();
        let reader = up_to_date(context, reading, &rows).await?;
        let added = self.add_visible(context, reading, (shard, end), (&reader, &rows)).await;
        reading.reader = Some(reader);
        added
    }

    async fn add_visible(
        &mut self,
        context: PageContext<'_>,
        reading: &mut Reading<'_>,
        (shard, end): (u16, Cursor),
        (reader, rows): (&Reader, &[Arc<Row>]),
    ) -> Result<Added, ApiError> {
        if !rows.iter().any(|row| reader.is_concerned_by(row)) {
            reading.cursors.set(shard, end);
            return Ok(Added::All);
        }
        if self.reserved.is_none() {
            let bytes = page_bytes(reading.limit);
            let reserved = ReplyBytes::reserve(context.budgets, reading.payer, None, bytes);
            let reserved = timeout(context.deadline, reserved).await.map_err(|_| reading.payer.exceeded())?;
            self.reserved = Some(reserved);
        }
        let limit = usize::from(reading.limit);
        self.add_events(context.feed.pool(), &mut reading.cursors, (shard, limit), (reader, rows)).await
    }

    async fn add_events(
        &mut self,
        pool: &Pool,
        cursors: &mut Cursors,
        (shard, limit): (u16, usize),
        (reader, rows): (&Reader, &[Arc<Row>]),
    ) -> Result<Added, ApiError> {
        let places = limit - self.events.len();
        let plan = plan_for(reader, rows.iter().map(|row| &**row), cursors.of(shard), places);
        let found = feed::messages(pool, &plan).await.map_err(|error| ApiError::database(&error))?;
        let cursor_bytes = cursors.to_string().len();
        let mut bytes = 0;
        let left = PAGE_BYTES_MAX.saturating_sub(self.bytes);
        let size = |stored: &_| MessageView::from(stored).content_bytes() + cursor_bytes;
        let page = plan.page(&found, (places, left), size);
        for event in &page.events {
            cursors.set(shard, event.cursor);
            let event = to_raw_value(&EventView::new(event, cursors.to_string()));
            let event = event.map_err(|error| not_rendered(&error))?;
            bytes += event.get().len();
            self.events.push(event);
        }
        metrics::counter!(GATEWAY_FEED_EVENTS).increment(page.events.len() as u64);
        cursors.set(shard, page.next);
        self.bytes += bytes;
        let is_full = self.events.len() >= limit || self.bytes >= PAGE_BYTES_MAX;
        Ok(if page.is_cut || is_full { Added::UntilFull } else { Added::All })
    }

    fn finish(self, reading: &Reading<'_>, has_more: bool) -> Result<Utf8Bytes, ApiError> {
        let page = render(&self.events, &reading.cursors, has_more)?;
        reading.payer.spend(cost::of_bytes(page.len()));
        Ok(match self.reserved {
            Some(reserved) => reserved.attach(page),
            None => page,
        })
    }
}

/// What the user sees, as of `rows`: read once for a call, and again after rows that may change it.
async fn up_to_date(
    context: PageContext<'_>,
    reading: &mut Reading<'_>,
    rows: &[Arc<Row>],
) -> Result<Reader, ApiError> {
    let is_old = |reader: &Reader| rows.iter().any(|row| reader.is_changed_by(row));
    match reading.reader.take() {
        Some(known) if !is_old(&known) => Ok(known),
        before => {
            let now = context.memberships.feed_reader(reading.user).await?;
            reading.payer.spend(cost::of_count(now.groups()));
            Ok(match before {
                Some(before) => now.after(before),
                None => now,
            })
        }
    }
}
