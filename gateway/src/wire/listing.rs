//! A conversation as its user sees it in a list: in a sync's answer and over HTTP.

use std::sync::Arc;

use serde::Serialize;
use shared::conversation::Conversation;
use shared::ids::Seq;
use shared::mysql::timeline::StoredMessage;

use super::message::MessageView;

/// One conversation in a user's list.
#[derive(Debug, Clone)]
pub enum Listed {
    /// The user is in it.
    Conversation {
        /// Which one.
        conversation: Conversation,
        /// Its last number.
        last_seq: Seq,
        /// How far the user has read.
        last_ack_seq: Seq,
        /// How many messages of others are above that, and above the user's joining.
        unread: u64,
        /// The one with the last number.
        last_message: Option<Arc<StoredMessage>>,
    },
    /// The user is not in it any more.
    Removed(Conversation),
}

/// Some of a user's conversations.
#[derive(Debug, Clone)]
pub struct Listing {
    /// In the order that was asked for.
    pub entries: Vec<Listed>,
    /// Where to go on.
    pub next: u64,
    /// There is more to read right away.
    pub has_more: bool,
    /// The cursor could not be answered: this is the beginning of everything, not what changed.
    pub reset: bool,
}

/// Borrowed from a [`Listed`].
#[derive(Debug, Serialize)]
pub struct EntryView<'a> {
    conversation_id: String,
    #[serde(flatten)]
    state: State<'a>,
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
enum State<'a> {
    In {
        last_seq: Seq,
        last_ack_seq: Seq,
        unread: u64,
        #[serde(skip_serializing_if = "Option::is_none")]
        last_message: Option<MessageView<'a>>,
    },
    Out {
        removed: bool,
    },
}

impl<'a> EntryView<'a> {
    /// The view of one entry.
    #[must_use]
    pub fn new(listed: &'a Listed) -> Self {
        match listed {
            Listed::Conversation { conversation, last_seq, last_ack_seq, unread, last_message } => Self {
                conversation_id: conversation.wire(),
                state: State::In {
                    last_seq: *last_seq,
                    last_ack_seq: *last_ack_seq,
                    unread: *unread,
                    last_message: last_message.as_deref().map(MessageView::from),
                },
            },
            Listed::Removed(conversation) => {
                Self { conversation_id: conversation.wire(), state: State::Out { removed: true } }
            }
        }
    }
}
