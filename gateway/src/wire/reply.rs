//! Everything that the server says.

use serde::Serialize;
use serde_json::value::RawValue;
use shared::ids::{DeviceId, MsgId, Seq, UserId};
use tokio_tungstenite::tungstenite::Utf8Bytes;

use super::frame::Frame;
use super::listing::{EntryView, Listing};
use super::message::MessageView;
use super::request::Cmd;

/// A frame without a payload.
type Bare<'a> = Frame<'a, ()>;

/// cmd 0
#[must_use]
pub fn heartbeat() -> Utf8Bytes {
    Utf8Bytes::from_static(r#"{"cmd":0,"code":0}"#)
}

/// cmd 0 with the client's sync position: where the newest change for the user is.
#[must_use]
pub fn heartbeat_at(newest: u64) -> Utf8Bytes {
    Bare { next_cursor_seq: Some(Seq(newest)), ..Frame::new(Cmd::HEARTBEAT, 0) }.render()
}

/// cmd 1
#[must_use]
pub fn login(user: &UserId, device: &DeviceId, server_time: i64, heartbeat_ms: u64) -> Utf8Bytes {
    #[derive(Serialize)]
    struct Payload<'a> {
        user_id: &'a UserId,
        device_id: &'a DeviceId,
        server_time: i64,
        heartbeat_ms: u64,
    }
    let payload = Payload { user_id: user, device_id: device, server_time, heartbeat_ms };
    Frame { payload: Some(payload), ..Frame::new(Cmd::LOGIN, 0) }.render()
}

/// cmd 2: the message has, or finally has, this number.
#[must_use]
pub fn chat(msg_id: &MsgId, conversation: &str, seq: Seq) -> Utf8Bytes {
    let frame = Bare {
        msg_id: Some(msg_id.as_str()),
        conversation_id: Some(conversation),
        seq: Some(seq),
        ..Frame::new(Cmd::CHAT, 0)
    };
    frame.render()
}

/// cmd 3
#[must_use]
pub fn pull(conversation: &str, messages: &[MessageView<'_>], next: Seq, has_more: bool) -> Utf8Bytes {
    let frame = Frame {
        conversation_id: Some(conversation),
        payload: Some(messages),
        next_cursor_seq: Some(next),
        has_more: Some(has_more),
        ..Frame::new(Cmd::PULL, 0)
    };
    // Ids, numbers and names of fields beside a content.
    let bytes: usize = messages.iter().map(|message| message.content.len() + 192).sum();
    frame.render_about(conversation.len() + bytes + 128)
}

/// cmd 4
#[must_use]
pub fn ack(conversation: &str, position: Seq) -> Utf8Bytes {
    Bare { conversation_id: Some(conversation), seq: Some(position), ..Frame::new(Cmd::ACK, 0) }.render()
}

/// cmd 5, of messages that are rendered already. `last`: the number of the last one.
#[must_use]
pub fn push(conversation: &str, messages: &[&RawValue], last: Seq) -> Utf8Bytes {
    let bytes: usize = messages.iter().map(|message| message.get().len() + 1).sum();
    let frame = Frame {
        conversation_id: Some(conversation),
        payload: Some(messages),
        next_cursor_seq: Some(last),
        ..Frame::new(Cmd::PUSH, 0)
    };
    frame.render_about(conversation.len() + bytes + 128)
}

/// cmd 6
#[must_use]
pub fn sync(listing: &Listing) -> Utf8Bytes {
    let entries: Vec<_> = listing.entries.iter().map(EntryView::new).collect();
    let frame = Frame {
        payload: Some(entries),
        next_cursor_seq: Some(Seq(listing.next)),
        has_more: Some(listing.has_more),
        reset: listing.reset,
        ..Frame::new(Cmd::SYNC, 0)
    };
    frame.render()
}

/// cmd 8
#[must_use]
pub fn typing(conversation: &str) -> Utf8Bytes {
    Bare { conversation_id: Some(conversation), ..Frame::new(Cmd::TYPING, 0) }.render()
}

/// What cmd 7 tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Event<'a> {
    /// Pushes may have been lost.
    Resync,
    /// Another connection of the user moved the reading position.
    Ack {
        /// To here.
        seq: Seq,
        /// How many messages of others are above it, if that was counted.
        #[serde(skip_serializing_if = "Option::is_none")]
        unread: Option<u64>,
    },
    /// The other one of a private chat has read.
    Read {
        /// Who.
        user_id: &'a str,
        /// Up to here.
        seq: Seq,
    },
    /// Someone is writing.
    Typing {
        /// Who.
        user_id: &'a str,
    },
    /// The connection will be closed when its token expires: log in again on it (cmd 1) with a new one.
    TokenExpiring {
        /// Milliseconds since 1970.
        expires_at: i64,
    },
    /// The user came into the group.
    Joined,
    /// The user is not in the group any more.
    Left,
    /// The group's name, roles or mutes changed.
    GroupUpdated,
    /// The group is no more.
    Dismissed,
}

/// cmd 7
#[must_use]
pub fn event(conversation: Option<&str>, event: Event<'_>) -> Utf8Bytes {
    Frame { conversation_id: conversation, payload: Some(event), ..Frame::new(Cmd::EVENT, 0) }.render()
}
