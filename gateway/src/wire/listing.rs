//! Entries of a user's list of conversations, in a sync reply and over HTTP.

use std::borrow::Cow;
use std::sync::Arc;

use serde::Serialize;
use shared::conversation::Conversation;
use shared::ids::{Seq, UserId};
use shared::message::Stored;
use shared::mysql::views::ViewSettings;

use super::message::MessageView;

/// One conversation in a user's list.
#[derive(Debug, Clone)]
pub enum Listed {
    /// A conversation of the user.
    Conversation {
        /// Its id.
        conversation: Conversation,
        /// The sequence number of its newest message.
        last_seq: Seq,
        /// The user's read position.
        last_ack_seq: Seq,
        /// Messages of others after the read position and after the user joined.
        unread: u64,
        /// Those of them that mention the user, if there are any.
        mentions: Option<UnreadMentions>,
        /// What the user has set, if that is not all at its default.
        settings: Option<Box<ViewSettings>>,
        /// The newest message that is no change entry, if the user may see it.
        last_message: Option<Arc<Stored>>,
    },
    /// The user is no longer a member.
    Removed(Conversation),
    /// The user has cleared it, and there is no newer message.
    Cleared(Conversation),
}

/// The unread messages that mention a user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnreadMentions {
    /// How many there are.
    pub count: u64,
    /// The first of them.
    pub first: Seq,
}

/// A page of a user's conversations.
#[derive(Debug, Clone)]
pub struct Listing {
    /// In the requested order.
    pub entries: Vec<Listed>,
    /// The cursor of the next page.
    pub next: u64,
    /// Another page follows.
    pub has_more: bool,
    /// The cursor was too old or unknown: this is the first page of the complete list, not of the changes.
    pub reset: bool,
    /// The conversations that were looked at to make it.
    pub examined: usize,
    /// The messages that were counted to tell unread ones, beside those in memory.
    pub counted: u64,
}

/// The JSON of a [`Listed`].
#[derive(Debug, Serialize)]
pub struct EntryView<'a> {
    conversation_id: Cow<'a, str>,
    /// The other user of a private chat.
    #[serde(skip_serializing_if = "Option::is_none")]
    peer: Option<&'a str>,
    #[serde(flatten)]
    state: State<'a>,
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
enum State<'a> {
    Member {
        last_seq: Seq,
        last_ack_seq: Seq,
        unread: u64,
        #[serde(skip_serializing_if = "Option::is_none")]
        mentions: Option<u64>,
        #[serde(skip_serializing_if = "Option::is_none")]
        mention_seq: Option<Seq>,
        #[serde(skip_serializing_if = "Option::is_none")]
        settings: Option<&'a ViewSettings>,
        #[serde(skip_serializing_if = "Option::is_none")]
        last_message: Option<MessageView<'a>>,
    },
    Removed {
        removed: bool,
    },
    Cleared {
        cleared: bool,
    },
}

impl<'a> EntryView<'a> {
    /// The JSON of one entry of `reader`.
    #[must_use]
    pub fn new(listed: &'a Listed, reader: &UserId) -> Self {
        let state = match listed {
            Listed::Conversation {
                last_seq, last_ack_seq, unread, mentions, settings, last_message, ..
            } => State::Member {
                last_seq: *last_seq,
                last_ack_seq: *last_ack_seq,
                unread: *unread,
                mentions: mentions.map(|mentions| mentions.count),
                mention_seq: mentions.map(|mentions| mentions.first),
                settings: settings.as_deref(),
                last_message: last_message.as_deref().map(MessageView::from),
            },
            Listed::Removed(_) => State::Removed { removed: true },
            Listed::Cleared(_) => State::Cleared { cleared: true },
        };
        let (Listed::Conversation { conversation, .. }
        | Listed::Removed(conversation)
        | Listed::Cleared(conversation)) = listed;
        Self { conversation_id: conversation.wire(), peer: conversation.peer_of(reader.as_str()), state }
    }
}
