//! Checked forms of what travels through the broker, and their encoding.
//!
//! Whatever comes out of [`decode_batch`] can be stored as it is; whatever cannot, ends as an [`EnvelopeError`] and goes
//! to the dead-letter queue.

use prost::Message as _;
use proto::v1;

use crate::conversation::{Conversation, ConversationError};
use crate::ids::{IdError, MsgId, Origin, Seq, UserId};
use crate::shard::ShardId;

/// Largest `content`, in bytes.
pub const CONTENT_BYTES_MAX: usize = 4096;
/// The `msg_type` of a message that recalls another one of its conversation: its content is that one's number.
pub const RECALL: u32 = 3;

/// A numbered message on its way from a gateway to the database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChatMessage {
    /// Where it was sent to.
    pub conversation: Conversation,
    /// Its number; above 0.
    pub seq: Seq,
    /// The numbers between the conversation's last one and this one were never given out: do not wait for them.
    pub jump: bool,
    /// Who sent it.
    pub sender: UserId,
    /// The sender's id for it.
    pub msg_id: MsgId,
    /// What it says: 1 to [`CONTENT_BYTES_MAX`] bytes.
    pub content: String,
    /// 1 text, 2 image, 3 a recall.
    pub msg_type: u32,
    /// Milliseconds since the Unix epoch.
    pub send_time_ms: i64,
    /// The connection that sent it, if it is known.
    pub origin: Option<Origin>,
    /// The sender waits for the commit.
    pub reply_when_stored: bool,
    /// The sender had sent this id before.
    pub retry: bool,
}

impl ChatMessage {
    /// The number of the message that this one recalls, if it is a recall.
    #[must_use]
    pub fn recalls(&self) -> Option<Seq> {
        if self.msg_type == RECALL { recalled_number(&self.content) } else { None }
    }
}

/// Reads the content of a recall: a number in decimal, without anything around it.
#[must_use]
pub fn recalled_number(content: &str) -> Option<Seq> {
    let is_plain = content.bytes().all(|b| b.is_ascii_digit()) && !content.starts_with('0');
    let number = content.parse().ok().filter(|_| is_plain)?;
    (1..=Seq::MAX.0).contains(&number).then_some(Seq(number))
}

/// What a body from the broker held.
#[derive(Debug)]
pub struct DecodedBatch {
    /// The shard that the sender meant.
    pub shard: u32,
    /// What can be stored, in the order of the body.
    pub messages: Vec<ChatMessage>,
    /// What cannot: each with its reason, and encoded again as a body of its own for the dead-letter queue.
    pub refused: Vec<(EnvelopeError, Vec<u8>)>,
}

