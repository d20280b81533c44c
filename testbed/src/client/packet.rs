//! The protocol's frames, as docs/protocol.md describes them.

use serde::Deserialize;

/// A frame from the server.
#[derive(Debug, Clone, Deserialize)]
pub struct Packet {
    /// What it answers, or 5 for a push and 7 for an event.
    pub cmd: i64,
    /// 0 for success.
    pub code: u16,
    /// Of the request.
    pub msg_id: Option<String>,
    /// Canonical.
    pub conversation_id: Option<String>,
    /// Of a message or position.
    pub seq: Option<u64>,
    /// Where to go on.
    pub next_cursor_seq: Option<u64>,
    /// Whether there is more.
    pub has_more: Option<bool>,
    /// A sync's answer is a complete list, not what changed.
    #[serde(default)]
    pub reset: bool,
    /// Depends on `cmd` and `code`.
    #[serde(default)]
    pub payload: serde_json::Value,
}

impl Packet {
    /// The messages of a pull's reply or a push.
    ///
    /// # Errors
    /// If the payload is something else.
    pub fn messages(&self) -> serde_json::Result<Vec<StoredMessage>> {
        Vec::deserialize(&self.payload)
    }

    /// The conversations of a sync's answer.
    ///
    /// # Errors
    /// If the payload is something else.
    pub fn entries(&self) -> serde_json::Result<Vec<Entry>> {
        Vec::deserialize(&self.payload)
    }

    /// The kind of an event.
    #[must_use]
    pub fn event(&self) -> Option<&str> {
        (self.cmd == 7).then(|| self.payload.get("type")?.as_str()).flatten()
    }

    /// When to try again after 429 or 503.
    #[must_use]
    pub fn retry_after_ms(&self) -> Option<u64> {
        matches!(self.code, 429 | 503).then(|| self.payload.get("retry_after_ms")?.as_u64()).flatten()
    }
}

/// A message as the server tells it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct StoredMessage {
    /// The sender's id for it.
    pub msg_id: String,
    /// Its number.
    pub seq: u64,
    /// Who sent it.
    pub sender_id: String,
    /// What it says.
    pub content: String,
    /// 1 text, 2 image, 3 recall.
    pub msg_type: u32,
    /// Milliseconds since 1970.
    pub send_time: i64,
    /// It was recalled.
    #[serde(default)]
    pub recalled: bool,
    /// It recalls this message.
    #[serde(default)]
    pub recall_seq: Option<u64>,
}

/// A conversation in a sync's answer.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Entry {
    /// Which one.
    pub conversation_id: String,
    /// Its last number.
    pub last_seq: Option<u64>,
    /// How far the user has read.
    pub last_ack_seq: Option<u64>,
    /// Messages of others above that.
    pub unread: Option<u64>,
    /// The one with the last number.
    pub last_message: Option<StoredMessage>,
    /// The user is not in it any more.
    #[serde(default)]
    pub removed: bool,
}

/// A message to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chat {
    /// Where to.
    pub conversation: String,
    /// Made by the sender.
    pub msg_id: String,
    /// What it says.
    pub content: String,
    /// Ask for the reply at the commit.
    pub stored: bool,
}

/// cmd 2
#[must_use]
pub fn chat_frame(chat: &Chat) -> String {
    let quoted = |text: &str| serde_json::Value::from(text).to_string();
    let ack = if chat.stored { r#","ack":"stored""# } else { "" };
    format!(
        r#"{{"cmd":2,"msg_id":{},"conversation_id":{},"payload":{{"content":{}{ack}}}}}"#,
        quoted(&chat.msg_id),
        quoted(&chat.conversation),
        quoted(&chat.content),
    )
}

/// cmd 3
#[must_use]
pub fn pull_frame(conversation: &str, cursor: u64, limit: usize, backward: bool) -> String {
    let conversation = serde_json::Value::from(conversation);
    let direction = if backward { "backward" } else { "forward" };
    format!(
        r#"{{"cmd":3,"conversation_id":{conversation},"cursor_seq":{cursor},"payload":{{"limit":{limit},"direction":"{direction}"}}}}"#
    )
}
