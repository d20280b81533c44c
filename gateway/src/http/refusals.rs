//! Errors that many calls share.

use crate::wire::api_error::ApiError;

/// 404: there is no such call.
pub(super) fn not_found() -> ApiError {
    ApiError::NotFound("no such call: see docs/protocol.md".to_owned())
}

/// 405: the path allows only these methods.
pub(super) fn method_not_allowed(allowed: &'static str) -> ApiError {
    ApiError::MethodNotAllowed { allowed }
}
