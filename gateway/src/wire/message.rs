//! A chat message in JSON: as clients send it, and as they see it in pulls and pushes.

use std::borrow::Cow;

use proto::v1;
use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};
use shared::conversation::Conversation;
use shared::ids::{MsgId, Seq, UNIX_MILLIS_MAX, UserId};
use shared::message::{Body, BodyError, Message, MessageKind, Stored};

use super::api_error::ApiError;
use super::fields::{value, whole};
use super::json_size::escaped_bytes;

/// A message to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChatRequest {
    /// `None`: the server makes one.
    pub msg_id: Option<MsgId>,
    /// The kind of the message, with its body.
    pub kind: MessageKind,
    /// `None`: the server's clock.
    pub send_time_ms: Option<i64>,
    /// The sender is answered at the commit only.
    pub reply_when_stored: bool,
}

/// The payload of cmd 2.
#[derive(Deserialize, Default)]
pub(super) struct ChatPayload<'a> {
    #[serde(borrow, default)]
    content: Option<&'a RawValue>,
    #[serde(borrow, default)]
    msg_type: Option<&'a RawValue>,
    #[serde(borrow, default)]
    recall_seq: Option<&'a RawValue>,
    #[serde(borrow, default)]
    send_time: Option<&'a RawValue>,
    #[serde(borrow, default)]
    ack: Option<&'a RawValue>,
}

const MSG_TYPES: &str = "payload.msg_type must be 1 (text), 2 (image) or 3 (recall)";
const SEND_TIMES: &str = "payload.send_time must be milliseconds since 1970, from 0 to 8640000000000000";
const ACK_MODES: &str = "payload.ack must be \"accepted\" (default) or \"stored\"";

impl ChatRequest {
    pub(super) fn parse(msg_id: Option<Cow<'_, str>>, payload: &ChatPayload<'_>) -> Result<Self, ApiError> {
        let msg_id = msg_id.map(|id| MsgId::parse(&id)).transpose().map_err(ApiError::malformed)?;
        let msg_type: Option<u32> = whole(payload.msg_type, MSG_TYPES)?;
        let kind = match msg_type {
            None | Some(1) => MessageKind::Text(body(payload)?),
            Some(2) => MessageKind::Image(body(payload)?),
            Some(3) => MessageKind::Recall(recall_seq(payload)?),
            Some(_) => return Err(ApiError::malformed(MSG_TYPES)),
        };
        let send_time_ms: Option<i64> = whole(payload.send_time, SEND_TIMES)?;
        if send_time_ms.is_some_and(|time| !(0..=UNIX_MILLIS_MAX).contains(&time)) {
            return Err(ApiError::malformed(SEND_TIMES));
        }
        let ack: Option<Cow<'_, str>> = value(payload.ack, ACK_MODES)?;
        let reply_when_stored = match ack.as_deref() {
            None | Some("accepted") => false,
            Some("stored") => true,
            Some(_) => return Err(ApiError::malformed(ACK_MODES)),
        };
        Ok(Self { msg_id, kind, send_time_ms, reply_when_stored })
    }

    /// The message that `sender` sends to `conversation`; `now` is used if the client named no time.
    #[must_use]
    pub fn into_message(
        self,
        conversation: Conversation,
        sender: UserId,
        now: impl FnOnce() -> i64,
    ) -> Message {
        Message {
            conversation,
            sender,
            msg_id: self.msg_id.unwrap_or_else(MsgId::generate),
            kind: self.kind,
            send_time_ms: self.send_time_ms.unwrap_or_else(now),
        }
    }
}

fn body(payload: &ChatPayload<'_>) -> Result<Body, ApiError> {
    let content: Option<String> = value(payload.content, "payload.content must be a string")?;
    Body::new(content.unwrap_or_default()).map_err(|error| match error {
        BodyError::Empty => ApiError::malformed("payload.content is empty: send 1 to 4096 bytes"),
        BodyError::TooLong(bytes) => {
            ApiError::TooLarge(format!("payload.content has {bytes} bytes: send at most 4096"))
        }
    })
}

fn recall_seq(payload: &ChatPayload<'_>) -> Result<Seq, ApiError> {
    let rule = "payload.recall_seq must be the seq of the message to recall";
    let seq: Option<u64> = whole(payload.recall_seq, rule)?;
    seq.filter(|seq| (1..=Seq::MAX.0).contains(seq)).map(Seq).ok_or_else(|| ApiError::malformed(rule))
}

