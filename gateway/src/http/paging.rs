//! Lists that are read page by page.

use super::call::Call;
use crate::wire::api_error::ApiError;

/// Entries of a page where nothing is said.
const PAGE_DEFAULT: u16 = 50;
/// Most entries of a page.
const PAGE_MAX: u16 = 500;

/// `limit` of a list.
pub(super) fn limit(call: &Call) -> Result<u16, ApiError> {
    let rule = "limit must be 1 to 500";
    let limit = call.parameter_as("limit", rule)?.unwrap_or(PAGE_DEFAULT);
    if (1..=PAGE_MAX).contains(&limit) { Ok(limit) } else { Err(ApiError::malformed(rule)) }
}

/// `cursor` of a list by ids; empty at the beginning.
pub(super) fn cursor(call: &Call) -> String {
    call.parameter("cursor").unwrap_or_default().into_owned()
}

/// Cuts what was read to `limit`; if there was one more, returns where to go on.
pub(super) fn cut<T>(listed: &mut Vec<T>, limit: u16, id: impl Fn(&T) -> String) -> Option<String> {
    let more = listed.len() > usize::from(limit);
    listed.truncate(usize::from(limit));
    listed.last().filter(|_| more).map(id)
}
