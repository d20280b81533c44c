//! Replies, pushes and events: every frame that the server sends, except errors.

use serde::Serialize;
use shared::ids::{DeviceId, MsgId, Seq, UserId};
use shared::mysql::views::ViewSettings;
use tokio_tungstenite::tungstenite::Utf8Bytes;

use super::frame::Frame;
use super::hook::Replaced;
use super::json_text::{push_number, push_string};
use super::listing::{EntryView, Listing};
use super::message::{FIELDS_BYTES, MessageView};
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
    let mut json = String::with_capacity(128);
    json.push_str(r#"{"cmd":2,"code":0,"msg_id":"#);
    push_string(&mut json, msg_id.as_str());
    write_name(&mut json, conversation);
    json.push_str(r#","seq":"#);
    push_number(&mut json, seq.0);
    json.push('}');
    json.into()
}

fn write_name(json: &mut String, conversation: &ConversationName<'_>) {
    json.push_str(r#","conversation_id":"#);
    push_string(json, conversation.id());
    if let Some(peer) = conversation.peer() {
        json.push_str(r#","peer":"#);
        push_string(json, peer);
    }
}

/// Messages of one conversation in a frame, up to the cursor.
fn write_messages<M>(
    begin: &str,
    conversation: &ConversationName<'_>,
    messages: &[M],
    bytes: usize,
    write: impl Fn(&M, &mut String),
) -> String {
    // Few contents have many escapes: for those the buffer grows.
    let mut json = String::with_capacity(conversation.id().len() + bytes + FIELDS_BYTES);
    json.push_str(begin);
    write_name(&mut json, conversation);
    json.push_str(r#","payload":["#);
    for (n, message) in messages.iter().enumerate() {
        if n > 0 {
            json.push(',');
        }
        write(message, &mut json);
    }
    json.push_str(r#"],"next_cursor_seq":"#);
    json
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

/// The reply to a chat message of which the hook has replaced something: its sequence number, and what it has now.
#[must_use]
pub fn chat_replaced(
    msg_id: &MsgId,
    conversation: &ConversationName<'_>,
    seq: Seq,
    replaced: &Replaced,
) -> Utf8Bytes {
    #[derive(Serialize)]
    struct Payload<'a> {
        replaced: bool,
        #[serde(flatten)]
        now: &'a Replaced,
    }
    let frame = Frame {
        msg_id: Some(msg_id.as_str()),
        seq: Some(seq),
        payload: Some(Payload { replaced: true, now: replaced }),
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
    let bytes = messages.iter().map(|message| message.content_len() + FIELDS_BYTES).sum();
    let begin = r#"{"cmd":3,"code":0"#;
    let mut json = write_messages(begin, conversation, messages, bytes, MessageView::write);
    push_number(&mut json, next.0);
    json.push_str(if has_more { r#","has_more":true}"# } else { r#","has_more":false}"# });
    json.into()
}

/// The reply to an ack (cmd 4): the stored read position.
#[must_use]
pub fn ack(conversation: &ConversationName<'_>, position: Seq) -> Utf8Bytes {
    Bare { seq: Some(position), ..Frame::new(Cmd::ACK, 0) }.about(conversation).render()
}

/// A push (cmd 5) of rendered messages. `last`: the sequence number of the last one.
#[must_use]
pub fn push(conversation: &ConversationName<'_>, messages: &[&str], last: Seq) -> Utf8Bytes {
    let bytes = messages.iter().map(|message| message.len() + 1).sum();
    let begin = r#"{"cmd":5,"code":0"#;
    let mut json =
        write_messages(begin, conversation, messages, bytes, |message, json| json.push_str(message));
    push_number(&mut json, last.0);
    json.push('}');
    json.into()
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

/// The reply to a list of users to watch (cmd 9): each user, and whether it is online.
#[must_use]
pub fn watching(users: &[(UserId, bool)]) -> Utf8Bytes {
    #[derive(Serialize)]
    struct Watched<'a> {
        user_id: &'a UserId,
        online: bool,
    }
    #[derive(Serialize)]
    struct Payload<'a> {
        users: Vec<Watched<'a>>,
    }
    let users = users.iter().map(|(user_id, online)| Watched { user_id, online: *online }).collect();
    Frame { payload: Some(Payload { users }), ..Frame::new(Cmd::WATCH, 0) }.render()
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
    /// The user set something for the conversation.
    Settings {
        /// All that is not at its default.
        settings: &'a ViewSettings,
    },
    /// The user cleared the conversation.
    Cleared {
        /// Messages up to here are not shown any more.
        seq: Seq,
    },
    /// A watched user came or went.
    Presence {
        /// The user.
        user_id: &'a str,
        /// It has a connection.
        online: bool,
        /// When it had one last, in milliseconds since 1970; `None` while it has one.
        #[serde(skip_serializing_if = "Option::is_none")]
        last_seen: Option<i64>,
    },
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

#[cfg(test)]
mod tests {
    use shared::conversation::Conversation;

    use super::*;

    /// What is written by hand is what the serializer writes.
    #[test]
    fn frames_have_the_fields_of_the_envelope_in_its_order() {
        for key in ["group_\"1\"", "private_al\\ice bob"] {
            let conversation = Conversation::from_key(key).unwrap();
            let name = ConversationName::of(&conversation, "bob");
            let id = MsgId::parse("\"m1\"").unwrap();
            let bare = Bare { msg_id: Some(id.as_str()), seq: Some(Seq(7)), ..Frame::new(Cmd::CHAT, 0) };
            assert_eq!(chat(&id, &name, Seq(7)), bare.about(&name).render());
            let event = proto::v1::StoredMessage { seq: 7, content: "a\nb".to_owned(), ..Default::default() };
            let messages = [MessageView::from(&event), MessageView::from(&event)];
            let page = Frame {
                payload: Some(&messages),
                next_cursor_seq: Some(Seq(8)),
                has_more: Some(true),
                ..Frame::new(Cmd::PULL, 0)
            };
            assert_eq!(pull(&name, &messages, Seq(8), true), page.about(&name).render());
            let rendered = messages.each_ref().map(MessageView::rendered);
            let rendered: Vec<&str> = rendered.iter().map(String::as_str).collect();
            let pushed =
                Frame { payload: Some(&messages), next_cursor_seq: Some(Seq(8)), ..Frame::new(Cmd::PUSH, 0) };
            assert_eq!(push(&name, &rendered, Seq(8)), pushed.about(&name).render());
            assert_eq!(push(&name, &[], Seq(8)).as_str().matches("[]").count(), 1);
        }
    }
}
