//! The bodies that travel through the broker, and their encoding.
//!
//! Every message that [`decode_batch`] returns can be stored. A message that cannot is returned with its [`MessageError`] and
//! goes to the dead-letter queue.

use prost::Message as _;
use prost::bytes::BufMut as _;
use proto::v1;

use crate::message::{MessageError, Numbered};
use crate::shard::ShardId;
use crate::traces::{MessageTrace, TraceId};

/// A decoded body.
#[derive(Debug)]
pub struct DecodedBatch {
    /// The shard that the sender meant.
    pub shard: u32,
    /// The messages that can be stored, in the order of the body.
    pub messages: Vec<Numbered>,
    /// The other messages: each with its reason, encoded again as a body of its own for the dead-letter queue.
    pub refused: Vec<(MessageError, Vec<u8>)>,
}

/// The reason why a body cannot be decoded.
#[derive(Debug, thiserror::Error)]
#[error("not decodable: {0}")]
pub struct EnvelopeError(#[from] prost::DecodeError);

/// The key of `MessageBatch.messages`: field 2, of a type with a length.
const MESSAGES_KEY: u8 = 2 << 3 | 2;

/// The same of `EventBatch.events`: field 4.
const EVENTS_KEY: u8 = 4 << 3 | 2;
/// Bytes of an event, roughly.
const EVENT_BYTES: usize = 512;

/// Encodes messages of one shard as the body of one AMQP message, in the given order.
#[must_use]
pub fn encode_batch<'a>(shard: ShardId, messages: impl Iterator<Item = &'a Numbered>) -> Vec<u8> {
    let mut body = v1::MessageBatch { shard: shard.0, messages: Vec::new() }.encode_to_vec();
    // One message is filled again and again, so that its strings are allocated once for a body and not once for each message.
    let mut one = v1::ChatMessage::default();
    for message in messages {
        message.fill_wire(&mut one);
        append_message(&mut body, &one);
    }
    body
}

/// Appends a message to the encoding of a batch, as one more element of its list.
fn append_message(body: &mut Vec<u8>, message: &v1::ChatMessage) {
    let (begin, length) = (body.len(), message.encoded_len());
    // Into a slice: a `Vec` looks at its capacity for each byte, which took a third of the time.
    body.resize(begin + 1 + prost::length_delimiter_len(length) + length, 0);
    let mut rest = &mut body[begin..];
    rest.put_u8(MESSAGES_KEY);
    // It has the length: encoding into it cannot fail.
    let _ = prost::encode_length_delimiter(length, &mut rest).and_then(|()| message.encode(&mut rest));
}

/// Decodes a body and checks every message in it. A message that cannot be stored does not affect the others, which were
/// promised to their senders.
///
/// # Errors
/// [`EnvelopeError`] if the body is not a batch.
pub fn decode_batch(body: &[u8]) -> Result<DecodedBatch, EnvelopeError> {
    let batch = v1::MessageBatch::decode(body)?;
    let shard = batch.shard;
    let mut messages = Vec::with_capacity(batch.messages.len());
    let mut refused = Vec::new();
    for mut message in batch.messages {
        match Numbered::from_wire(&mut message) {
            Ok(message) => messages.push(message),
            Err(error) => {
                refused.push((error, v1::MessageBatch { shard, messages: vec![message] }.encode_to_vec()));
            }
        }
    }
    Ok(DecodedBatch { shard, messages, refused })
}

/// The id of the trace of the message in a body with one message; `None` if it has none, or the body is not decodable.
#[must_use]
pub fn trace_id(body: &[u8]) -> Option<TraceId> {
    let batch = v1::MessageBatch::decode(body).ok()?;
    let [message] = &batch.messages[..] else { return None };
    MessageTrace::of_rare(message.rare.as_deref()).map(|trace| trace.trace_id())
}

/// Encodes a batch of events as the body of one message on a push exchange: `header`, which has none, with `events`.
#[must_use]
pub fn encode_events<'e>(header: &v1::EventBatch, events: impl Iterator<Item = &'e v1::Event>) -> Vec<u8> {
    debug_assert!(header.events.is_empty(), "they are encoded one by one");
    let mut body = Vec::with_capacity(EVENT_BYTES * (events.size_hint().0 + 1));
    // A `Vec` grows: encoding into it cannot fail.
    let _ = header.encode(&mut body);
    // Event by event: encoding the batch at once would measure each message once more.
    for event in events {
        body.put_u8(EVENTS_KEY);
        let _ = event.encode_length_delimited(&mut body);
    }
    body
}

