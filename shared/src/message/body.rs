//! The content of messages.

/// Largest body, in bytes.
pub const BODY_BYTES_MAX: usize = 4096;

/// Largest reaction, in bytes.
pub const REACTION_BYTES_MAX: usize = 32;

/// What a message says: 1 to [`BODY_BYTES_MAX`] bytes of UTF-8, or nothing once the message was recalled.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Body(String);

/// The reason why a text cannot be the body of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// It is empty.
    #[error("content is empty")]
    Empty,
    /// It has this many bytes, more than [`BODY_BYTES_MAX`].
    #[error("content is over 4096 bytes")]
    TooLong(usize),
}

impl Body {
    /// Checks the length of `text`.
    ///
    /// # Errors
    /// [`BodyError`]
    pub fn new(text: String) -> Result<Self, BodyError> {
        match text.len() {
            0 => Err(BodyError::Empty),
            1..=BODY_BYTES_MAX => Ok(Self(text)),
            bytes => Err(BodyError::TooLong(bytes)),
        }
    }

    /// The same of a message that may have no content.
    ///
    /// # Errors
    /// [`BodyError::TooLong`]
    pub fn new_or_empty(text: String) -> Result<Self, BodyError> {
        if text.is_empty() { Ok(Self(text)) } else { Self::new(text) }
    }

    /// Checks a reaction: 1 to [`REACTION_BYTES_MAX`] bytes without white space and control characters. `None` if it is
    /// none.
    #[must_use]
    pub fn reaction(text: String) -> Option<Self> {
        let is_allowed = |c: char| !c.is_whitespace() && !c.is_control();
        let fits = (1..=REACTION_BYTES_MAX).contains(&text.len());
        (fits && text.chars().all(is_allowed)).then_some(Self(text))
    }

    /// The content of a stored row, unchecked: a recalled message has none.
    pub(super) fn from_stored(text: String) -> Self {
        Self(text)
    }

    pub(super) fn into_string(self) -> String {
        self.0
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl AsRef<str> for Body {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_has_1_to_4096_bytes() {
        assert_eq!(Body::new(String::new()), Err(BodyError::Empty));
        assert!(Body::new("x".repeat(BODY_BYTES_MAX)).is_ok());
        assert_eq!(Body::new("\u{e9}".repeat(2_049)), Err(BodyError::TooLong(4_098)));
    }

    #[test]
    fn a_reaction_is_short_and_without_white_space() {
        let thumb = "\u{1f44d}";
        for right in ["+1", thumb, "\u{301}", &"x".repeat(32), &thumb.repeat(8)] {
            assert_eq!(Body::reaction(right.to_owned()).unwrap().as_str(), right);
        }
        for wrong in ["", " ", "a b", "a\n", "\u{7f}", "\u{2003}", &"x".repeat(33), &thumb.repeat(9)] {
            assert_eq!(Body::reaction(wrong.to_owned()), None, "{wrong:?}");
        }
    }
}
