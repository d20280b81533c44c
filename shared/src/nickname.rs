//! Nicknames: the names that users show to others.

use std::fmt;

use serde::{Deserialize, Deserializer};

/// Most characters.
pub const NICKNAME_CHARS_MAX: usize = 64;

/// A name that a user shows to others. Not unique, and no identity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nickname(Box<str>);

/// The reason why a text is no nickname. Its `Display` is meant for the client that sent it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NicknameError {
    /// It has more than [`NICKNAME_CHARS_MAX`] characters.
    #[error("nickname is longer than 64 characters")]
    TooLong,
    /// A character would change how the text around it is shown, or belongs to no line of text.
    #[error("nickname contains U+{:04X}: control characters, line ends and direction overrides are not allowed", u32::from(*.0))]
    Forbidden(char),
    /// Nothing of it is visible.
    #[error("nickname is blank: send at least one visible character")]
    Blank,
}

impl Nickname {
    /// Checks and copies `text`. Nothing is trimmed or normalized.
    ///
    /// # Errors
    /// [`NicknameError`]
    pub fn parse(text: &str) -> Result<Self, NicknameError> {
        // Four bytes at most for each character: the limit in bytes follows.
        if text.chars().nth(NICKNAME_CHARS_MAX).is_some() {
            return Err(NicknameError::TooLong);
        }
        if let Some(forbidden) = text.chars().find(|c| is_forbidden(*c)) {
            return Err(NicknameError::Forbidden(forbidden));
        }
        if text.chars().all(is_invisible) {
            return Err(NicknameError::Blank);
        }
        Ok(Self(text.into()))
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Nickname {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Nickname {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        Self::parse(&text).map_err(serde::de::Error::custom)
    }
}

/// Control characters, line and paragraph separators, and the characters that open or end a run of another direction: with
/// them a name could rearrange the text beside it. Marks of direction (U+200E, U+200F, U+061C) open no run and are allowed.
fn is_forbidden(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}')
}

/// White space, and characters that are shown as nothing or as a blank.
fn is_invisible(c: char) -> bool {
    c.is_whitespace()
        || matches!(
            c,
            '\u{AD}'
                | '\u{34F}'
                | '\u{61C}'
                | '\u{115F}'..='\u{1160}'
                | '\u{17B4}'..='\u{17B5}'
                | '\u{180B}'..='\u{180F}'
                | '\u{200B}'..='\u{200F}'
                | '\u{2060}'..='\u{206F}'
                | '\u{2800}'
                | '\u{3164}'
                | '\u{FE00}'..='\u{FE0F}'
                | '\u{FEFF}'
                | '\u{FFA0}'
                | '\u{FFF0}'..='\u{FFF8}'
                | '\u{1BCA0}'..='\u{1BCA3}'
                | '\u{1D173}'..='\u{1D17A}'
                | '\u{E0000}'..='\u{E0FFF}'
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_all_scripts_are_kept_as_they_are() {
        let family = "👨\u{200D}👩\u{200D}👧";
        let flag = "🏴\u{E0067}\u{E0062}\u{E0065}\u{E006E}\u{E0067}\u{E007F}";
        let persian = "می\u{200C}خواهم";
        for name in
            ["Alice", "王芳", " Ann ", "O'Neil \"x\" <b>", family, flag, persian, "\u{200F}שרה", "a\u{301}"]
        {
            assert_eq!(Nickname::parse(name).map(|name| name.as_str().to_owned()).as_deref(), Ok(name));
        }
    }

    #[test]
    fn a_name_has_one_to_sixty_four_characters_not_bytes() {
        assert!(Nickname::parse(&"😀".repeat(64)).is_ok_and(|name| name.as_str().len() == 256));
        assert_eq!(Nickname::parse(&"a".repeat(65)), Err(NicknameError::TooLong));
        assert_eq!(Nickname::parse(&"\u{202E}".repeat(65)), Err(NicknameError::TooLong));
    }

    #[test]
    fn a_name_has_no_control_characters_and_no_direction_overrides() {
        for c in "\0\t\n\r\u{1b}\u{7f}\u{85}\u{2028}\u{2029}\u{202a}\u{202b}\u{202c}\u{202d}\u{202e}\u{2066}\u{2067}\u{2068}\u{2069}"
            .chars()
        {
            assert_eq!(Nickname::parse(&format!("a{c}b")), Err(NicknameError::Forbidden(c)));
        }
        let message = Nickname::parse("a\u{202e}b").unwrap_err().to_string();
        assert!(message.contains("U+202E"), "{message}");
    }

    #[test]
    fn a_name_is_not_blank() {
        for blank in [
            "",
            " ",
            "\u{a0}\u{3000}",
            "\u{200b}",
            "\u{2800}",
            "\u{3164}\u{ad}",
            "\u{feff}\u{fe0f}",
            "\u{e0020}",
        ] {
            assert_eq!(Nickname::parse(blank), Err(NicknameError::Blank), "{blank:?}");
        }
    }
}
