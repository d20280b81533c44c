//! A conversation as one reader names it.

use std::borrow::Cow;

use shared::conversation::{Conversation, Kind};

/// The id of a conversation, and the other user if it is a private one, so that no client has to take the id apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConversationName<'c> {
    id: Cow<'c, str>,
    peer: Option<&'c str>,
}

impl<'c> ConversationName<'c> {
    /// The name for `reader`. A user who is not one of the two gets no peer.
    #[must_use]
    pub fn of(conversation: &'c Conversation, reader: &str) -> Self {
        Self { id: conversation.wire(), peer: conversation.peer_of(reader) }
    }

    /// The name of a group, which is the same for all readers.
    #[must_use]
    pub fn of_group(group: &'c Conversation) -> Self {
        debug_assert!(group.kind() == Kind::Group, "a private conversation has a peer for each reader");
        Self { id: group.wire(), peer: None }
    }

    /// The value of `conversation_id`.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The value of `peer`.
    #[must_use]
    pub fn peer(&self) -> Option<&'c str> {
        self.peer
    }
}
