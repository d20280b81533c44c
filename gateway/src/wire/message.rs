//! A message as clients see it, in pulls and pushes alike.

use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};
use shared::ids::Seq;
use shared::mysql::timeline::StoredMessage;

use super::request::RECALL;

/// Borrowed from a row or an event.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct MessageView<'a> {
    /// The sender's id for it.
    pub msg_id: &'a str,
    /// Its number.
    pub seq: Seq,
    /// Who sent it.
    pub sender_id: &'a str,
    /// What it says; nothing if it was recalled, or is a recall.
    pub content: &'a str,
    /// 1 text, 2 image, 3 recall.
    pub msg_type: u32,
    /// Milliseconds since the Unix epoch.
    pub send_time: i64,
    /// It was recalled.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub recalled: bool,
    /// It recalls this message.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recall_seq: Option<Seq>,
}

impl<'a> MessageView<'a> {
    /// From its parts; the stored content of a recall is the number of what it recalls.
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

    /// As JSON, to be put into any number of frames.
    #[must_use]
    pub fn rendered(&self) -> Box<RawValue> {
        // Strings and numbers: there is nothing that serde_json could refuse.
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
