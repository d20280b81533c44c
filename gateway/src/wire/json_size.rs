//! The size of text in JSON.

/// Bytes that are counted together: their escapes, at most 5 more bytes each, fit a `u8`.
const CHUNK: usize = 32;

/// The bytes of `text` within the quotes of a JSON string. A control character takes up to six.
#[must_use]
pub fn escaped_bytes(text: &str) -> usize {
    // Without branches and with a sum of one byte, the compiler vectorizes it: each message of a page is counted.
    let chunks = text.as_bytes().chunks(CHUNK);
    let more: usize =
        chunks.map(|chunk| usize::from(chunk.iter().copied().map(escape_bytes).sum::<u8>())).sum();
    text.len() + more
}

/// The bytes that `byte` takes beyond one.
fn escape_bytes(byte: u8) -> u8 {
    let is_short = (byte == b'"')
        | (byte == b'\\')
        | (byte == b'\n')
        | (byte == b'\r')
        | (byte == b'\t')
        | (byte == 0x08)
        | (byte == 0x0C);
    let long = if byte < 0x20 { 5 } else { 0 };
    if is_short { 1 } else { long }
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