/// A message as clients see it, borrowed from a row or an event.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct MessageView<'a> {
    msg_id: &'a str,
    seq: Seq,
    sender_id: &'a str,
    /// Empty if the message was recalled, or is a recall.
    content: &'a str,
    msg_type: u32,
    send_time: i64,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    recalled: bool,
    /// The message that this one recalls.
    #[serde(skip_serializing_if = "Option::is_none")]
    recall_seq: Option<Seq>,
}

impl<'a> MessageView<'a> {
    fn new(
        msg_id: &'a str,
        seq: Seq,
        sender_id: &'a str,
        kind: MessageKind<&'a str>,
        send_time: i64,
    ) -> Self {
        Self {
            msg_id,
            seq,
            sender_id,
            content: kind.body().copied().unwrap_or_default(),
            msg_type: kind.msg_type(),
            // Earlier versions stored any number.
            send_time: send_time.clamp(0, UNIX_MILLIS_MAX),
            recalled: false,
            recall_seq: kind.recalls(),
        }
    }

    /// The view of `message` under its number `seq`.
    #[must_use]
    pub fn of(message: &'a Message, seq: Seq) -> Self {
        let Message { conversation: _, sender, msg_id, kind, send_time_ms } = message;
        Self::new(msg_id.as_str(), seq, sender.as_str(), kind.as_deref(), *send_time_ms)
    }

    /// The number of bytes of its content.
    pub(super) fn content_len(&self) -> usize {
        self.content.len()
    }

    /// The number of bytes of its content in JSON.
    #[must_use]
    pub fn content_bytes(&self) -> usize {
        escaped_bytes(self.content)
    }

    /// The message as JSON, to be put into any number of frames.
    #[must_use]
    pub fn rendered(&self) -> Box<RawValue> {
        // Strings and numbers only: serialization cannot fail.
        to_raw_value(self).unwrap_or_else(|_| RawValue::NULL.to_owned())
    }
}

impl<'a> From<&'a Stored> for MessageView<'a> {
    fn from(row: &'a Stored) -> Self {
        Self { recalled: row.is_recalled, ..Self::of(&row.message, row.seq) }
    }
}

impl<'a> From<&'a v1::StoredMessage> for MessageView<'a> {
    fn from(event: &'a v1::StoredMessage) -> Self {
        let kind = MessageKind::of_stored(event.msg_type, &event.content);
        Self::new(&event.msg_id, Seq(event.seq), &event.sender_id, kind, event.send_time_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::request::{self, Request};

    fn parsed(send_time: &str) -> Result<Option<i64>, (u16, String)> {
        let payload = format!(r#"{{"content":"x","send_time":{send_time}}}"#);
        match request::parse(&format!(r#"{{"cmd":2,"conversation_id":"group_1","payload":{payload}}}"#)) {
            Ok((_, Request::Chat(chat))) => Ok(chat.send_time_ms),
            Ok((_, other)) => panic!("{other:?}"),
            Err((_, refusal)) => Err((refusal.code(), refusal.message().to_owned())),
        }
    }

    #[test]
    fn a_send_time_is_one_that_every_client_can_show() {
        for (text, expected) in [
            ("0", Some(0)),
            ("1700000000000", Some(1_700_000_000_000)),
            ("8640000000000000", Some(8_640_000_000_000_000)),
            ("null", None),
        ] {
            assert_eq!(parsed(text), Ok(expected), "{text}");
        }
        for text in [
            "-1",
            "8640000000000001",
            "9007199254740991",
            "9223372036854775807",
            "-9223372036854775808",
            "\"5\"",
        ] {
            assert_eq!(parsed(text), Err((400, SEND_TIMES.to_owned())), "{text}");
        }
    }

    #[test]
    fn a_stored_send_time_beyond_the_limits_is_shown_at_the_limit() {
        for (stored, shown) in [(i64::MIN, 0), (-1, 0), (5, 5), (i64::MAX, UNIX_MILLIS_MAX)] {
            let event = v1::StoredMessage { send_time_ms: stored, ..v1::StoredMessage::default() };
            assert_eq!(MessageView::from(&event).send_time, shown, "{stored}");
        }
    }
}
