//! The answer to a change of a group that failed.

use shared::mysql::groups::GroupError;

use crate::wire::api_error::ApiError;
use crate::wire::denied;

/// What the caller of a change is told.
pub(super) fn refusal(error: &GroupError) -> ApiError {
    match error {
        GroupError::Denied(denied) => (*denied).into(),
        GroupError::NoSuchMember => denied::no_such_member(),
        GroupError::Exists => denied::group_exists(),
        GroupError::Full(members_max) => denied::group_full(*members_max),
        GroupError::Sql(error) => ApiError::database(error),
    }
}
