//! The kinds of messages, with their bodies.

use std::borrow::Cow;

use xxhash_rust::xxh64::xxh64;

use crate::ids::Seq;

/// Largest body, in bytes.
pub const BODY_BYTES_MAX: usize = 4096;

pub(super) const TEXT: u32 = 1;
pub(super) const IMAGE: u32 = 2;
pub(super) const RECALL: u32 = 3;

/// The kind of a message and a short hash of its content, nine decimal digits: enough to tell a retry from another message with
/// the same id. Not for security, and the same in all versions, because Redis stores it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint(u32);

/// The part of a fingerprint below its kind.
const HASHES: u32 = 1_000_000;
const FINGERPRINTS: u32 = 1_000 * HASHES;

impl Fingerprint {
    /// Reads a fingerprint; `None` if the number is not one.
    pub(crate) fn from_number(number: i64) -> Option<Self> {
        u32::try_from(number).ok().filter(|number| *number < FINGERPRINTS).map(Self)
    }

    fn msg_type(self) -> u32 {
        self.0 / HASHES
    }
}

impl std::fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:09}", self.0)
    }
}

/// What a message is to an earlier one of the same sender with the same id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reuse {
    /// The same message, sent again.
    Retry,
    /// Of the same kind, with another content: the earlier content stays.
    OtherContent,
    /// Something else: another kind, or the recall of another message. It must not be answered as if it were done.
    OtherMessage,
}

/// What a message says: 1 to [`BODY_BYTES_MAX`] bytes of UTF-8, or nothing once the message was recalled.
#[derive(Debug, Clone, PartialEq, Eq)]
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

/// The kind of a message with its body: owned in a [`Message`], borrowed (`MessageKind<&str>`) where it is only shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MessageKind<B = Body> {
    /// A text.
    Text(B),
    /// An image: the body says where it is.
    Image(B),
    /// The recall of the message with this number in the same conversation.
    Recall(Seq),
    /// A kind of a later version: shown, and never accepted.
    Unknown {
        /// Its number in the protocol.
        msg_type: u32,
        /// Its content.
        content: B,
    },
}

impl<B> MessageKind<B> {
    /// The number of the kind, in the protocol and in the table.
    #[must_use]
    pub fn msg_type(&self) -> u32 {
        match self {
            Self::Text(_) => TEXT,
            Self::Image(_) => IMAGE,
            Self::Recall(_) => RECALL,
            Self::Unknown { msg_type, .. } => *msg_type,
        }
    }

    /// The number of the message to recall, if this is a recall.
    #[must_use]
    pub fn recalls(&self) -> Option<Seq> {
        match self {
            Self::Recall(seq) => Some(*seq),
            Self::Text(_) | Self::Image(_) | Self::Unknown { .. } => None,
        }
    }

    /// The body; `None` in a recall.
    #[must_use]
    pub fn body(&self) -> Option<&B> {
        match self {
            Self::Text(body) | Self::Image(body) | Self::Unknown { content: body, .. } => Some(body),
            Self::Recall(_) => None,
        }
    }

    /// The number of bytes of the body.
    #[must_use]
    pub fn body_bytes(&self) -> usize
    where
        B: AsRef<str>,
    {
        self.body().map_or(0, |body| body.as_ref().len())
    }

    fn from_parts(msg_type: u32, content: B, recalls: Option<Seq>) -> Self {
        match (msg_type, recalls) {
            (TEXT, _) => Self::Text(content),
            (IMAGE, _) => Self::Image(content),
            (RECALL, Some(seq)) => Self::Recall(seq),
            (msg_type, _) => Self::Unknown { msg_type, content },
        }
    }
}

impl<'a> MessageKind<&'a str> {
    /// The kind of a stored message, from its two columns or fields.
    #[must_use]
    pub fn of_stored(msg_type: u32, content: &'a str) -> Self {
        Self::from_parts(msg_type, content, recalled_number(msg_type, content))
    }
}

impl MessageKind {
    /// The kind of a stored message, from its two columns. The content is not checked: a recalled message has none.
    #[must_use]
    pub fn from_stored(msg_type: u32, content: String) -> Self {
        let recalls = recalled_number(msg_type, &content);
        Self::from_parts(msg_type, Body(content), recalls)
    }

    /// The kind as it is shown.
    #[must_use]
    pub fn as_deref(&self) -> MessageKind<&str> {
        match self {
            Self::Text(body) => MessageKind::Text(body.as_str()),
            Self::Image(body) => MessageKind::Image(body.as_str()),
            Self::Recall(seq) => MessageKind::Recall(*seq),
            Self::Unknown { msg_type, content } => {
                MessageKind::Unknown { msg_type: *msg_type, content: content.as_str() }
            }
        }
    }

