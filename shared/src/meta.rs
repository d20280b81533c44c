//! `meta`: a JSON object of the app's own, kept and delivered as the text that was sent.
//!
//! The order of keys and the digits of numbers stay. What some client could not read is refused when it comes in, since it
//! would spoil the whole answer that contains it: keys that are there twice, deep nesting, halves of surrogate pairs, numbers
//! beyond a double.

use std::fmt;

use ahash::AHashSet;
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// Most bytes of the text.
pub const META_BYTES_MAX: usize = 2_048;
/// Most objects and arrays within each other, the outermost object included.
pub const META_DEPTH_MAX: usize = 32;
/// The text of an empty object.
const EMPTY: &str = "{}";

/// A JSON object of the app's own.
#[derive(Clone, Serialize)]
pub struct Meta(Box<RawValue>);

/// The reason why a text is no `meta`. Its `Display` is meant for the client that sent it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MetaError {
    /// It has more than [`META_BYTES_MAX`] bytes.
    #[error("meta has {0} bytes: send at most 2048")]
    TooLong(usize),
    /// It is JSON of another type, or no JSON.
    #[error("meta must be a JSON object")]
    NotAnObject,
    /// Some client could not read it.
    #[error("meta: {0}")]
    Unreadable(String),
}

impl Meta {
    /// Checks and copies the text of one JSON value without white space before it; white space behind it is dropped.
    ///
    /// # Errors
    /// [`MetaError`]
    pub fn parse(text: &str) -> Result<Self, MetaError> {
        if text.len() > META_BYTES_MAX {
            return Err(MetaError::TooLong(text.len()));
        }
        if !text.starts_with('{') {
            return Err(MetaError::NotAnObject);
        }
        let mut json = serde_json::Deserializer::from_str(text);
        let checked = Check { levels_left: META_DEPTH_MAX }.deserialize(&mut json).and_then(|()| json.end());
        checked.map_err(|error| MetaError::Unreadable(error.to_string()))?;
        RawValue::from_string(text.to_owned()).map(Self).map_err(|_| MetaError::NotAnObject)
    }

    /// The object of a stored row; an empty text is the empty object.
    pub(crate) fn from_stored(text: String) -> Self {
        let text = if text.is_empty() { EMPTY.to_owned() } else { text };
        RawValue::from_string(text).map_or_else(
            |error| {
                tracing::error!(%error, "A stored meta is no JSON; it is shown as an empty object");
                Self::default()
            },
            Self,
        )
    }

    /// Whether it is the empty object.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.as_str().trim_start_matches('{').trim_start().starts_with('}')
    }

    /// The text, as it was sent.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.get()
    }
}

impl Default for Meta {
    /// The empty object.
    fn default() -> Self {
        // A constant text that is JSON.
        Self(RawValue::from_string(EMPTY.to_owned()).unwrap_or_else(|_| RawValue::NULL.to_owned()))
    }
}

impl<'de> Deserialize<'de> for Meta {
    /// Reads a stored object, which was checked when it came in.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = Box::<RawValue>::deserialize(deserializer)?;
        if raw.get().starts_with('{') { Ok(Self(raw)) } else { Err(D::Error::custom("meta is no object")) }
    }
}

impl PartialEq for Meta {
    /// Compares the texts.
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for Meta {}

impl fmt::Debug for Meta {
    /// Without its content, which belongs to users.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Meta({} bytes)", self.as_str().len())
    }
}

/// Reads a value without keeping it.
#[derive(Clone, Copy)]
struct Check {
    levels_left: usize,
}

impl Check {
    /// For the values in an object or an array.
    fn inner<E: Error>(self) -> Result<Self, E> {
        let too_deep =
            || E::custom(format_args!("objects and arrays are nested deeper than {META_DEPTH_MAX} levels"));
        self.levels_left.checked_sub(1).map(|levels_left| Self { levels_left }).ok_or_else(too_deep)
    }
}

