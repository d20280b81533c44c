//! JSON written by hand, for the frames of which a gateway writes the most: replies to messages, pushes and pages.
//!
//! The serializer looks at each byte of a string by itself; here a string without escapes, as nearly all are, is checked
//! many bytes at a time and copied. That halves the instructions of a push or a page.

/// Appends `text` as a JSON string.
pub(super) fn push_string(json: &mut String, text: &str) {
    if is_verbatim(text) {
        json.reserve(text.len() + 2);
        json.push('"');
        json.push_str(text);
        json.push('"');
    } else {
        // A string: serialization cannot fail.
        json.push_str(&serde_json::to_string(text).unwrap_or_default());
    }
}

/// Appends a whole number.
pub(super) fn push_number(json: &mut String, number: impl itoa::Integer) {
    json.push_str(itoa::Buffer::new().format(number));
}

/// Whether no character is escaped in JSON.
fn is_verbatim(text: &str) -> bool {
    // Without branches: the compiler vectorizes it.
    let escaped =
        text.bytes().fold(false, |any, byte| any | (byte < 0x20) | (byte == b'"') | (byte == b'\\'));
    !escaped
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn string(text: &str) -> String {
        let mut json = String::new();
        push_string(&mut json, text);
        json
    }

    #[test]
    fn every_character_is_written_as_the_serializer_writes_it() {
        for character in
            (0..=0x0250).filter_map(char::from_u32).chain(['\u{2028}', '\u{1f600}', '\u{10FFFF}'])
        {
            let text = character.to_string();
            assert_eq!(string(&text), serde_json::to_string(&text).unwrap(), "{text:?}");
        }
    }

    #[test]
    fn numbers_are_written_in_digits() {
        let mut json = String::new();
        push_number(&mut json, u64::MAX);
        push_number(&mut json, -7_i64);
        assert_eq!(json, format!("{}-7", u64::MAX));
    }

    proptest! {
        #[test]
        fn a_text_is_written_as_the_serializer_writes_it(text in "(?s).*") {
            prop_assert_eq!(string(&text), serde_json::to_string(&text).unwrap());
        }
    }
}
