//! One page of a conversation as a reply frame.

use shared::mysql::Pool;
use shared::mysql::timeline::{self, Direction};
use tokio_tungstenite::tungstenite::Utf8Bytes;

use super::shared_reads::Page;
use crate::membership::database_away;
use crate::wire::message::MessageView;
use crate::wire::refusal::Refusal;
use crate::wire::reply;

/// A reply ends before the message that would take its contents beyond this; the client goes on from there.
const REPLY_BYTES_MAX: usize = 512 * 1024;

/// Reads a page and renders it.
pub(super) async fn read_page(pool: &Pool, page: &Page) -> Result<Utf8Bytes, Refusal> {
    // One more than asked for says whether there is more.
    let limit = u32::from(page.limit) + 1;
    let rows = timeline::read(pool, &page.conversation, page.cursor, page.direction, limit);
    let mut rows = rows.await.map_err(|e| database_away(&e))?;
    // Backward: what came before is not for this reader.
    rows.retain(|row| row.seq > page.floor);
    let mut bytes = 0;
    let fits = |row: &&timeline::StoredMessage| {
        let first = bytes == 0;
        bytes += row.content.len();
        first || bytes <= REPLY_BYTES_MAX
    };
    let shown = rows.iter().take(usize::from(page.limit)).take_while(fits).count();
    let has_more = shown < rows.len();
    let messages: Vec<_> = rows[..shown].iter().map(MessageView::from).collect();
    let next = rows[..shown].last().map_or(page.cursor, |last| last.seq);
    debug_assert!(page.direction == Direction::Backward || next >= page.cursor);
    Ok(reply::pull(&page.conversation.wire(), &messages, next, has_more))
}
