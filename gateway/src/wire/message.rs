//! The JSON of a message, the same in pulls and pushes.

use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};
use shared::ids::Seq;
use shared::mysql::timeline::StoredMessage;

use super::request::RECALL;

/// A message as clients see it, borrowed from a row or an event.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct MessageView<'a> {
    /// The message id that the sender chose.
    pub msg_id: &'a str,
    /// Its sequence number.
    pub seq: Seq,
    /// The sender.
    pub sender_id: &'a str,
    /// The text; empty for a recall and for a recalled message.
    pub content: &'a str,
    /// 1 text, 2 image, 3 recall.
    pub msg_type: u32,
    /// Milliseconds since the Unix epoch.
    pub send_time: i64,
    /// Whether it was recalled.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub recalled: bool,
    /// For a recall: the message that it recalls.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recall_seq: Option<Seq>,
}

impl<'a> MessageView<'a> {
    /// A message from its fields. The stored content of a recall is the sequence number of the recalled message.
    #[must_use]
    pub fn new(
        msg_id: &'a str,
        seq: Seq,
        sender_id: &'a str,
        content: &'a str,
        msg_type: u32,
        send_time: i64,
    ) -> Self {
        let recall_seq = if msg_type == RECALL { content.parse().ok().map(Seq) } else { None };
        let content = if msg_type == RECALL { "" } else { content };
        Self { msg_id, seq, sender_id, content, msg_type, send_time, recalled: false, recall_seq }
    }

    /// The JSON, to be shared by several frames.
    #[must_use]
    pub fn rendered(&self) -> Box<RawValue> {
        // Strings and numbers only: serialization cannot fail.
        to_raw_value(self).unwrap_or_else(|_| RawValue::NULL.to_owned())
    }
}

impl<'a> From<&'a StoredMessage> for MessageView<'a> {
    fn from(row: &'a StoredMessage) -> Self {
        let StoredMessage { seq, msg_id, sender_id, content, msg_type, send_time_ms, is_recalled, .. } = row;
        let view = Self::new(msg_id, *seq, sender_id, content, *msg_type, *send_time_ms);
        Self { recalled: *is_recalled, ..view }
    }
}
