//! A conversation as its user sees it in a list: in a sync's answer and over HTTP.

use serde::Serialize;
use shared::ids::Seq;

use super::message::MessageView;
use crate::read::Listed;

/// Borrowed from what was read.
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
