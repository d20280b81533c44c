//! Identifiers that are valid by construction.
//!
//! Ids are compared byte for byte. Nothing is trimmed, case-folded or normalized.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Longest id that a client may send, in characters (not bytes).
pub const ID_CHARS_MAX: usize = 64;

/// The reason why a text is not an id. Its `Display` is meant for the client that sent it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// The text is empty.
    #[error("{0} is empty: send 1 to 64 characters")]
    Empty(&'static str),
    /// It has more than [`ID_CHARS_MAX`] characters.
    #[error("{0} is longer than 64 characters")]
    TooLong(&'static str),
    /// It contains a control character, white space, `{` or `}`.
    #[error("{0} contains {1:?}: control characters, white space and braces are not allowed")]
    Forbidden(&'static str, char),
}

/// Checks the rule for all ids: 1 to 64 characters, no control characters, no white space, no braces.
///
/// Braces would end a Redis hash tag early; white space separates the two users in a storage key.
pub(crate) fn check(what: &'static str, text: &str, chars_max: usize) -> Result<(), IdError> {
    if text.is_empty() {
        return Err(IdError::Empty(what));
    }
    // A text has at most as many characters as bytes, so that a short id need not be decoded.
    if text.len() > chars_max && text.chars().count() > chars_max {
        return Err(IdError::TooLong(what));
    }
    // The usual id is visible ASCII: checking it character by character took a fifth of the time to decode a body.
    if text.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'{' | b'}')) {
        return Ok(());
    }
    match text.chars().find(is_forbidden) {
        Some(c) => Err(IdError::Forbidden(what, c)),
        None => Ok(()),
    }
}

fn is_forbidden(c: &char) -> bool {
    c.is_control() || c.is_whitespace() || matches!(c, '{' | '}')
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Checks and copies `text`.
            ///
            /// # Errors
            /// [`IdError`]
            pub fn parse(text: &str) -> Result<Self, IdError> {
                check($what, text, ID_CHARS_MAX)?;
                Ok(Self(Arc::from(text)))
            }

            /// The text of the id.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        // The id hashes and compares like its text.
        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({:?})", stringify!($name), &*self.0)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                Self::parse(&text).map_err(serde::de::Error::custom)
            }
        }
    };
}

id!(
    /// A user. Cheap to clone.
    UserId,
    "user_id"
);
id!(
    /// A device of a user. Cheap to clone.
    DeviceId,
    "device_id"
);
id!(
    /// The id that a sender gives its message, unique together with sender and conversation. Cheap to clone.
    MsgId,
    "msg_id"
);

impl UserId {
    /// The id of a stored row, unchecked: rows stay readable when the rule for new ids becomes stricter.
    pub(crate) fn from_stored(text: &str) -> Self {
        Self(Arc::from(text))
    }
}

impl UserId {
    /// The sender that is shown of what the operator does in nobody's name.
    #[must_use]
    pub fn operator() -> Self {
        Self(Arc::from("operator"))
    }
}

impl MsgId {
    /// As [`UserId::from_stored`].
    pub(crate) fn from_stored(text: &str) -> Self {
        Self(Arc::from(text))
    }

    /// A new id for a message without one: a UUID of version 7, which increases with time and suits the index.
    #[must_use]
    pub fn generate() -> Self {
        Self(Arc::from(
            uuid::Uuid::now_v7().hyphenated().encode_lower(&mut uuid::Uuid::encode_buffer()) as &str
        ))
    }
}

impl DeviceId {
    /// A new id for a connection without one; it replaces no other connection.
    #[must_use]
    pub fn generate() -> Self {
        Self(Arc::from(
            uuid::Uuid::new_v4().hyphenated().encode_lower(&mut uuid::Uuid::encode_buffer()) as &str
        ))
    }
}

/// The sequence number of a message in its conversation. The first one is 1; 0 is before all messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Seq(pub u64);

impl Seq {
    /// Before the first message of a conversation.
    pub const ZERO: Seq = Seq(0);
    /// The largest number that every part represents exactly: MySQL's signed BIGINT, and JavaScript's 2^53 - 1.
    pub const MAX: Seq = Seq((1 << 53) - 1);

    /// The next number.
    #[must_use]
    pub fn next(self) -> Seq {
        Seq(self.0 + 1)
    }
}

impl fmt::Display for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The latest moment that every client can represent, in milliseconds since 1970: the end of JavaScript's `Date`.
pub const UNIX_MILLIS_MAX: i64 = 8_640_000_000_000_000;

/// One connection of one gateway process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ConnectionId {
    /// The gateway's id, random at its start, never 0.
    pub gateway: u64,
    /// Increases within that process.
    pub connection: u64,
}

/// Milliseconds since 1970 by this machine's clock.
#[must_use]
pub fn unix_millis() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |d| i64::try_from(d.as_millis()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_one_to_sixty_four_characters_not_bytes() {
        assert!(UserId::parse("a").is_ok());
        assert!(UserId::parse(&"é".repeat(64)).is_ok());
        assert_eq!(UserId::parse(&"é".repeat(65)), Err(IdError::TooLong("user_id")));
        assert_eq!(MsgId::parse(""), Err(IdError::Empty("msg_id")));
    }

    #[test]
    fn the_check_of_a_character_does_not_depend_on_its_neighbors() {
        for c in (0..0x3_000).filter_map(char::from_u32) {
            let expected = if is_forbidden(&c) { Err(IdError::Forbidden("user_id", c)) } else { Ok(()) };
            assert_eq!(UserId::parse(&format!("a{c}")).map(drop), expected);
            assert_eq!(UserId::parse(&format!("é{c}")).map(drop), expected);
        }
    }

    #[test]
    fn ids_hold_no_white_space_control_characters_or_braces() {
        for bad in ["a b", "a\u{a0}b", "a\tb", "a\u{0}b", "{a", "a}", "a\u{2028}", "\u{85}"] {
            assert!(matches!(UserId::parse(bad), Err(IdError::Forbidden(..))), "{bad:?}");
        }
        for good in ["Alice", "alice", "王芳", "a:b", "a_b", "a/b", "😀"] {
            assert!(UserId::parse(good).is_ok(), "{good:?}");
        }
    }

    #[test]
    fn ids_are_compared_byte_for_byte() {
        assert_ne!(UserId::parse("Alice"), UserId::parse("alice"));
        assert_ne!(UserId::parse("e\u{301}"), UserId::parse("é"));
    }

    #[test]
    fn generated_ids_are_valid_and_differ() {
        let (a, b) = (MsgId::generate(), MsgId::generate());
        assert_ne!(a, b);
        assert_eq!(MsgId::parse(a.as_str()), Ok(a));
        assert!(DeviceId::parse(DeviceId::generate().as_str()).is_ok());
    }
}