    /// The value of the column `content`: the body, or the number of the message to recall.
    #[must_use]
    pub fn content(&self) -> Cow<'_, str> {
        match self {
            Self::Recall(seq) => Cow::Owned(seq.to_string()),
            Self::Text(body) | Self::Image(body) | Self::Unknown { content: body, .. } => {
                Cow::Borrowed(body.as_str())
            }
        }
    }

    /// The fingerprint of the kind with its body.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        let hash = xxh64(self.content().as_bytes(), 0) % u64::from(HASHES);
        #[expect(clippy::cast_possible_truncation, reason = "it is below 10^6")]
        Fingerprint(self.msg_type().min(999) * HASHES + hash as u32)
    }

    /// What a message of this kind is to the earlier one that had the fingerprint `first`.
    #[must_use]
    pub fn reuse_of(&self, first: Fingerprint) -> Reuse {
        self.reuse(self.msg_type().min(999) == first.msg_type(), || self.fingerprint() == first)
    }

    /// What a message of this kind is to a stored one. Of a message that was recalled since, only the kind is left to compare.
    #[must_use]
    pub fn reuse_of_stored(&self, msg_type: u32, content: &str, is_recalled: bool) -> Reuse {
        self.reuse(self.msg_type() == msg_type, || is_recalled || self.content() == content)
    }

    /// What a message of this kind is to an earlier one of kind `first`.
    #[must_use]
    pub fn reuse_of_kind(&self, first: &Self) -> Reuse {
        self.reuse(self.msg_type() == first.msg_type(), || self == first)
    }

    fn reuse(&self, is_same_kind: bool, is_same_content: impl FnOnce() -> bool) -> Reuse {
        match self {
            _ if !is_same_kind => Reuse::OtherMessage,
            _ if is_same_content() => Reuse::Retry,
            Self::Recall(_) => Reuse::OtherMessage,
            Self::Text(_) | Self::Image(_) | Self::Unknown { .. } => Reuse::OtherContent,
        }
    }

    /// The same without a copy of the body.
    pub(super) fn into_content(self) -> String {
        match self {
            Self::Recall(seq) => seq.to_string(),
            Self::Text(body) | Self::Image(body) | Self::Unknown { content: body, .. } => body.0,
        }
    }
}

/// Reads the content of a recall: a number in decimal, with nothing around it.
pub(super) fn recalled_number(msg_type: u32, content: &str) -> Option<Seq> {
    if msg_type != RECALL || content.starts_with('0') || !content.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    content.parse().ok().map(Seq).filter(|seq| (Seq(1)..=Seq::MAX).contains(seq))
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
    fn a_kind_is_the_same_after_it_was_stored() {
        let body = || Body::new("7".to_owned()).unwrap();
        for kind in [
            MessageKind::Text(body()),
            MessageKind::Image(body()),
            MessageKind::Recall(Seq(7)),
            MessageKind::Recall(Seq::MAX),
            MessageKind::Unknown { msg_type: 9, content: body() },
        ] {
            let (msg_type, content) = (kind.msg_type(), kind.content().into_owned());
            assert_eq!(MessageKind::of_stored(msg_type, &content), kind.as_deref());
            assert_eq!(MessageKind::from_stored(msg_type, content.clone()), kind);
            assert_eq!(kind.into_content(), content);
        }
    }

    #[test]
    fn a_fingerprint_depends_on_kind_and_content_and_never_changes() {
        let text = |body: &str| MessageKind::Text(Body::new(body.to_owned()).unwrap());
        // Stored in Redis: another value would be taken for another content during an upgrade.
        assert_eq!(text("hello").fingerprint().to_string(), "001354659");
        let image = MessageKind::Image(Body::new("7".to_owned()).unwrap());
        for other in [text("8"), image, MessageKind::Recall(Seq(7))] {
            assert_ne!(text("7").fingerprint(), other.fingerprint());
            let number = other.fingerprint().to_string();
            assert_eq!(
                (number.len(), Fingerprint::from_number(number.parse().unwrap())),
                (9, Some(other.fingerprint()))
            );
        }
        assert_eq!(Fingerprint::from_number(-1), None);
        assert_eq!(Fingerprint::from_number(i64::from(FINGERPRINTS)), None);
    }

    #[test]
    fn a_retry_is_told_from_another_content_and_from_another_message() {
        let body = |text: &str| Body::new(text.to_owned()).unwrap();
        let all = [
            MessageKind::Text(body("7")),
            MessageKind::Text(body("8")),
            MessageKind::Image(body("7")),
            MessageKind::Recall(Seq(7)),
            MessageKind::Recall(Seq(8)),
        ];
        for (at, kind) in all.iter().enumerate() {
            for (first_at, first) in all.iter().enumerate() {
                let expected = match (at, first_at) {
                    _ if at == first_at => Reuse::Retry,
                    (0, 1) | (1, 0) => Reuse::OtherContent,
                    _ => Reuse::OtherMessage,
                };
                assert_eq!(kind.reuse_of_kind(first), expected, "{kind:?} {first:?}");
                assert_eq!(kind.reuse_of(first.fingerprint()), expected, "{kind:?} {first:?}");
                let stored = kind.reuse_of_stored(first.msg_type(), &first.content(), false);
                assert_eq!(stored, expected, "{kind:?} {first:?}");
            }
        }
        assert_eq!(all[0].reuse_of_stored(1, "", true), Reuse::Retry, "the content was recalled");
        assert_eq!(all[0].reuse_of_stored(2, "", true), Reuse::OtherMessage);
    }

    #[test]
    fn a_recall_names_a_number_in_plain_decimal() {
        for wrong in ["", "0", "07", "+7", "-7", " 7", "7x", "9007199254740992"] {
            assert_eq!(recalled_number(RECALL, wrong), None, "{wrong:?}");
            assert_eq!(MessageKind::of_stored(RECALL, wrong).recalls(), None, "{wrong:?}");
        }
        assert_eq!(recalled_number(RECALL, "9007199254740991"), Some(Seq::MAX));
        assert_eq!(recalled_number(TEXT, "7"), None);
    }

    #[test]
    fn a_recalled_message_has_no_body() {
        assert_eq!(MessageKind::from_stored(TEXT, String::new()).as_deref(), MessageKind::Text(""));
    }
}
