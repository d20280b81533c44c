//! Reading the fields of a request one by one, so that a wrong one is named.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::api_error::ApiError;
use super::number;

/// A string field; `Err` if it is present and not a string.
pub(super) fn text_field<'a, T: Deserialize<'a>>(raw: Option<&'a RawValue>) -> Result<Option<T>, ()> {
    value(raw, "").map_err(|_| ())
}

/// Reads a field; absent and `null` are `None`.
pub(super) fn value<'a, T: Deserialize<'a>>(
    raw: Option<&'a RawValue>,
    rule: &str,
) -> Result<Option<T>, ApiError> {
    let Some(raw) = raw else { return Ok(None) };
    serde_json::from_str(raw.get()).map_err(|_| ApiError::malformed(rule))
}

/// Reads a whole number, however it is written; absent and `null` are `None`.
pub(super) fn whole<T: TryFrom<i64>>(raw: Option<&RawValue>, rule: &str) -> Result<Option<T>, ApiError> {
    let Some(text) = raw.map(RawValue::get).filter(|text| *text != "null") else { return Ok(None) };
    let number = number::whole(text).and_then(|number| T::try_from(number).ok());
    number.map(Some).ok_or_else(|| ApiError::malformed(rule))
}

/// Reads an object. serde would accept an array for a struct, too.
pub(super) fn object<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, String> {
    if !text.trim_start().starts_with('{') {
        return Err("this frame is not an object".to_owned());
    }
    serde_json::from_str(text).map_err(|error| error.to_string())
}
