//! Parameters and cursors of paged lists.

use super::call::Call;
use crate::wire::api_error::ApiError;

/// Entries of a page without `limit`.
const PAGE_DEFAULT: u16 = 50;
/// Largest `limit`.
const PAGE_MAX: u16 = 500;

/// The parameter `limit`.
pub(super) fn limit(call: &Call) -> Result<u16, ApiError> {
    let rule = "limit must be 1 to 500";
    let limit = call.parameter_as("limit", rule)?.unwrap_or(PAGE_DEFAULT);
    if (1..=PAGE_MAX).contains(&limit) { Ok(limit) } else { Err(ApiError::malformed(rule)) }
}

/// The parameter `cursor` of a list in order of ids; empty for the first page.
pub(super) fn cursor(call: &Call) -> String {
    call.parameter("cursor").unwrap_or_default().into_owned()
}

/// Truncates rows that were read with a limit of one more; returns the cursor of the next page if there is one.
pub(super) fn truncate<T>(rows: &mut Vec<T>, limit: u16, id: impl Fn(&T) -> String) -> Option<String> {
    let more = rows.len() > usize::from(limit);
    rows.truncate(usize::from(limit));
    rows.last().filter(|_| more).map(id)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_page_moves_the_cursor_or_is_the_last_one(size in 0..40_usize, limit in 1..12_u16) {
            let all: Vec<String> = (0..size).map(|n| format!("user{n:02}")).collect();
            let (mut cursor, mut seen) = (String::new(), Vec::new());
            loop {
                let above = all.iter().filter(|id| **id > cursor).take(usize::from(limit) + 1);
                let mut page: Vec<String> = above.cloned().collect();
                let next = truncate(&mut page, limit, String::clone);
                prop_assert!(page.len() <= usize::from(limit));
                seen.extend(page);
                let Some(next) = next else { break };
                prop_assert!(next > cursor);
                cursor = next;
            }
            prop_assert_eq!(seen, all);
        }
    }
}
