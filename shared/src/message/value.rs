//! The message and its stages, with their protobuf forms.

use std::ops::Deref;

use opentelemetry::trace::TraceId;
use proto::v1;
use tracing::field::DisplayValue;

use super::kind::{self, BODY_BYTES_MAX, MessageKind};
use crate::conversation::{Conversation, ConversationError};
use crate::ids::{ConnectionId, IdError, MsgId, Seq, UserId};
use crate::traces::{self, MessageTrace};

/// The identity of a message: it stays the same when the sender retries. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MessageId {
    /// The conversation that the message was sent to.
    pub conversation: Conversation,
    /// The user who sent it.
    pub sender: UserId,
    /// The id that the sender gave it.
    pub msg_id: MsgId,
}

impl MessageId {
    /// The identity of the message of `sender` with `msg_id`.
    ///
    /// # Errors
    /// [`IdError`]
    pub fn parse(conversation: Conversation, sender: &str, msg_id: &str) -> Result<Self, IdError> {
        Ok(Self { conversation, sender: UserId::parse(sender)?, msg_id: MsgId::parse(msg_id)? })
    }

    /// The id of its trace, whether that is recorded or not.
    #[must_use]
    pub fn trace_id(&self) -> TraceId {
        traces::trace_id([self.conversation.key(), self.sender.as_str(), self.msg_id.as_str()])
    }
}

/// A message as its sender wrote it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// The conversation that it was sent to.
    pub conversation: Conversation,
    /// The user who sent it.
    pub sender: UserId,
    /// The id that the sender gave it.
    pub msg_id: MsgId,
    /// Its kind, with its body.
    pub kind: MessageKind,
    /// The time at which it was sent, in milliseconds since 1970, by the client's clock or else the gateway's.
    pub send_time_ms: i64,
}

impl Message {
    /// Its identity.
    #[must_use]
    pub fn id(&self) -> MessageId {
        MessageId {
            conversation: self.conversation.clone(),
            sender: self.sender.clone(),
            msg_id: self.msg_id.clone(),
        }
    }
}

/// A message with its sequence number, on its way from a gateway to the database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Numbered {
    /// The message.
    pub message: Message,
    /// Its sequence number; above 0.
    pub seq: Seq,
    /// The numbers between the conversation's `last_seq` and this one were never assigned: do not wait for them.
    pub jump: bool,
    /// The sender had sent this id before.
    pub retry: bool,
    /// The connection that sent it, if it is known.
    pub origin: Option<ConnectionId>,
    /// The sender is answered at the commit.
    pub reply_when_stored: bool,
    /// Its place in its trace, if that is recorded.
    pub trace: Option<Box<MessageTrace>>,
}

/// The fields of the message are those of the numbered one, too.
impl Deref for Numbered {
    type Target = Message;

    fn deref(&self) -> &Message {
        &self.message
    }
}

/// A message as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// The message; its body is empty if it was recalled.
    pub message: Message,
    /// Its sequence number.
    pub seq: Seq,
    /// The message was recalled.
    pub is_recalled: bool,
}

/// The fields of the message are those of the stored one, too.
impl Deref for Stored {
    type Target = Message;

    fn deref(&self) -> &Message {
        &self.message
    }
}

