//! The protocol's frames, as docs/protocol.md describes them.

use serde::Deserialize;

/// A frame from the server.
#[derive(Debug, Clone, Deserialize)]
pub struct Packet {
    /// The `cmd` of the request, or 5 for a push and 7 for an event.
    pub cmd: i64,
    /// 0 for success.
    pub code: u16,
    /// The message id of the request.
    pub msg_id: Option<String>,
    /// The canonical name of the conversation.
    pub conversation_id: Option<String>,
    /// The other user of a private conversation.
    pub peer: Option<String>,
    /// The sequence number of a message or position.
    pub seq: Option<u64>,
    /// The cursor of the next page.
    pub next_cursor_seq: Option<u64>,
    /// Whether there are more pages.
    pub has_more: Option<bool>,
    /// Whether the reply to a sync is a complete list instead of changes.
    #[serde(default)]
    pub reset: bool,
    /// The payload; its type depends on `cmd` and `code`.
    #[serde(default)]
    pub payload: serde_json::Value,
}

impl Packet {
    /// The messages of a push or of the reply to a pull.
    ///
    /// # Errors
    /// If the payload has another type.
    pub fn messages(&self) -> serde_json::Result<Vec<StoredMessage>> {
        Vec::deserialize(&self.payload)
    }

    /// The entries of the reply to a sync.
    ///
    /// # Errors
    /// If the payload has another type.
    pub fn entries(&self) -> serde_json::Result<Vec<Entry>> {
        Vec::deserialize(&self.payload)
    }

    /// The type of an event.
    #[must_use]
    pub fn event(&self) -> Option<&str> {
        (self.cmd == 7).then(|| self.payload.get("type")?.as_str()).flatten()
    }

    /// The time before a retry, after 429 or 503.
    #[must_use]
    pub fn retry_after_ms(&self) -> Option<u64> {
        matches!(self.code, 429 | 503).then(|| self.payload.get("retry_after_ms")?.as_u64()).flatten()
    }
}

/// A message in a pull or push, or in a list of conversations.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
pub struct StoredMessage {
    /// The message id.
    pub msg_id: String,
    /// The sequence number.
    pub seq: u64,
    /// The sender.
    pub sender_id: String,
    /// The content.
    pub content: String,
    /// 1 text, 2 image, 3 recall, 4 edit, 5 reaction, 6 pin, 8 a change of the group, 100 to 255 the app's own.
    pub msg_type: u32,
    /// Milliseconds since 1970.
    pub send_time: i64,
    /// Whether it was recalled.
    #[serde(default)]
    pub recalled: bool,
    /// The message that it recalls.
    #[serde(default)]
    pub recall_seq: Option<u64>,
    /// The message that it edits.
    #[serde(default)]
    pub edit_seq: Option<u64>,
    /// In an edit: the content stays as it is.
    #[serde(default)]
    pub keeps_content: bool,
    /// The message that it reacts to.
    #[serde(default)]
    pub react_seq: Option<u64>,
    /// In a reaction: which one.
    #[serde(default)]
    pub reaction: Option<String>,
    /// The message that it pins.
    #[serde(default)]
    pub pin_seq: Option<u64>,
    /// In a reaction or a pin: it is taken back.
    #[serde(default)]
    pub remove: bool,
    /// A JSON object of the app's own; in a change of the group, what was changed.
    #[serde(default)]
    pub meta: Option<serde_json::Map<String, serde_json::Value>>,
    /// The message that it answers.
    #[serde(default)]
    pub reply_to: Option<u64>,
    /// The users that it mentions; `["*"]` is everyone.
    #[serde(default)]
    pub mentions: Vec<String>,
    /// The files that it carries.
    #[serde(default)]
    pub attachments: Vec<Attachment>,
    /// When it was edited last, in milliseconds since 1970 by its sender's clock.
    #[serde(default)]
    pub edited_at: Option<i64>,
    /// In the order of the earliest one that still stands.
    #[serde(default)]
    pub reactions: Vec<Reactions>,
}

/// A file that a message carries.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Attachment {
    /// Its id, to ask for links.
    pub file_id: String,
    /// Its name, which is harmless.
    pub name: String,
    /// Its bytes.
    pub size: u64,
    /// Its media type, as its content says.
    pub content_type: String,
    /// Of a picture, in pixels, as it is shown.
    #[serde(default)]
    pub width: Option<u32>,
    /// Of a picture, in pixels, as it is shown.
    #[serde(default)]
    pub height: Option<u32>,
    /// A placeholder of a picture, by the thumbhash algorithm, in base64.
    #[serde(default)]
    pub thumbhash: Option<String>,
}

/// The users with the same reaction to a message.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Reactions {
    /// The reaction.
    pub reaction: String,
    /// How many users.
    pub count: u32,
    /// The first 20 of them, in the order of reacting.
    pub user_ids: Vec<String>,
}

/// A conversation in the reply to a sync.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Entry {
    /// The conversation.
    pub conversation_id: String,
    /// The other user, if it is private.
    #[serde(default)]
    pub peer: Option<String>,
    /// Its last sequence number.
    pub last_seq: Option<u64>,
    /// The user's read position.
    pub last_ack_seq: Option<u64>,
    /// The unread count.
    pub unread: Option<u64>,
    /// How many unread messages mention the user.
    #[serde(default)]
    pub mentions: u64,
    /// The first of them.
    #[serde(default)]
    pub mention_seq: Option<u64>,
    /// The last message that is no change.
    pub last_message: Option<StoredMessage>,
    /// Whether the user is no longer a member.
    #[serde(default)]
    pub removed: bool,
}

/// A message to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chat {
    /// The conversation.
    pub conversation: String,
    /// The message id, chosen by the sender.
    pub msg_id: String,
    /// The content.
    pub content: String,
    /// Whether the reply is requested at the commit.
    pub stored: bool,
}

/// The frame of a message (cmd 2).
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

/// The frame of a pull (cmd 3).
#[must_use]
pub fn pull_frame(conversation: &str, cursor: u64, limit: usize, backward: bool) -> String {
    let conversation = serde_json::Value::from(conversation);
    let direction = if backward { "backward" } else { "forward" };
    format!(
        r#"{{"cmd":3,"conversation_id":{conversation},"cursor_seq":{cursor},"payload":{{"limit":{limit},"direction":"{direction}"}}}}"#
    )
}
