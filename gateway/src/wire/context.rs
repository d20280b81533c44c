//! What identifies a request while it is worked on.

use std::sync::Arc;

use shared::conversation::Conversation;
use tokio_tungstenite::tungstenite::Utf8Bytes;

use super::api_error::ApiError;
use crate::identity::Identity;

/// A request of a connection.
#[derive(Debug, PartialEq, Eq)]
pub struct RequestContext {
    /// Who asks.
    pub by: Arc<Identity>,
    /// Comes back with an error.
    pub msg_id: Option<Box<str>>,
}

impl RequestContext {
    /// The answer to it if it was not done.
    pub(crate) fn refuse(
        &self,
        refusal: &ApiError,
        cmd: i64,
        conversation: Option<&Conversation>,
    ) -> Utf8Bytes {
        refusal.frame(cmd, self.msg_id.as_deref(), conversation.map(Conversation::wire).as_deref())
    }
}
