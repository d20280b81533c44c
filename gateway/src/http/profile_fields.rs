//! Fields that profiles of users and groups have in common.

use serde::de::{Deserialize as _, Deserializer, Error as _, IgnoredAny};
use serde_json::value::RawValue;
use shared::meta::{Meta, MetaError};

use crate::wire::api_error::ApiError;

/// The fields of a body whose `null` is a value: it takes them away.
pub(super) const NULLABLE: [&str; 1] = ["avatar"];

/// Deserializes `avatar`, which can only be taken away while there are no uploads. True: the field is there.
///
/// # Errors
/// It is not `null`.
pub(super) fn no_avatar<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    match Option::<IgnoredAny>::deserialize(deserializer)? {
        None => Ok(true),
        Some(IgnoredAny) => Err(D::Error::custom("must be null: this gateway has no uploads")),
    }
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
