//! The envelope of every frame from the server.

use serde::Serialize;
use shared::ids::Seq;
use tokio_tungstenite::tungstenite::Utf8Bytes;

use super::name::ConversationName;

/// A frame from the server. Fields that are `None` are left out.
#[derive(Debug, Serialize)]
pub(super) struct Frame<'a, P: Serialize> {
    pub(super) cmd: i64,
    pub(super) code: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) msg_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) conversation_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) peer: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) seq: Option<Seq>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) payload: Option<P>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) next_cursor_seq: Option<Seq>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) has_more: Option<bool>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(super) reset: bool,
}

impl<'a, P: Serialize> Frame<'a, P> {
    /// About a conversation.
    pub(super) fn about(self, name: &'a ConversationName<'_>) -> Self {
        Self { conversation_id: Some(name.id()), peer: name.peer(), ..self }
    }

    pub(super) fn new(cmd: i64, code: u16) -> Self {
        Self {
            cmd,
            code,
            msg_id: None,
            conversation_id: None,
            peer: None,
            seq: None,
            payload: None,
            next_cursor_seq: None,
            has_more: None,
            reset: false,
        }
    }

    pub(super) fn render(&self) -> Utf8Bytes {
        let mut text = Vec::with_capacity(128);
        // Strings and numbers only: serialization cannot fail.
        let written = serde_json::to_writer(&mut text, self).ok();
        written.and_then(|()| Utf8Bytes::try_from(text).ok()).unwrap_or_default()
    }
}
