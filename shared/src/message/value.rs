//! The message and its stages, with their protobuf forms.

use std::ops::Deref;

use opentelemetry::trace::TraceId;
use proto::v1;
use tracing::field::DisplayValue;

use super::attachment::FileId;
use super::body::Body;
use super::check::{MessageError, check};
use super::extra::{Details, Extra, extra_of};
use super::kind::{ChangeFields, MessageKind};
use super::reactions::ReactionSummary;
use crate::conversation::Conversation;
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
    /// What it has beside, if it is not plain.
    pub details: Option<Box<Details>>,
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

    /// Whether an edit with this content suits it; `None`: the content stays as it is.
    #[must_use]
    pub fn accepts(&self, content: Option<&Body>) -> bool {
        match self.kind {
            MessageKind::App { .. } | MessageKind::File(_) => true,
            // Its caption may be taken away.
            MessageKind::Image(_) if self.has_files() => true,
            MessageKind::Text(_) | MessageKind::Image(_) => {
                content.is_some_and(|body| !body.as_str().is_empty())
            }
            _ => false,
        }
    }

    /// The files that it carries.
    pub fn files(&self) -> impl Iterator<Item = &FileId> {
        let attachments = self.details.as_deref().map_or(&[][..], |details| &details.attachments);
        attachments.iter().map(|attachment| &attachment.file_id)
    }

    /// Whether it carries files.
    #[must_use]
    pub fn has_files(&self) -> bool {
        self.files().next().is_some()
    }

    /// Whether it has nothing in the column and field `extra`.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        self.details.is_none() && !self.kind.has_extra()
    }

    /// The value of the column and field `extra`; `None` for a plain message.
    #[must_use]
    pub fn extra(&self) -> Option<String> {
        if self.is_plain() {
            return None;
        }
        Extra::new(self.kind.change_fields(), self.details.as_deref()).encode()
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
    /// When its content was last edited, in milliseconds since 1970.
    pub edited_at: Option<i64>,
    /// Users reacted to it.
    pub has_reactions: bool,
    /// Their reactions, in the order of the earliest one that still stands, where they were read.
    pub reactions: Vec<ReactionSummary>,
}

impl Stored {
    /// A message that was just stored under `seq`.
    #[must_use]
    pub fn new(message: Message, seq: Seq) -> Self {
        let (edited_at, has_reactions, reactions) = (None, false, Vec::new());
        Self { message, seq, is_recalled: false, edited_at, has_reactions, reactions }
    }

    /// The kind and the details of a row, from its columns `msg_type`, `content` and `extra`, with when it was edited and
    /// whether it has reactions. A row that cannot be read is shown as far as it can, and logged.
    pub(crate) fn read(
        msg_type: u32,
        content: String,
        extra: Option<&str>,
    ) -> (MessageKind, Option<Box<Details>>, Option<i64>, bool) {
        let Some(extra) = extra else {
            return (MessageKind::from_stored(msg_type, content, ChangeFields::default()), None, None, false);
        };
        let extra = Extra::decode(extra).unwrap_or_else(|error| {
            tracing::error!(%error, "A stored message has an unreadable extra; it is shown without it");
            Extra::default()
        });
        let kind = MessageKind::from_stored(msg_type, content, extra.change_fields());
        let (edited_at, has_reactions) = (extra.edited_at, extra.has_reactions);
        (kind, extra.into_details(), edited_at, has_reactions)
    }

    /// The value of the column `extra`; `None` for a plain message.
    #[must_use]
    pub fn extra(&self) -> Option<String> {
        let Self { message, edited_at, has_reactions, .. } = self;
        let fields = message.kind.change_fields();
        Extra::new(fields, message.details.as_deref()).of_stored(*edited_at, *has_reactions).encode()
    }

    /// Removes what a recall removes: everything but the message that it answers.
    pub fn blank(&mut self) {
        self.message.kind.set_content(Body::default());
        let reply_to = self.message.details.take().and_then(|details| details.reply_to);
        self.message.details =
            reply_to.map(|seq| Box::new(Details { reply_to: Some(seq), ..Details::default() }));
        (self.is_recalled, self.edited_at, self.has_reactions) = (true, None, false);
    }

