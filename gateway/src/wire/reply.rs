//! Replies, pushes and events: every frame that the server sends, except errors.

use serde::Serialize;
use serde_json::value::RawValue;
use shared::ids::{DeviceId, MsgId, Seq, UserId};
use tokio_tungstenite::tungstenite::Utf8Bytes;

use super::frame::Frame;
use super::listing::{EntryView, Listing};
use super::message::MessageView;
use super::name::ConversationName;
use super::request::Cmd;
use super::version::PROTOCOL;

/// A frame without a payload.
type Bare<'a> = Frame<'a, ()>;

/// The reply to a heartbeat (cmd 0).
#[must_use]
pub fn heartbeat() -> Utf8Bytes {
    Utf8Bytes::from_static(r#"{"cmd":0,"code":0}"#)
}

/// The reply to a heartbeat with a sync cursor (cmd 0): `newest` is the version of the user's newest change.
#[must_use]
pub fn heartbeat_at(newest: u64) -> Utf8Bytes {
    Bare { next_cursor_seq: Some(Seq(newest)), ..Frame::new(Cmd::HEARTBEAT, 0) }.render()
}

/// The reply to a login (cmd 1).
#[must_use]
pub fn login(
    user: &UserId,
    device: &DeviceId,
    server_time: i64,
    heartbeat_ms: u64,
    features: &[&str],
) -> Utf8Bytes {
    #[derive(Serialize)]
    struct Payload<'a> {
        user_id: &'a UserId,
        device_id: &'a DeviceId,
        server_time: i64,
        heartbeat_ms: u64,
        protocol: u32,
        features: &'a [&'a str],
    }
    let payload =
        Payload { user_id: user, device_id: device, server_time, heartbeat_ms, protocol: PROTOCOL, features };
    Frame { payload: Some(payload), ..Frame::new(Cmd::LOGIN, 0) }.render()
}

/// The reply to a chat message (cmd 2), first or corrected: its sequence number.
#[must_use]
pub fn chat(msg_id: &MsgId, conversation: &ConversationName<'_>, seq: Seq) -> Utf8Bytes {
    let frame = Bare { msg_id: Some(msg_id.as_str()), seq: Some(seq), ..Frame::new(Cmd::CHAT, 0) };
    frame.about(conversation).render()
}

/// The reply to a chat message whose id was used for an earlier one with another content: the earlier one's sequence number, and
/// that its content stays.
#[must_use]
pub fn chat_content_differs(msg_id: &MsgId, conversation: &ConversationName<'_>, seq: Seq) -> Utf8Bytes {
    #[derive(Serialize)]
    struct Payload {
        content_differs: bool,
        message: &'static str,
    }
    let message = "an earlier message with this msg_id has another content, which stays: send a new one with a new msg_id";
    let frame = Frame {
        msg_id: Some(msg_id.as_str()),
        seq: Some(seq),
        payload: Some(Payload { content_differs: true, message }),
        ..Frame::new(Cmd::CHAT, 0)
    };
    frame.about(conversation).render()
}

/// The reply to a pull (cmd 3). `next`: the cursor of the next page.
#[must_use]
pub fn pull(
    conversation: &ConversationName<'_>,
    messages: &[MessageView<'_>],
    next: Seq,
    has_more: bool,
) -> Utf8Bytes {
    let frame = Frame {
        payload: Some(messages),
        next_cursor_seq: Some(next),
        has_more: Some(has_more),
        ..Frame::new(Cmd::PULL, 0)
    }
    .about(conversation);
    // About 192 bytes per message for ids, numbers and field names, beside its content. Few contents have many escapes: for
    // those the buffer grows.
    let bytes: usize = messages.iter().map(|message| message.content_len() + 192).sum();
    frame.render_about(conversation.id().len() + bytes + 192)
}

/// The reply to an ack (cmd 4): the stored read position.
#[must_use]
pub fn ack(conversation: &ConversationName<'_>, position: Seq) -> Utf8Bytes {
    Bare { seq: Some(position), ..Frame::new(Cmd::ACK, 0) }.about(conversation).render()
}

/// A push (cmd 5) of rendered messages. `last`: the sequence number of the last one.
#[must_use]
pub fn push(conversation: &ConversationName<'_>, messages: &[&RawValue], last: Seq) -> Utf8Bytes {
    let bytes: usize = messages.iter().map(|message| message.get().len() + 1).sum();
    let frame = Frame { payload: Some(messages), next_cursor_seq: Some(last), ..Frame::new(Cmd::PUSH, 0) }
        .about(conversation);
    frame.render_about(conversation.id().len() + bytes + 192)
}

/// The reply to a sync (cmd 6) of `reader`.
#[must_use]
pub fn sync(listing: &Listing, reader: &UserId) -> Utf8Bytes {
    let entries: Vec<_> = listing.entries.iter().map(|listed| EntryView::new(listed, reader)).collect();
    let frame = Frame {
        payload: Some(entries),
        next_cursor_seq: Some(Seq(listing.next)),
        has_more: Some(listing.has_more),
        reset: listing.reset,
        ..Frame::new(Cmd::SYNC, 0)
    };
    frame.render()
}

/// The reply to a typing notice (cmd 8).
#[must_use]
pub fn typing(conversation: &ConversationName<'_>) -> Utf8Bytes {
    Bare::new(Cmd::TYPING, 0).about(conversation).render()
}

/// The payload of an event (cmd 7).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Event<'a> {
    /// Pushes may be lost: the client has to pull.
    Resync,
    /// Another connection of the user moved the read position.
    Ack {
        /// The new read position.
        seq: Seq,
        /// The unread count, if it was counted.
        #[serde(skip_serializing_if = "Option::is_none")]
        unread: Option<u64>,
    },
    /// The peer of a private chat moved its read position.
    Read {
        /// The peer.
        user_id: &'a str,
        /// The peer's read position.
        seq: Seq,
    },
    /// A user is typing.
    Typing {
        /// The user.
        user_id: &'a str,
    },
    /// The token expires soon; without a login with a new token (cmd 1), the connection is closed then.
    TokenExpiring {
        /// Milliseconds since 1970.
        expires_at: i64,
    },
    /// The user was added to the group, or joined it.
    Joined,
    /// The user is invited into the group.
    Invited {
        /// The user who invites.
        by: &'a str,
    },
    /// The user left the group, or was removed.
    Left,
    /// The group's name, notice or `meta`, a role or a mute changed.
    GroupUpdated,
    /// The group was dismissed.
    Dismissed,
}

/// An event (cmd 7).
#[must_use]
pub fn event(conversation: Option<&ConversationName<'_>>, event: Event<'_>) -> Utf8Bytes {
    let frame = Frame { payload: Some(event), ..Frame::new(Cmd::EVENT, 0) };
    match conversation {
        Some(conversation) => frame.about(conversation).render(),
        None => frame.render(),
    }
}
