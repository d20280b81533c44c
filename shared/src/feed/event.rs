//! Events, as readers see them.

use super::body::{Corrected, GroupChanged, RefusedMessage};
use super::cursor::Cursor;
use crate::conversation::Conversation;
use crate::ids::{Seq, UserId};
use crate::message::Stored;

/// One event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event<'a> {
    /// The place after it.
    pub cursor: Cursor,
    /// When its transaction wrote the row, in milliseconds since 1970.
    pub written_at: i64,
    /// What it is.
    pub kind: EventKind<'a>,
}

/// What an event is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EventKind<'a> {
    /// An entry of a timeline in its present state.
    Message(&'a Stored),
    /// Numbers that no entry has or will have.
    Voided {
        /// The conversation.
        conversation: &'a Conversation,
        /// The first of them.
        first: Seq,
        /// The last of them.
        last: Seq,
    },
    /// A message has another number than its sender was told.
    Corrected(&'a Corrected),
    /// An accepted message is not stored.
    Refused(&'a RefusedMessage),
    /// A group or its members changed.
    Group(&'a GroupChanged),
    /// The profile of this user changed.
    Profile(&'a UserId),
}