    /// Applies an edit: what is `None` stays; an empty `meta` and empty mentions remove what is there.
    pub fn edit(&mut self, content: Option<Body>, edit: Option<&Details>, time_ms: i64) {
        if let Some(content) = content {
            self.message.kind.set_content(content);
        }
        let mut details = self.message.details.take().map(|details| *details).unwrap_or_default();
        if let Some(meta) = edit.and_then(|edit| edit.meta.as_ref()) {
            details.meta = Some(meta.clone()).filter(|meta| !meta.is_empty());
        }
        if let Some(mentions) = edit.and_then(|edit| edit.mentions.as_ref()) {
            details.mentions = Some(mentions.clone()).filter(|mentions| !mentions.is_empty());
        }
        self.message.details = (details != Details::default()).then(|| Box::new(details));
        self.edited_at = Some(time_ms);
    }

    /// The column `extra` of an edit entry whose message was recalled.
    pub(crate) fn blank_edit(target: Seq) -> Option<String> {
        let fields = ChangeFields { target: Some(target), ..ChangeFields::default() };
        Extra::new(fields, None).encode()
    }

    /// Whether the content is not the one that its sender first sent.
    #[must_use]
    pub fn is_rewritten(&self) -> bool {
        self.is_recalled || self.edited_at.is_some()
    }
}

/// The fields of the message are those of the stored one, too.
impl Deref for Stored {
    type Target = Message;

    fn deref(&self) -> &Message {
        &self.message
    }
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
        let Message { conversation, sender, msg_id, kind, details: _, send_time_ms } = &self.message;
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
            rare,
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
        *rare = rare_fields(self.trace.as_deref(), self.message.extra());
    }

    /// Checks the protobuf form, and moves its content.
    ///
    /// # Errors
    /// The reason why it can never be stored; `wire` is unchanged then, for the dead-letter queue.
    pub(crate) fn from_wire(wire: &mut v1::ChatMessage) -> Result<Self, MessageError> {
        let (conversation, sender, msg_id, extra) = check(wire)?;
        let fields = extra.as_ref().map_or_else(ChangeFields::default, Extra::change_fields);
        let kind = MessageKind::from_stored(wire.msg_type, std::mem::take(&mut wire.content), fields);
        let details = extra.and_then(Extra::into_details);
        Ok(Self {
            message: Message { conversation, sender, msg_id, kind, details, send_time_ms: wire.send_time_ms },
            seq: Seq(wire.seq),
            jump: wire.jump,
            retry: wire.retry,
            origin: wire.origin.map(origin_from_wire),
            reply_when_stored: wire.reply_when_stored,
            trace: MessageTrace::of_rare(wire.rare.as_deref()).map(Box::new),
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
        let rare = rare_fields(self.trace.as_deref(), self.message.extra());
        let Message { conversation: _, sender, msg_id, kind, details: _, send_time_ms } = self.message;
        v1::StoredMessage {
            seq: seq.0,
            msg_id: msg_id.as_str().to_owned(),
            sender_id: sender.as_str().to_owned(),
            msg_type: kind.msg_type(),
            content: kind.into_content(),
            send_time_ms,
            origin: self.origin.map(origin_to_wire),
            reply_when_stored: self.reply_when_stored,
            rare,
        }
    }
}

/// The field `rare`; `None`, without an allocation, if it would be empty.
fn rare_fields(trace: Option<&MessageTrace>, extra: Option<String>) -> Option<Box<v1::RareFields>> {
    if trace.is_none() && extra.is_none() {
        return None;
    }
    Some(Box::new(v1::RareFields { trace: trace.map(MessageTrace::to_wire), extra }))
}

/// The kind and the details of a message in an event, for readers.
#[must_use]
pub fn read_event(event: &v1::StoredMessage) -> (MessageKind<&str>, Option<Box<Details>>) {
    let Some(extra) = extra_of(event.rare.as_deref()) else {
        return (MessageKind::of_stored(event.msg_type, &event.content, ChangeFields::default()), None);
    };
    // An event is shown, never stored: one of a later version is shown as far as it can.
    let extra = Extra::decode(extra).unwrap_or_default();
    (MessageKind::of_stored(event.msg_type, &event.content, extra.change_fields()), extra.into_details())
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
    use crate::message::kind;

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
