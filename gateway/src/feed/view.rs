//! Events as JSON.

use serde::Serialize;
use shared::conversation::{Conversation, Kind};
use shared::feed::{Corrected, Event, EventKind, GroupChanged, RefusedMessage};
use shared::ids::{MsgId, Seq, UserId};

use crate::wire::api_error::ApiError;
use crate::wire::message::MessageView;

/// 500: a page cannot be serialized, which does not happen.
pub(super) fn not_rendered(error: &serde_json::Error) -> ApiError {
    tracing::error!(%error, "A page of the change feed cannot be rendered");
    ApiError::Internal
}

/// A page of events.
#[derive(Debug, Serialize)]
pub(super) struct PageView<'a> {
    pub(super) shard: u16,
    pub(super) events: Vec<EventView<'a>>,
    pub(super) next_cursor: String,
    pub(super) has_more: bool,
}

/// One event.
#[derive(Debug, Serialize)]
pub(crate) struct EventView<'a> {
    cursor: String,
    time_ms: i64,
    #[serde(flatten)]
    kind: KindView<'a>,
}

impl<'a> EventView<'a> {
    /// An event with the text of the cursor after it.
    pub(crate) fn new(event: &'a Event<'a>, cursor: String) -> Self {
        let Event { cursor: _, written_at, kind } = event;
        Self { cursor, time_ms: *written_at, kind: KindView::from(kind) }
    }
}

/// A conversation, with its users if it is a private one: its id does not always tell them.
#[derive(Debug, Serialize)]
struct Place<'a> {
    conversation_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_ids: Option<[&'a str; 2]>,
}

impl<'a> From<&'a Conversation> for Place<'a> {
    fn from(conversation: &'a Conversation) -> Self {
        let user_ids = match conversation.kind() {
            Kind::Private(lo, hi) => Some([lo, hi]),
            Kind::Group => None,
        };
        Self { conversation_id: conversation.wire().into_owned(), user_ids }
    }
}

#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum KindView<'a> {
    Message {
        #[serde(flatten)]
        place: Place<'a>,
        message: MessageView<'a>,
    },
    Voided {
        #[serde(flatten)]
        place: Place<'a>,
        first_seq: Seq,
        last_seq: Seq,
    },
    Corrected {
        #[serde(flatten)]
        place: Place<'a>,
        sender_id: &'a UserId,
        msg_id: &'a MsgId,
        told_seq: Seq,
        seq: Seq,
    },
    Refused {
        #[serde(flatten)]
        place: Place<'a>,
        sender_id: &'a UserId,
        msg_id: &'a MsgId,
        seq: Seq,
        code: u16,
    },
    Group {
        conversation_id: &'a str,
        version: u64,
        change: &'a str,
        #[serde(skip_serializing_if = "<[UserId]>::is_empty")]
        joined: &'a [UserId],
        #[serde(skip_serializing_if = "<[UserId]>::is_empty")]
        left: &'a [UserId],
        #[serde(skip_serializing_if = "Option::is_none")]
        user_id: Option<&'a UserId>,
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        is_cut: bool,
    },
    Profile {
        user_id: &'a UserId,
    },
}

impl<'a> From<&'a EventKind<'a>> for KindView<'a> {
    fn from(kind: &'a EventKind<'a>) -> Self {
        match kind {
            EventKind::Message(stored) => Self::Message {
                place: Place::from(&stored.message.conversation),
                message: MessageView::from(*stored),
            },
            EventKind::Voided { conversation, first, last } => {
                Self::Voided { place: Place::from(*conversation), first_seq: *first, last_seq: *last }
            }
            EventKind::Corrected(Corrected { conversation, sender, msg_id, told, seq }) => Self::Corrected {
                place: Place::from(conversation),
                sender_id: sender,
                msg_id,
                told_seq: *told,
                seq: *seq,
            },
            EventKind::Refused(RefusedMessage { conversation, sender, msg_id, seq, code }) => Self::Refused {
                place: Place::from(conversation),
                sender_id: sender,
                msg_id,
                seq: *seq,
                code: *code,
            },
            EventKind::Group(GroupChanged { group, version, change, joined, left, member, is_cut }) => {
                Self::Group {
                    conversation_id: group.key(),
                    version: *version,
                    change,
                    joined,
                    left,
                    user_id: member.as_ref(),
                    is_cut: *is_cut,
                }
            }
            EventKind::Profile(user_id) => Self::Profile { user_id },
        }
    }
}

#[cfg(test)]
mod tests {
    use shared::feed::Cursor;

    use super::*;

    #[test]
    fn the_users_of_a_private_conversation_are_shown_beside_its_id() {
        let conversation = Conversation::from_key("private_a_b c").unwrap();
        let (cursor, kind) = (
            Cursor { position: 4, index: 2 },
            EventKind::Voided { conversation: &conversation, first: Seq(3), last: Seq(5) },
        );
        let event = Event { cursor, written_at: 7, kind };
        assert_eq!(
            serde_json::to_string(&EventView::new(&event, event.cursor.to_string())).unwrap(),
            r#"{"cursor":"4.2","time_ms":7,"type":"voided","conversation_id":"private_a_b_c","user_ids":["a_b","c"],"first_seq":3,"last_seq":5}"#
        );
    }
}
