//! The context of a request: its sender, and the id to answer with.

use std::sync::Arc;

use shared::conversation::Conversation;
use tokio_tungstenite::tungstenite::Utf8Bytes;

use super::api_error::ApiError;
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
        refusal.frame(cmd, self.msg_id.as_deref(), conversation.map(Conversation::wire).as_deref())
    }
}
