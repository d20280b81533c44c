//! The size of text in JSON.

/// The bytes of `text` within the quotes of a JSON string. A control character takes up to six.
#[must_use]
pub fn escaped_bytes(text: &str) -> usize {
    text.bytes()
        .map(|byte| match byte {
            b'"' | b'\\' | b'\n' | b'\r' | b'\t' | 0x08 | 0x0C => 2,
            0..0x20 => 6,
            _ => 1,
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_character_has_the_size_that_the_serializer_gives_it() {
        for character in (0..=0x0250).filter_map(char::from_u32).chain(['\u{2028}', '😀', '\u{10FFFF}']) {
            let text = character.to_string();
            assert_eq!(escaped_bytes(&text) + 2, serde_json::to_string(&text).unwrap().len(), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn a_text_has_the_size_that_the_serializer_gives_it(text in ".*") {
            prop_assert_eq!(escaped_bytes(&text) + 2, serde_json::to_string(&text).unwrap().len());
        }
    }
}