/// Decodes a body from the push exchange. Its content is not checked further: it is shown, never stored.
///
/// # Errors
/// [`EnvelopeError`]
pub fn decode_events(body: &[u8]) -> Result<v1::EventBatch, EnvelopeError> {
    Ok(v1::EventBatch::decode(body)?)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ids::{ConnectionId, Seq};
    use crate::message::fixture::{numbered, text, with_kind};
    use crate::message::{BODY_BYTES_MAX, MessageKind};

    fn message() -> Numbered {
        Numbered {
            jump: true,
            retry: true,
            origin: Some(ConnectionId { gateway: 3, connection: 9 }),
            reply_when_stored: true,
            ..numbered("private_alice bob", 7, "alice", "m1")
        }
    }

    fn decode_one(wire: v1::ChatMessage) -> DecodedBatch {
        let body = v1::MessageBatch { shard: 0, messages: vec![wire] }.encode_to_vec();
        decode_batch(&body).unwrap()
    }

    #[test]
    fn a_batch_is_the_same_after_decoding() {
        let sent = vec![message(), Numbered { seq: Seq(8), origin: None, jump: false, ..message() }];
        let batch = decode_batch(&encode_batch(ShardId(5), sent.iter())).unwrap();
        assert_eq!((batch.shard, batch.messages), (5, sent));
        assert!(batch.refused.is_empty());
    }

    #[test]
    fn a_trace_travels_with_its_message_and_costs_others_no_byte() {
        let plain = encode_batch(ShardId(5), [message()].iter());
        let trace = MessageTrace::begin(message().id().trace_id());
        let sampled = Numbered { trace: Some(Box::new(trace)), ..message() };
        let body = encode_batch(ShardId(5), [message(), sampled.clone(), message()].iter());
        let decoded = decode_batch(&body).unwrap().messages;
        assert_eq!((&decoded[0], &decoded[2]), (&message(), &message()));
        let received = decoded[1].trace.as_ref().unwrap();
        assert_eq!(received.to_wire(), trace.to_wire());
        // Two fields within each other, with tag and length: the traceparent of 55 characters, and the time. With them, the
        // message is longer than 127 bytes, so its length takes another byte.
        let one = encode_batch(ShardId(5), [sampled].iter());
        assert_eq!(one.len() - plain.len(), 2 + 2 + 57 + 9 + 1);
        assert_eq!((trace_id(&one), trace_id(&plain)), (Some(trace.trace_id()), None));
        // A malformed trace is no reason to refuse the message.
        let rare = v1::RareFields { trace: Some(v1::TraceContext::default()), extra: None };
        let wire = v1::ChatMessage { rare: Some(Box::new(rare)), ..message().to_wire() };
        assert_eq!(decode_one(wire).messages, [message()]);
    }

    #[test]
    fn a_batch_of_events_is_the_same_after_decoding() {
        let committed = |n: u64| {
            v1::event::Kind::Committed(v1::Committed {
                conversation: "group_1".to_owned(),
                messages: vec![message().into_event(Seq(n)); 3],
            })
        };
        let gateways = vec![v1::GatewayNumber { gateway: u64::MAX, number: 2 }];
        let gateway_numbers = Some(Box::new(v1::GatewayNumbers { gateways }));
        let header =
            v1::EventBatch { stream: 7, shard: Some(3), number: 9, ends: true, ..Default::default() };
        for events in [0, 1, 40] {
            let events: Vec<_> = (1..=events).map(|n| v1::Event { kind: Some(committed(n)) }).collect();
            for gateway in [None, Some(5)] {
                let header =
                    v1::EventBatch { gateway, gateway_numbers: gateway_numbers.clone(), ..header.clone() };
                let batch = v1::EventBatch { events: events.clone(), ..header.clone() };
                assert_eq!(decode_events(&encode_events(&header, events.iter())).unwrap(), batch);
            }
        }
    }

    #[test]
    fn messages_that_are_encoded_one_by_one_are_one_batch() {
        let recall = with_kind(message(), MessageKind::Recall(Seq(5)));
        let all = [recall, message(), numbered("group_1", 8, "bob", "m2"), message()];
        for shard in [0, 5] {
            let messages = all.iter().map(Numbered::to_wire).collect();
            let at_once = v1::MessageBatch { shard, messages }.encode_to_vec();
            assert_eq!(encode_batch(ShardId(shard), all.iter()), at_once, "shard {shard}");
        }
    }

    #[test]
    fn a_recall_travels_as_the_number_that_it_recalls() {
        let mut recall = message();
        recall.message.kind = MessageKind::Recall(Seq::MAX);
        let wire = recall.to_wire();
        assert_eq!((wire.msg_type, wire.content.as_str()), (3, "9007199254740991"));
        assert_eq!(decode_one(wire).messages, [recall]);
        let mut number = message();
        number.message.kind = text("7");
        assert_eq!(decode_one(number.to_wire()).messages[0].kind.recalls(), None, "a text");
    }

    #[test]
    fn a_message_that_cannot_be_stored_does_not_affect_its_neighbors() {
        let good = || message().to_wire();
        let recall = |number: &str| v1::ChatMessage { msg_type: 3, content: number.into(), ..good() };
        let bad = [
            v1::ChatMessage { seq: 0, ..good() },
            v1::ChatMessage { seq: Seq::MAX.0 + 1, ..good() },
            v1::ChatMessage { content: String::new(), ..good() },
            v1::ChatMessage { content: "x".repeat(BODY_BYTES_MAX + 1), ..good() },
            v1::ChatMessage { msg_type: 0, ..good() },
            v1::ChatMessage { msg_type: 4, ..good() },
            recall("content"),
            recall("0"),
            recall("9007199254740992"),
            recall("+7"),
            recall("07"),
        ];
        for wrong in bad {
            let messages = vec![good(), wrong, good()];
            let batch = decode_batch(&v1::MessageBatch { shard: 0, messages }.encode_to_vec()).unwrap();
            assert_eq!(batch.messages, [message(), message()]);
            assert!(matches!(&batch.refused[..], [(MessageError::Limit(_), body)] if body.len() > 2));
        }
        let wrong = v1::ChatMessage { conversation: "private_b a".into(), ..good() };
        let body = v1::MessageBatch { shard: 0, messages: vec![wrong] }.encode_to_vec();
        let batch = decode_batch(&body).unwrap();
        assert!(matches!(&batch.refused[..], [(MessageError::Conversation(_), again)] if *again == body));
    }

    proptest! {
        #[test]
        fn any_bytes_are_decoded_or_refused(body in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = decode_batch(&body);
            let _ = decode_events(&body);
        }
    }
}
