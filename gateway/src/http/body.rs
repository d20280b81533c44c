//! The JSON of a request body.

use std::fmt;

use serde::de::value::MapDeserializer;
use serde::de::{Deserialize, DeserializeOwned, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::wire::api_error::ApiError;

/// Parses one JSON object. A field that is `null` counts as absent, except for the fields `nullable`; unknown fields are
/// ignored.
///
/// # Errors
/// 400 with a message that names the field.
pub(super) fn parse<T: DeserializeOwned>(text: &[u8], nullable: &[&str]) -> Result<T, ApiError> {
    let not_an_object = |why: &str| ApiError::Malformed(format!("the body must be one JSON object{why}"));
    // serde accepts an array for a struct, too.
    if text.trim_ascii_start().first() != Some(&b'{') {
        return Err(not_an_object(""));
    }
    let Fields(fields) =
        serde_json::from_slice(text).map_err(|error| not_an_object(&format!(": {error}")))?;
    let is_present =
        |name: &String, value: &RawValue| value.get() != "null" || nullable.contains(&name.as_str());
    let present = fields.into_iter().filter(|(name, value)| is_present(name, value));
    let present: MapDeserializer<'_, _, serde_json::Error> = MapDeserializer::new(present);
    serde_path_to_error::deserialize(present).map_err(|error| {
        let (path, why) = (error.path().to_string(), error.into_inner());
        // Without line and column, which count within the field: its path says more.
        match without_position(&why) {
            why if path == "." => ApiError::Malformed(why),
            why => ApiError::Malformed(format!("{path}: {why}")),
        }
    })
}

/// The fields of an object as they are written, repeated ones included, so that a repeated one is refused.
struct Fields<'a>(Vec<(String, &'a RawValue)>);

impl<'de> Deserialize<'de> for Fields<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;

        impl<'de> Visitor<'de> for Object {
            type Value = Fields<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Fields<'de>, A::Error> {
                let mut fields = Vec::new();
                while let Some(field) = object.next_entry()? {
                    fields.push(field);
                }
                Ok(Fields(fields))
            }
        }

        deserializer.deserialize_map(Object)
    }
}

fn without_position(error: &serde_json::Error) -> String {
    let text = error.to_string();
    match text.rsplit_once(" at line ") {
        Some((sentence, _)) => sentence.to_owned(),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;
    use shared::ids::UserId;

    use super::*;
    use crate::wire::number;

    #[derive(Debug, Deserialize, PartialEq)]
    struct Create {
        name: Option<String>,
        #[serde(default)]
        members: Vec<UserId>,
        #[serde(default, deserialize_with = "number::optional")]
        limit: Option<u8>,
        user_id: UserId,
    }

    fn refused(text: &str) -> String {
        let refusal = parse::<Create>(text.as_bytes(), &[]).unwrap_err();
        assert_eq!(refusal.code(), 400);
        refusal.message().to_owned()
    }

    #[test]
    fn unknown_fields_are_ignored_and_errors_name_the_field() {
        let good =
            parse::<Create>(br#" {"limit":1,"members":["a"],"user_id":"u","other":{"x":[]}} "#, &[]).unwrap();
        let user = |id: &str| UserId::parse(id).unwrap();
        assert_eq!(good, Create { name: None, members: vec![user("a")], limit: Some(1), user_id: user("u") });
        assert_eq!(
            refused(r#"{"user_id":"u","name":5}"#),
            "name: invalid type: integer `5`, expected a string"
        );
        assert_eq!(
            refused(r#"{"user_id":"u","members":["a","b c"]}"#),
            "members[1]: user_id contains ' ': control characters, white space and braces are not allowed"
        );
        assert_eq!(refused(r#"{"user_id":"u","limit":256}"#), "limit: 256 is out of range");
        assert_eq!(refused(r#"{"user_id":"u","limit":1.5}"#), "limit: must be an integer below 2^53");
        assert_eq!(refused("{}"), "missing field `user_id`");
        assert_eq!(refused(r#"{"user_id":"u","user_id":"u"}"#), "duplicate field `user_id`");
        for text in ["", "[]", "[null,[],1]", "{", r#"{"limit":1}{"#, r#"{"limit":1,}"#, "nonsense", "\u{0}"]
        {
            assert!(refused(text).contains("one JSON object"), "{text}");
        }
        let deep = "[".repeat(30_000);
        assert!(refused(&format!(r#"{{"x":{deep}"#)).contains("one JSON object"));
    }

    #[test]
    fn null_counts_as_absent_and_whole_numbers_may_have_a_fraction() {
        let nulls = br#"{"limit":null,"members":null,"name":null,"user_id":"u"}"#;
        assert_eq!(
            parse::<Create>(nulls, &[]).unwrap(),
            parse::<Create>(br#"{"user_id":"u"}"#, &[]).unwrap()
        );
        assert!(parse::<Create>(nulls, &["members"]).unwrap_err().message().starts_with("members: "));
        assert_eq!(refused(r#"{"user_id":null}"#), "missing field `user_id`");
        assert!(refused(r#"{"user_id":"u","members":[null]}"#).starts_with("members[0]"));
        for (written, limit) in [("57.0", 57), ("1e2", 100), ("570e-1", 57)] {
            let text = format!(r#"{{"user_id":"u","limit":{written}}}"#);
            assert_eq!(parse::<Create>(text.as_bytes(), &[]).unwrap().limit, Some(limit), "{written}");
        }
    }
}
