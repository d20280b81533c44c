//! Reads one page of a conversation from MySQL and renders it as a reply frame.

use std::time::{Duration, Instant};

use shared::mysql::Pool;
use shared::mysql::timeline::{self, Direction};
use tokio::sync::Semaphore;

use super::page_key::{PageKey, PageReply};
use crate::wire::api_error::ApiError;
use crate::wire::message::MessageView;
use crate::wire::name::ConversationName;
use crate::wire::reply;

/// Contents of one page, in bytes of JSON. The page ends before the message that would exceed this, but has at least one.
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
        metrics::counter!(shared::metrics::GATEWAY_PAGE_QUERIES).increment(1);
        let start = Instant::now();
        (read_page(&self.pool, key).await, start.elapsed())
    }
}

async fn read_page(pool: &Pool, key: &PageKey) -> PageReply {
    // One row more than the page has says whether there are more.
    let limit = u32::from(key.limit) + 1;
    let (mut rows, looked_to) = if key.changes {
        let rows = timeline::read(pool, &key.conversation, key.cursor, key.direction, limit);
        (rows.await.map_err(|e| ApiError::database(&e))?, None)
    } else {
        let read = timeline::read_messages(pool, &key.conversation, key.cursor, key.direction, limit);
        let read = read.await.map_err(|e| ApiError::database(&e))?;
        (read.rows, Some((read.looked_to, read.has_more)))
    };
    rows.retain(|row| row.seq > key.floor);
    let messages: Vec<_> = rows.iter().map(MessageView::from).collect();
    let shown = fitting(&messages, usize::from(key.limit), PAGE_BYTES_MAX);
    // A page that has more has at least one message, which is further than the cursor.
    let (next, has_more) = match looked_to {
        // The cursor moves past change entries, too.
        Some((looked_to, has_more)) if shown == rows.len() => (looked_to, has_more && looked_to > key.floor),
        _ => (rows[..shown].last().map_or(key.cursor, |last| last.seq), shown < rows.len()),
    };
    debug_assert!(key.direction == Direction::Backward || next >= key.cursor);
    let name = match &key.reader {
        Some(reader) => ConversationName::of(&key.conversation, reader.as_str()),
        None => ConversationName::of_group(&key.conversation),
    };
    Ok(reply::pull(&name, &messages[..shown], next, has_more))
}

/// How many of `messages` fit on a page of `limit` messages and `bytes_max` bytes of contents: at least one, if there is
/// one.
fn fitting(messages: &[MessageView<'_>], limit: usize, bytes_max: usize) -> usize {
    let mut bytes = 0;
    let fits = |message: &&MessageView<'_>| {
        bytes += message.content_bytes();
        bytes <= bytes_max
    };
    let fitting = messages.iter().take(limit).take_while(fits).count();
    fitting.max(1).min(messages.len())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use shared::ids::Seq;
    use shared::message::{Stored, fixture};

    use super::*;

    fn row(seq: u64, content: &str) -> Stored {
        let numbered = fixture::numbered("group_1", seq, "alice", "m");
        let numbered = fixture::with_kind(numbered, fixture::text(content));
        Stored::new(numbered.message, numbered.seq)
    }

    fn fitting_of(rows: &[Stored], limit: usize, bytes_max: usize) -> usize {
        let messages: Vec<_> = rows.iter().map(MessageView::from).collect();
        fitting(&messages, limit, bytes_max)
    }

    #[test]
    fn a_page_is_bounded_in_messages_and_bytes_and_has_at_least_one_message() {
        let rows = |count: usize, bytes: usize| vec![row(1, &"x".repeat(bytes)); count];
        assert_eq!(fitting_of(&rows(0, 1), 9, PAGE_BYTES_MAX), 0);
        assert_eq!(fitting_of(&rows(3, 1), 2, PAGE_BYTES_MAX), 2);
        assert_eq!(fitting_of(&rows(200, 4_096), 500, PAGE_BYTES_MAX), 128);
        assert_eq!(fitting_of(&rows(3, 100), 9, 200), 2);
        assert_eq!(fitting_of(&rows(3, 100), 9, 199), 1);
        assert_eq!(fitting_of(&rows(3, 100), 9, 10), 1);
    }

    #[test]
    fn the_bytes_of_a_page_are_those_of_its_json() {
        let rows = vec![row(1, &"\u{1}".repeat(4_096)); 500];
        assert_eq!(fitting_of(&rows, 500, PAGE_BYTES_MAX), 21, "24 KiB each");
    }

    proptest! {
        #[test]
        fn every_page_has_a_message_or_is_the_last_one(
            sizes in proptest::collection::vec(1..300_usize, 0..40),
            (limit, bytes_max) in (1..12_usize, 0..1_000_usize),
        ) {
            let rows: Vec<_> = (1..).zip(&sizes).map(|(seq, bytes)| row(seq, &"\n".repeat(*bytes))).collect();
            let (mut rest, mut shown) = (&rows[..], Vec::new());
            while !rest.is_empty() {
                // As the statement reads them: one more than the page has.
                let read = &rest[..rest.len().min(limit + 1)];
                let count = fitting_of(read, limit, bytes_max);
                prop_assert!((1..=limit).contains(&count));
                let bytes: usize = read[..count].iter().map(|row| 2 * row.message.kind.body_bytes()).sum();
                prop_assert!(count == 1 || bytes <= bytes_max);
                shown.extend(read[..count].iter().map(|row| row.seq));
                rest = &rest[count..];
            }
            prop_assert!(shown.iter().copied().eq((1..=sizes.len() as u64).map(Seq)));
        }
    }
}
