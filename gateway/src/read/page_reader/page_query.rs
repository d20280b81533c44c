//! Reads one page of a conversation from MySQL and renders it as a reply frame.

use std::time::{Duration, Instant};

use shared::message::Stored;
use shared::mysql::Pool;
use shared::mysql::timeline::{self, Direction};
use tokio::sync::Semaphore;

use super::page_key::{PageKey, PageReply};
use crate::wire::api_error::ApiError;
use crate::wire::message::MessageView;
use crate::wire::reply;

/// Contents of one page, in bytes. The page ends before the message that would exceed this, but has at least one.
const PAGE_BYTES_MAX: usize = 512 * 1024;

#[derive(Debug)]
pub(super) struct PageQuery {
    pool: Pool,
    permits: Semaphore,
}

impl PageQuery {
    pub(super) fn new(pool: Pool, concurrency: usize) -> Self {
        Self { pool, permits: Semaphore::new(concurrency) }
    }

    /// The page as it is now, and how long MySQL took.
    pub(super) async fn read(&self, key: &PageKey) -> (PageReply, Duration) {
        // The semaphore is never closed.
        let Ok(_permit) = self.permits.acquire().await else {
            return (Err(ApiError::Internal), Duration::ZERO);
        };
        let start = Instant::now();
        (read_page(&self.pool, key).await, start.elapsed())
    }
}

async fn read_page(pool: &Pool, key: &PageKey) -> PageReply {
    // One row more than the page has says whether there are more.
    let limit = u32::from(key.limit) + 1;
    let rows = timeline::read(pool, &key.conversation, key.cursor, key.direction, limit);
    let mut rows = rows.await.map_err(|e| ApiError::database(&e))?;
    rows.retain(|row| row.seq > key.floor);
    let shown = fitting(&rows, usize::from(key.limit), PAGE_BYTES_MAX);
    let has_more = shown < rows.len();
    let messages: Vec<_> = rows[..shown].iter().map(MessageView::from).collect();
    let next = rows[..shown].last().map_or(key.cursor, |last| last.seq);
    debug_assert!(key.direction == Direction::Backward || next >= key.cursor);
    Ok(reply::pull(&key.conversation.wire(), &messages, next, has_more))
}

/// How many of `rows` fit on a page of `limit` messages and `bytes_max` bytes of contents.
fn fitting(rows: &[Stored], limit: usize, bytes_max: usize) -> usize {
    let mut bytes = 0;
    let fits = |row: &&Stored| {
        let is_first = bytes == 0;
        bytes += row.kind.body_bytes();
        is_first || bytes <= bytes_max
    };
    rows.iter().take(limit).take_while(fits).count()
}

#[cfg(test)]
mod tests {
    use shared::message::fixture;

    use super::*;

    #[test]
    fn a_page_is_bounded_in_messages_and_bytes_and_has_at_least_one_message() {
        let rows = |count: usize, bytes: usize| {
            let numbered = fixture::numbered("group_1", 1, "alice", "m");
            let numbered = fixture::with_kind(numbered, fixture::text(&"x".repeat(bytes)));
            let row = Stored { message: numbered.message, seq: numbered.seq, is_recalled: false };
            vec![row; count]
        };
        assert_eq!(fitting(&rows(0, 1), 9, PAGE_BYTES_MAX), 0);
        assert_eq!(fitting(&rows(3, 1), 2, PAGE_BYTES_MAX), 2);
        assert_eq!(fitting(&rows(200, 4_096), 500, PAGE_BYTES_MAX), 128);
        assert_eq!(fitting(&rows(3, 100), 9, 200), 2);
        assert_eq!(fitting(&rows(3, 100), 9, 199), 1);
        assert_eq!(fitting(&rows(3, 100), 9, 10), 1);
    }
}