/// Why a body, or a message in it, can never be stored.
#[derive(Debug, thiserror::Error)]
pub enum EnvelopeError {
    /// Not protobuf of this type.
    #[error("not decodable: {0}")]
    Decode(#[from] prost::DecodeError),
    /// An id breaks the rules.
    #[error(transparent)]
    Id(#[from] IdError),
    /// No such conversation can exist.
    #[error(transparent)]
    Conversation(#[from] ConversationError),
    /// A number or a length outside its limits.
    #[error("{0}")]
    Limit(&'static str),
}

/// Encodes messages of one shard as the body of one AMQP message, in the given order.
#[must_use]
pub fn encode_batch<'a>(shard: ShardId, messages: impl Iterator<Item = &'a ChatMessage>) -> Vec<u8> {
    let messages = messages.map(to_wire).collect();
    v1::MessageBatch { shard: u32::from(shard.0), messages }.encode_to_vec()
}

fn to_wire(message: &ChatMessage) -> v1::ChatMessage {
    v1::ChatMessage {
        conversation: message.conversation.key().to_owned(),
        seq: message.seq.0,
        jump: message.jump,
        sender_id: message.sender.as_str().to_owned(),
        msg_id: message.msg_id.as_str().to_owned(),
        content: message.content.clone(),
        msg_type: message.msg_type,
        send_time_ms: message.send_time_ms,
        origin: message.origin.map(origin_to_wire),
        reply_when_stored: message.reply_when_stored,
        retry: message.retry,
    }
}

/// Decodes a body and checks every message in it.
///
/// # Errors
/// [`EnvelopeError::Decode`] where the body is no batch at all. A single bad message is set apart instead, so that its
/// neighbours, which were promised to their senders, go on.
pub fn decode_batch(body: &[u8]) -> Result<DecodedBatch, EnvelopeError> {
    let batch = v1::MessageBatch::decode(body)?;
    let shard = batch.shard;
    let mut messages = Vec::with_capacity(batch.messages.len());
    let mut refused = Vec::new();
    for message in batch.messages {
        match check(&message) {
            Ok(ids) => messages.push(from_wire(message, ids)),
            Err(error) => {
                refused.push((error, v1::MessageBatch { shard, messages: vec![message] }.encode_to_vec()));
            }
        }
    }
    Ok(DecodedBatch { shard, messages, refused })
}

fn check(message: &v1::ChatMessage) -> Result<(Conversation, UserId, MsgId), EnvelopeError> {
    let limit = |ok: bool, what: &'static str| if ok { Ok(()) } else { Err(EnvelopeError::Limit(what)) };
    limit((1..=Seq::MAX.0).contains(&message.seq), "seq is 0 or beyond 2^53 - 1")?;
    limit(!message.content.is_empty(), "content is empty")?;
    limit(message.content.len() <= CONTENT_BYTES_MAX, "content is over 4096 bytes")?;
    limit(matches!(message.msg_type, 1 | 2 | RECALL), "msg_type is not 1, 2 or 3")?;
    let recalls = message.msg_type != RECALL || recalled_number(&message.content).is_some();
    limit(recalls, "the content of a recall is no number")?;
    Ok((
        Conversation::from_key(&message.conversation)?,
        UserId::parse(&message.sender_id)?,
        MsgId::parse(&message.msg_id)?,
    ))
}

fn from_wire(
    message: v1::ChatMessage,
    (conversation, sender, msg_id): (Conversation, UserId, MsgId),
) -> ChatMessage {
    ChatMessage {
        conversation,
        seq: Seq(message.seq),
        jump: message.jump,
        sender,
        msg_id,
        content: message.content,
        msg_type: message.msg_type,
        send_time_ms: message.send_time_ms,
        origin: message.origin.map(origin_from_wire),
        reply_when_stored: message.reply_when_stored,
        retry: message.retry,
    }
}

/// The wire form of an origin.
#[must_use]
pub fn origin_to_wire(origin: Origin) -> v1::Origin {
    v1::Origin { gateway: origin.gateway, connection: origin.connection }
}

/// The domain form of an origin.
#[must_use]
pub fn origin_from_wire(origin: v1::Origin) -> Origin {
    Origin { gateway: origin.gateway, connection: origin.connection }
}

/// Encodes events as the body of one message on the push exchange.
#[must_use]
pub fn encode_events(batch: &v1::EventBatch) -> Vec<u8> {
    batch.encode_to_vec()
}

/// Decodes a body from the push exchange. Its content is not checked further: it is shown, never stored.
///
/// # Errors
/// [`EnvelopeError::Decode`].
pub fn decode_events(body: &[u8]) -> Result<v1::EventBatch, EnvelopeError> {
    Ok(v1::EventBatch::decode(body)?)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn message() -> ChatMessage {
        ChatMessage {
            conversation: Conversation::from_key("private_alice bob").unwrap(),
            seq: Seq(7),
            jump: true,
            sender: UserId::parse("alice").unwrap(),
            msg_id: MsgId::parse("m1").unwrap(),
            content: "hello".into(),
            msg_type: 2,
            send_time_ms: 1_700_000_000_000,
            origin: Some(Origin { gateway: 3, connection: 9 }),
            reply_when_stored: true,
            retry: true,
        }
    }

    #[test]
    fn a_batch_comes_back_as_it_went() {
        let sent = vec![message(), ChatMessage { seq: Seq(8), origin: None, jump: false, ..message() }];
        let batch = decode_batch(&encode_batch(ShardId(5), sent.iter())).unwrap();
        assert_eq!((batch.shard, batch.messages), (5, sent));
        assert!(batch.refused.is_empty());
    }

    #[test]
    fn a_recall_names_the_number_that_it_recalls() {
        let recall = ChatMessage { msg_type: RECALL, content: Seq::MAX.to_string(), ..message() };
        let batch = decode_batch(&encode_batch(ShardId(0), [&recall].into_iter())).unwrap();
        assert_eq!(batch.messages[0].recalls(), Some(Seq::MAX));
        assert_eq!(ChatMessage { content: "7".into(), ..message() }.recalls(), None, "a text");
    }

    #[test]
    fn a_message_that_cannot_be_stored_does_not_take_its_neighbours_along() {
        let bad = [
            ChatMessage { seq: Seq(0), ..message() },
            ChatMessage { seq: Seq(Seq::MAX.0 + 1), ..message() },
            ChatMessage { content: String::new(), ..message() },
            ChatMessage { content: "x".repeat(CONTENT_BYTES_MAX + 1), ..message() },
            ChatMessage { msg_type: 0, ..message() },
            ChatMessage { msg_type: 4, ..message() },
            ChatMessage { msg_type: RECALL, ..message() },
            ChatMessage { msg_type: RECALL, content: "0".into(), ..message() },
            ChatMessage { msg_type: RECALL, content: "9007199254740992".into(), ..message() },
            ChatMessage { msg_type: RECALL, content: "+7".into(), ..message() },
            ChatMessage { msg_type: RECALL, content: "07".into(), ..message() },
        ];
        for wrong in bad {
            let batch = decode_batch(&encode_batch(ShardId(0), [&message(), &wrong, &message()].into_iter()))
                .unwrap();
            assert_eq!(batch.messages, [message(), message()]);
            assert!(matches!(&batch.refused[..], [(EnvelopeError::Limit(_), body)] if body.len() > 2));
        }
        let mut wrong = to_wire(&message());
        wrong.conversation = "private_b a".into();
        let body = v1::MessageBatch { shard: 0, messages: vec![wrong] }.encode_to_vec();
        let batch = decode_batch(&body).unwrap();
        assert!(matches!(&batch.refused[..], [(EnvelopeError::Conversation(_), again)] if *again == body));
    }

    proptest! {
        #[test]
        fn any_bytes_are_decoded_or_refused(body in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = decode_batch(&body);
            let _ = decode_events(&body);
        }
    }
}
