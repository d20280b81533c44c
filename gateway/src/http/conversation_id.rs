//! The conversation that a call names in its path, and the user who reads it.

use shared::conversation::{Conversation, ConversationError};
use shared::ids::UserId;

use super::call::{Call, user};
use super::path::NAMED;
use crate::budget::Payer;
use crate::wire::api_error::ApiError;

/// The user who reads, and who pays for it.
pub(super) fn reader(call: &Call) -> Result<(&Payer, &UserId), ApiError> {
    Ok((&call.payer, call.user()?))
}

/// The conversation with this id in the path; with `-`, the one that the query string names.
pub(super) fn conversation(id: &str, call: &Call) -> Result<Conversation, ApiError> {
    // A `conversation_id` in the query string stands in the path already: the private chat with the user `to`.
    if id == NAMED {
        if call.parameter("conversation_id").is_some() {
            return Err(ApiError::malformed("conversation_id and to are both given: send one of them"));
        }
        let why = "the parameter conversation_id or to is missing";
        let to = call.parameter("to").ok_or_else(|| ApiError::malformed(why))?;
        return Ok(Conversation::between(call.user()?, &user(&to)?));
    }
    Conversation::parse(id, call.user()?).map_err(|error| match error {
        ConversationError::NotYours => ApiError::Forbidden(error.to_string()),
        _ => ApiError::Malformed(error.to_string()),
    })
}
