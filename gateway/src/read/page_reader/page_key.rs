//! What identifies a page.

use shared::conversation::Conversation;
use shared::ids::{Seq, UserId};
use shared::mysql::timeline::Direction;
use tokio_tungstenite::tungstenite::Utf8Bytes;

use crate::wire::api_error::ApiError;

/// A request for a page. Equal requests have equal replies.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(in crate::read) struct PageKey {
    pub(in crate::read) conversation: Conversation,
    /// The reader of a private conversation, whose peer is in the reply; `None` for a group.
    pub(in crate::read) reader: Option<UserId>,
    pub(in crate::read) cursor: Seq,
    pub(in crate::read) direction: Direction,
    /// Messages.
    pub(in crate::read) limit: u16,
    /// Messages at or below are hidden from this reader.
    pub(in crate::read) floor: Seq,
    /// Change entries are on the page, too.
    pub(in crate::read) changes: bool,
}

/// A page as the frame of a pull's reply.
pub(super) type PageReply = Result<Utf8Bytes, ApiError>;

#[cfg(test)]
impl PageKey {
    /// 50 messages after `cursor` of some group.
    pub(super) fn after(cursor: u64) -> Self {
        Self {
            conversation: Conversation::from_key("group_1").unwrap(),
            reader: None,
            cursor: Seq(cursor),
            direction: Direction::Forward,
            limit: 50,
            floor: Seq::ZERO,
            changes: true,
        }
    }
}
