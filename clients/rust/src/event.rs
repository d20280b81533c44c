//! What a client tells its program.

use std::time::Duration;

use crate::message::{Message, Outgoing, Refusal};

/// State of the connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConnectionState {
    /// An attempt is in progress.
    Connecting,
    /// The next attempt begins after this time.
    Waiting {
        /// From the moment of this state on.
        delay: Duration,
        /// Why there is no connection.
        reason: String,
    },
    /// Logged in.
    Online,
    /// Reconnecting is of no use, or the program stopped the client.
    Stopped {
        /// Close code, HTTP status, or 0 if the program stopped it; and a sentence.
        reason: Refusal,
    },
}

/// What a client tells its program.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
#[expect(clippy::large_enum_variant, reason = "nearly all events are messages")]
pub enum Event {
    /// A message. Those of one conversation come in its order and without gaps, also those that were missed while
    /// offline.
    Message(Message),
    /// A message of the outbox changed its state.
    Sent(Outgoing),
    /// State of the connection.
    Connection(ConnectionState),
    /// All messages that were missed have come before this event. Once for each connection.
    CaughtUp,
    /// Something that the list shows of this conversation changed: unread count, read position, newest message.
    Conversation {
        /// The conversation's id.
        conversation_id: String,
    },
    /// A user is writing.
    Typing {
        /// The conversation's id.
        conversation_id: String,
        /// The user.
        user_id: String,
    },
    /// The other user of a private chat has read up to `seq`.
    Read {
        /// The conversation's id.
        conversation_id: String,
        /// The user.
        user_id: String,
        /// The sequence number.
        seq: u64,
    },
    /// The user came into a group, or went out of it, or it is no more.
    Membership {
        /// The group's id.
        conversation_id: String,
        /// What happened.
        change: MembershipChange,
    },
    /// Name, role, mute or anything else of a group changed: ask for what you show of it.
    Group {
        /// The group's id.
        conversation_id: String,
    },
    /// A user wants to add this one to a group.
    Invited {
        /// The group's id.
        conversation_id: String,
        /// The user who invites.
        by: String,
    },
    /// An event of the server that this version has no name for.
    Other {
        /// The conversation's id, if there is one.
        conversation_id: Option<String>,
        /// The event.
        payload: serde_json::Value,
    },
    /// The client goes on without something: a token that was not renewed, a store that cannot write.
    Trouble(String),
    /// The program was so far behind that events other than messages were dropped. What they told can be asked for.
    Missed,
}

/// What happened to a membership.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MembershipChange {
    /// The user is in the group now.
    Joined,
    /// The user is not in the group any more.
    Left,
    /// The group is no more.
    Dismissed,
}
