//! Fields that profiles of users and groups have in common.

use serde::de::{Deserialize as _, Deserializer};
use serde_json::value::RawValue;
use shared::ids::UserId;
use shared::message::FileId;
use shared::meta::{Meta, MetaError};
use shared::mysql::files;

use super::call::Call;
use crate::wire::api_error::ApiError;

/// The fields of a body whose `null` is a value: it takes them away.
pub(super) const NULLABLE: [&str; 1] = ["avatar"];

/// The field `avatar`: `Some(None)` takes it away.
pub(super) type Avatar = Option<Option<FileId>>;

/// Deserializes `avatar`, where it is there.
///
/// # Errors
/// It is neither `null` nor the id of a file.
pub(super) fn avatar<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Avatar, D::Error> {
    Option::<FileId>::deserialize(deserializer).map(Some)
}

/// Checks that an avatar is an upload of `user` for one.
///
/// # Errors
/// 400, 503.
pub(super) async fn check_avatar(
    avatar: &Avatar,
    user: Option<&UserId>,
    call: &Call,
) -> Result<(), ApiError> {
    let Some(Some(file)) = avatar else { return Ok(()) };
    let found = match user {
        Some(user) => files::is_avatar_of(&call.deps.pool, user, file).await,
        None => Ok(false),
    };
    if found.map_err(|error| ApiError::database(&error))? { Ok(()) } else { Err(no_avatar()) }
}

/// The answer where a file cannot be an avatar.
pub(super) fn no_avatar() -> ApiError {
    ApiError::malformed(
        "avatar must be null, or a picture that you have uploaded without a conversation_id and completed",
    )
}

/// Checks the field `meta`.
///
/// # Errors
/// 400, or 413 if it is too long.
pub(super) fn meta(text: Option<Box<RawValue>>) -> Result<Option<Meta>, ApiError> {
    let checked = text.map(|text| Meta::parse(text.get())).transpose();
    checked.map_err(|error| match error {
        MetaError::TooLong(_) => ApiError::TooLarge(error.to_string()),
        MetaError::NotAnObject | MetaError::Unreadable(_) => ApiError::malformed(error),
    })
}
