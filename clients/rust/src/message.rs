//! Messages as a program sends and receives them.

use serde::{Deserialize, Serialize};

use crate::protocol::{Refused, StoredMessage};

/// A text.
pub const TEXT: u32 = 1;
/// An image; its content is an address.
pub const IMAGE: u32 = 2;
/// A recall of an earlier message.
pub const RECALL: u32 = 3;
/// The types of change entries: recalls, edits, reactions and pins. They count as no message.
pub const CHANGES: std::ops::RangeInclusive<u32> = 3..=6;
/// A change of the group, which the server tells in `meta`. It counts as no message.
pub const SYSTEM: u32 = 8;

/// Whether messages of this type count as unread.
#[must_use]
pub(crate) fn counts(msg_type: u32) -> bool {
    !CHANGES.contains(&msg_type) && msg_type != SYSTEM
}

/// A message of a conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// The conversation's id.
    pub conversation_id: String,
    /// The other user of a private chat.
    pub peer: Option<String>,
    /// Whether this client's user sent it, on whatever device.
    pub mine: bool,
    /// The message itself. A recall (`msg_type` 3) says in `recall_seq` which earlier message it recalls.
    pub message: StoredMessage,
}

/// What is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Draft {
    pub(crate) content: String,
    pub(crate) msg_type: u32,
    pub(crate) msg_id: Option<String>,
    pub(crate) recall_seq: Option<u64>,
}

impl Draft {
    /// A text of 1 to 4,096 bytes.
    #[must_use]
    pub fn text(content: impl Into<String>) -> Self {
        Self { content: content.into(), msg_type: TEXT, msg_id: None, recall_seq: None }
    }

    /// An image at this address.
    #[must_use]
    pub fn image(address: impl Into<String>) -> Self {
        Self { msg_type: IMAGE, ..Self::text(address) }
    }

    pub(crate) fn recall(seq: u64) -> Self {
        Self { msg_type: RECALL, recall_seq: Some(seq), ..Self::text("") }
    }

    /// Gives it an id instead of a random one. The same id is the same message: a program that may have sent it in an
    /// earlier run, and does not know, sends it once this way.
    #[must_use]
    pub fn with_id(self, msg_id: impl Into<String>) -> Self {
        Self { msg_id: Some(msg_id.into()), ..self }
    }
}

impl From<&str> for Draft {
    fn from(content: &str) -> Self {
        Self::text(content)
    }
}

impl From<String> for Draft {
    fn from(content: String) -> Self {
        Self::text(content)
    }
}

/// Why the server refused something.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{code}: {message}")]
pub struct Refusal {
    /// As in the protocol's table of errors.
    pub code: u16,
    /// A sentence that says what was wrong and how to mend it.
    pub message: String,
}

impl Refusal {
    /// The refusal in a reply that is not of code 0.
    pub(crate) fn of(code: u16, payload: &serde_json::Value) -> Self {
        let message = match Refused::deserialize(payload) {
            Ok(Refused::Later { message, .. } | Refused::Sentence(message)) => message.into_owned(),
            Err(_) => format!("refused with code {code}"),
        };
        Self { code, message }
    }
}

/// How far a message has come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Delivery {
    /// It is in the outbox. It is sent, and sent again with the same id, until the server answers.
    Sending,
    /// The server has promised to store it.
    Accepted {
        /// Its sequence number, which may still change.
        seq: u64,
    },
    /// It is in the conversation.
    Stored {
        /// Its final sequence number.
        seq: u64,
    },
    /// The server refused it, at once or by a second answer. It stays in the outbox until it is discarded.
    Failed(Refusal),
}

/// A message of the outbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outgoing {
    /// The conversation's id.
    pub conversation_id: String,
    /// Its own id.
    pub msg_id: String,
    /// How far it has come.
    pub delivery: Delivery,
    /// The server knows this id with another content, which stays.
    pub content_differs: bool,
}
