//! The users whom a connection watches (cmd 9), as its request names them.

use serde_json::value::RawValue;
use shared::ids::UserId;

use super::api_error::ApiError;
use super::fields::value;

/// Most users that one connection watches.
const WATCHED_MAX: usize = 200;

/// Parses `payload.user_ids`.
///
/// # Errors
/// 400
pub(super) fn parse(user_ids: Option<&RawValue>) -> Result<Vec<UserId>, ApiError> {
    let rule = "payload.user_ids must be an array of at most 200 ids of users; an empty one ends it";
    let ids: Option<Vec<String>> = value(user_ids, rule)?;
    let ids = ids.filter(|ids| ids.len() <= WATCHED_MAX).ok_or_else(|| ApiError::malformed(rule))?;
    ids.iter().map(|id| UserId::parse(id)).collect::<Result<_, _>>().map_err(ApiError::malformed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<usize, u16> {
        let raw: Box<RawValue> = serde_json::from_str(text).unwrap();
        parse(Some(&raw)).map(|users| users.len()).map_err(|error| error.code())
    }

    #[test]
    fn a_list_has_at_most_200_ids() {
        let list = |count: usize| {
            let ids: Vec<_> = (0..count).map(|n| format!("\"u{n}\"")).collect();
            format!("[{}]", ids.join(","))
        };
        assert_eq!([0, 2, 200].map(|count| parsed(&list(count))), [Ok(0), Ok(2), Ok(200)]);
        for text in [&list(201), "null", "\"bob\"", "[5]", "[\"\"]", "[\"a b\"]", "[null]", "{}"] {
            assert_eq!(parsed(text), Err(400), "{text}");
        }
        assert_eq!(parse(None).unwrap_err().code(), 400);
    }
}
