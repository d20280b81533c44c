//! Messages for tests and benchmarks.

#![expect(clippy::unwrap_used, reason = "a fixture with a wrong id is a wrong test")]

use proto::v1;

use super::body::Body;
use super::kind::MessageKind;
use super::value::Numbered;

/// A text of `sender` in the conversation with this key. Change the fields that matter to the test.
///
/// # Panics
/// If one of the ids is ill-formed.
#[must_use]
pub fn numbered(conversation: &str, seq: u64, sender: &str, msg_id: &str) -> Numbered {
    let mut wire = v1::ChatMessage {
        conversation: conversation.to_owned(),
        seq: seq.max(1),
        sender_id: sender.to_owned(),
        msg_id: msg_id.to_owned(),
        content: format!("content of {msg_id}"),
        msg_type: 1,
        send_time_ms: 1_700_000_000_000,
        ..v1::ChatMessage::default()
    };
    let numbered = Numbered::from_wire(&mut wire).unwrap();
    Numbered { seq: crate::ids::Seq(seq), ..numbered }
}

/// The same message with another kind.
#[must_use]
pub fn with_kind(mut numbered: Numbered, kind: MessageKind) -> Numbered {
    numbered.message.kind = kind;
    numbered
}

/// The kind of a text.
///
/// # Panics
/// If it is empty or too long.
#[must_use]
pub fn text(body: &str) -> MessageKind {
    MessageKind::Text(Body::new(body.to_owned()).unwrap())
}