impl<'de> DeserializeSeed<'de> for Check {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Check {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut array: A) -> Result<(), A::Error> {
        let inner = self.inner()?;
        while array.next_element_seed(inner)?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<(), A::Error> {
        let inner = self.inner()?;
        let mut keys = AHashSet::new();
        while let Some(key) = object.next_key::<String>()? {
            object.next_value_seed(inner)?;
            if let Some(twice) = keys.replace(key) {
                return Err(A::Error::custom(format_args!("the key {twice:?} is there twice")));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn nested(levels: usize) -> String {
        format!("{}1{}", r#"{"a":"#.repeat(levels), "}".repeat(levels))
    }

    fn of_bytes(bytes: usize) -> String {
        format!(r#"{{"a":"{}"}}"#, "x".repeat(bytes - 8))
    }

    #[test]
    fn an_object_is_kept_as_the_text_that_was_sent() {
        for text in [
            "{}",
            r#"{"b":1.50,"a":1e2,"c":12345678901234567890123}"#,
            "{ \"z\" :\t[ {} , null ],\n\"a\": -0.0 }",
            r#"{"\u0061":"\ud83d\ude00\u0000","":"é"}"#,
            &nested(META_DEPTH_MAX),
            &of_bytes(META_BYTES_MAX),
        ] {
            let meta = Meta::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(serde_json::to_string(&meta).unwrap(), text);
            assert_eq!(Meta::from_stored(text.to_owned()), meta);
        }
    }

    #[test]
    fn a_text_that_is_too_long_is_told_from_one_that_is_no_object() {
        assert_eq!(Meta::parse(&of_bytes(2_049)), Err(MetaError::TooLong(2_049)));
        for text in ["", "null", "[]", "\"{}\"", "1", " {}"] {
            assert_eq!(Meta::parse(text), Err(MetaError::NotAnObject), "{text}");
        }
    }

    #[test]
    fn what_some_client_could_not_read_is_refused() {
        for (text, why) in [
            (nested(META_DEPTH_MAX + 1), "deeper than 32 levels"),
            (format!(r#"{{"a":{}}}"#, "[".repeat(1_000)), "deeper than 32 levels"),
            (r#"{"a":1,"b":2,"a":3}"#.to_owned(), "the key \"a\" is there twice"),
            (r#"{"x":[{"a":1,"\u0061":3}]}"#.to_owned(), "the key \"a\" is there twice"),
            (r#"{"a":"\ud83d"}"#.to_owned(), "hex escape"),
            (r#"{"\udc00":1}"#.to_owned(), "hex escape"),
            (r#"{"a":1e400}"#.to_owned(), "number out of range"),
            (r#"{"a":1}{}"#.to_owned(), "trailing characters"),
            (r#"{"a":01}"#.to_owned(), "invalid number"),
            (r#"{"a":1,}"#.to_owned(), "trailing comma"),
            ("{".to_owned(), "EOF"),
        ] {
            match Meta::parse(&text) {
                Err(MetaError::Unreadable(message)) => assert!(message.contains(why), "{text}: {message}"),
                other => panic!("{text}: {other:?}"),
            }
        }
    }

    #[test]
    fn an_empty_or_broken_stored_text_is_an_empty_object() {
        for text in ["", "{\"a\""] {
            assert_eq!(Meta::from_stored(text.to_owned()).as_str(), "{}");
        }
        assert_eq!(Meta::default().as_str(), "{}");
    }

    proptest! {
        #[test]
        fn what_is_accepted_is_json_with_the_same_text(text in "\\{[\"a:,\\[\\]{}0-9.eE\\\\u -]{0,12}\\}?") {
            if let Ok(meta) = Meta::parse(&text) {
                prop_assert_eq!(meta.as_str(), text.trim_end());
                prop_assert!(serde_json::from_str::<serde_json::Map<_, _>>(&text).is_ok());
            }
        }
    }
}
