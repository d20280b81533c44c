//! The context of a request: its sender, and the id to answer with.

use std::sync::Arc;

use shared::conversation::Conversation;
use tokio_tungstenite::tungstenite::Utf8Bytes;

use super::api_error::ApiError;
use super::name::ConversationName;
use crate::identity::Identity;

/// Who sent a request, and what its reply repeats.
#[derive(Debug, PartialEq, Eq)]
pub struct RequestContext {
    /// The user and connection.
    pub by: Arc<Identity>,
    /// The `msg_id` of the request; an error reply repeats it.
    pub msg_id: Option<Box<str>>,
}

impl RequestContext {
    /// The error reply to this request.
    pub(crate) fn refuse(
        &self,
        refusal: &ApiError,
        cmd: i64,
        conversation: Option<&Conversation>,
    ) -> Utf8Bytes {
        let msg_id = self.msg_id.as_deref();
        match conversation {
            Some(conversation) => refusal.frame_about(cmd, msg_id, &self.name(conversation)),
            None => refusal.frame(cmd, msg_id, None),
        }
    }

    /// A conversation as the sender of the request names it.
    pub(crate) fn name<'c>(&self, conversation: &'c Conversation) -> ConversationName<'c> {
        ConversationName::of(conversation, self.by.user.as_str())
    }
}