/// The reason why a message from the broker can never be stored.
#[derive(Debug, thiserror::Error)]
pub enum MessageError {
    /// An id breaks the rules.
    #[error(transparent)]
    Id(#[from] IdError),
    /// The conversation cannot exist.
    #[error(transparent)]
    Conversation(#[from] ConversationError),
    /// A number or a length is outside of its limits.
    #[error("{0}")]
    Limit(&'static str),
}

impl Numbered {
    /// The protobuf form.
    #[cfg(test)]
    pub(crate) fn to_wire(&self) -> v1::ChatMessage {
        let mut wire = v1::ChatMessage::default();
        self.fill_wire(&mut wire);
        wire
    }

    /// Turns `wire` into the protobuf form of this message, reusing its strings.
    pub(crate) fn fill_wire(&self, wire: &mut v1::ChatMessage) {
        let Message { conversation, sender, msg_id, kind, send_time_ms } = &self.message;
        // Every field by name: the compiler reports one that is forgotten here.
        let v1::ChatMessage {
            conversation: wire_conversation,
            seq,
            jump,
            sender_id,
            msg_id: wire_msg_id,
            content,
            msg_type,
            send_time_ms: wire_send_time_ms,
            origin,
            reply_when_stored,
            retry,
            trace,
        } = wire;
        replace(wire_conversation, conversation.key());
        replace(sender_id, sender.as_str());
        replace(wire_msg_id, msg_id.as_str());
        replace(content, &kind.content());
        *seq = self.seq.0;
        *jump = self.jump;
        *msg_type = kind.msg_type();
        *wire_send_time_ms = *send_time_ms;
        *origin = self.origin.map(origin_to_wire);
        *reply_when_stored = self.reply_when_stored;
        *retry = self.retry;
        *trace = self.trace.as_deref().map(MessageTrace::to_wire);
    }

    /// Checks the protobuf form, and moves its content.
    ///
    /// # Errors
    /// The reason why it can never be stored; `wire` is unchanged then, for the dead-letter queue.
    pub(crate) fn from_wire(wire: &mut v1::ChatMessage) -> Result<Self, MessageError> {
        let (conversation, sender, msg_id) = check(wire)?;
        let kind = MessageKind::from_stored(wire.msg_type, std::mem::take(&mut wire.content));
        Ok(Self {
            message: Message { conversation, sender, msg_id, kind, send_time_ms: wire.send_time_ms },
            seq: Seq(wire.seq),
            jump: wire.jump,
            retry: wire.retry,
            origin: wire.origin.map(origin_from_wire),
            reply_when_stored: wire.reply_when_stored,
            trace: wire.trace.as_ref().and_then(MessageTrace::from_wire).map(Box::new),
        })
    }

    /// The id of its trace, for log lines; `None` if no trace is recorded.
    #[must_use]
    pub fn trace_id(&self) -> Option<DisplayValue<TraceId>> {
        self.trace.as_ref().map(|trace| tracing::field::display(trace.trace_id()))
    }

    /// The form for the event that it is stored under `seq`.
    #[must_use]
    pub fn into_event(self, seq: Seq) -> v1::StoredMessage {
        let Message { conversation: _, sender, msg_id, kind, send_time_ms } = self.message;
        v1::StoredMessage {
            seq: seq.0,
            msg_id: msg_id.as_str().to_owned(),
            sender_id: sender.as_str().to_owned(),
            msg_type: kind.msg_type(),
            content: kind.into_content(),
            send_time_ms,
            origin: self.origin.map(origin_to_wire),
            reply_when_stored: self.reply_when_stored,
            trace: self.trace.as_deref().map(MessageTrace::to_wire),
        }
    }
}

fn check(wire: &v1::ChatMessage) -> Result<(Conversation, UserId, MsgId), MessageError> {
    let limit = |ok: bool, what: &'static str| if ok { Ok(()) } else { Err(MessageError::Limit(what)) };
    limit((1..=Seq::MAX.0).contains(&wire.seq), "seq is 0 or beyond 2^53 - 1")?;
    limit(!wire.content.is_empty(), "content is empty")?;
    limit(wire.content.len() <= BODY_BYTES_MAX, "content is over 4096 bytes")?;
    limit(matches!(wire.msg_type, kind::TEXT | kind::IMAGE | kind::RECALL), "msg_type is not 1, 2 or 3")?;
    let is_readable =
        wire.msg_type != kind::RECALL || kind::recalled_number(wire.msg_type, &wire.content).is_some();
    limit(is_readable, "the content of a recall is no number")?;
    Ok((
        Conversation::from_key(&wire.conversation)?,
        UserId::parse(&wire.sender_id)?,
        MsgId::parse(&wire.msg_id)?,
    ))
}

fn replace(text: &mut String, new: &str) {
    text.clear();
    text.push_str(new);
}

/// The wire form of an origin.
#[must_use]
pub fn origin_to_wire(origin: ConnectionId) -> v1::Origin {
    v1::Origin { gateway: origin.gateway, connection: origin.connection }
}

/// The domain form of an origin.
#[must_use]
pub fn origin_from_wire(origin: v1::Origin) -> ConnectionId {
    ConnectionId { gateway: origin.gateway, connection: origin.connection }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::fixture::numbered;

    #[test]
    fn an_event_has_the_fields_of_the_message_and_the_final_number() {
        let origin = Some(ConnectionId { gateway: 3, connection: 4 });
        let message = Numbered { origin, reply_when_stored: true, ..numbered("group_1", 7, "alice", "m1") };
        let event = message.clone().into_event(Seq(9));
        assert_eq!((event.seq, event.msg_id.as_str(), event.sender_id.as_str()), (9, "m1", "alice"));
        assert_eq!((event.content.as_str(), event.msg_type), ("content of m1", kind::TEXT));
        assert_eq!(event.send_time_ms, message.send_time_ms);
        assert_eq!((event.origin.map(origin_from_wire), event.reply_when_stored), (origin, true));
    }
}
