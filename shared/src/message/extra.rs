//! What only some messages have beside kind and content, and its one encoding.
//!
//! The column `extra` of a row and the field `extra` of a message in a body or an event have the same JSON object. A plain
//! message has none, and costs nothing for it.

use proto::v1;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::attachment::Attachment;
use super::kind::ChangeFields;
use crate::ids::{Seq, UserId};
use crate::meta::Meta;

/// Most users that one message mentions.
pub const MENTIONS_MAX: usize = 50;
/// Largest encoding, in bytes: that of 50 mentions, `meta`, 10 attachments, and the other fields.
pub(super) const EXTRA_BYTES_MAX: usize = 20_480;
/// Characters that the column `extra` holds.
#[cfg(test)]
const EXTRA_CHARS_MAX: usize = 9_216;
/// The mention of all members.
const EVERYONE: &str = "*";

/// What a message has beside its kind and content.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Details {
    /// A JSON object of the app's own.
    pub meta: Option<Meta>,
    /// The message that this one answers.
    pub reply_to: Option<Seq>,
    /// The users that it mentions.
    pub mentions: Option<Mentions>,
    /// The files that it carries, at most [`ATTACHMENTS_MAX`](super::ATTACHMENTS_MAX).
    pub attachments: Vec<Attachment>,
}

/// The users that a message mentions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mentions {
    /// All members: `["*"]` in JSON.
    Everyone,
    /// These, as the sender wrote them: at most [`MENTIONS_MAX`].
    Users(Vec<UserId>),
}

/// The reason why a list of mentions is refused. Its `Display` is meant for the client that sent it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MentionsError {
    /// It has this many entries, more than [`MENTIONS_MAX`].
    #[error("mentions has {0} entries: send at most 50, or [\"*\"] for everyone")]
    TooMany(usize),
    /// One of them is no user id.
    #[error("mentions: {0}")]
    Id(#[from] crate::ids::IdError),
    /// `"*"` beside others.
    #[error("mentions: send [\"*\"] alone, or user ids")]
    EveryoneAndOthers,
}

impl Mentions {
    /// Checks a list of user ids, or `["*"]`.
    ///
    /// # Errors
    /// [`MentionsError`]
    pub fn parse<T: AsRef<str>>(list: &[T]) -> Result<Self, MentionsError> {
        if list.len() > MENTIONS_MAX {
            return Err(MentionsError::TooMany(list.len()));
        }
        if let [one] = list
            && one.as_ref() == EVERYONE
        {
            return Ok(Self::Everyone);
        }
        if list.iter().any(|one| one.as_ref() == EVERYONE) {
            return Err(MentionsError::EveryoneAndOthers);
        }
        let users: Result<Vec<UserId>, _> = list.iter().map(|one| UserId::parse(one.as_ref())).collect();
        Ok(Self::Users(users?))
    }

    /// Nobody is mentioned.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        matches!(self, Self::Users(users) if users.is_empty())
    }

    /// The users that are named.
    #[must_use]
    pub fn users(&self) -> &[UserId] {
        match self {
            Self::Everyone => &[],
            Self::Users(users) => users,
        }
    }
}

impl Serialize for Mentions {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Everyone => [EVERYONE].serialize(serializer),
            Self::Users(users) => users.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Mentions {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let list = Vec::<String>::deserialize(deserializer)?;
        Self::parse(&list).map_err(serde::de::Error::custom)
    }
}

/// The encoding: every field that is not at its default. Fields of later versions are ignored.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Extra {
    /// The message that a change entry changes.
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<Seq>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    remove: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    keeps_content: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    meta: Option<Meta>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reply_to: Option<Seq>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mentions: Option<Mentions>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    attachments: Vec<Attachment>,
    /// When its content was changed, in milliseconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) edited_at: Option<i64>,
    /// Somebody reacted to it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(super) has_reactions: bool,
}

impl Extra {
    pub(super) fn new(fields: ChangeFields, details: Option<&Details>) -> Self {
        let ChangeFields { target, removes, keeps_content } = fields;
        let Details { meta, reply_to, mentions, attachments } = details.cloned().unwrap_or_default();
        Self {
            target,
            remove: removes,
            keeps_content,
            meta,
            reply_to,
            mentions,
            attachments,
            ..Self::default()
        }
    }

    /// The same of a stored message.
    pub(super) fn of_stored(self, edited_at: Option<i64>, has_reactions: bool) -> Self {
        Self { edited_at, has_reactions, ..self }
    }

    /// The JSON; `None` if every field is at its default.
    pub(super) fn encode(&self) -> Option<String> {
        // Strings, numbers and checked JSON only: serialization cannot fail.
        (*self != Self::default()).then(|| serde_json::to_string(self).unwrap_or_default())
    }

    /// Reads [`encode`](Self::encode).
    ///
    /// # Errors
    /// The text is longer than it can be, or is not such an object.
    pub(super) fn decode(text: &str) -> Result<Self, &'static str> {
        if text.len() > EXTRA_BYTES_MAX {
            return Err("extra is too long");
        }
        serde_json::from_str(text).map_err(|_| "extra is not readable")
    }

    pub(super) fn change_fields(&self) -> ChangeFields {
        ChangeFields { target: self.target, removes: self.remove, keeps_content: self.keeps_content }
    }

    /// The details; `None` for a message without any.
    pub(super) fn into_details(self) -> Option<Box<Details>> {
        let Self { meta, reply_to, mentions, attachments, .. } = self;
        let details = Details { meta, reply_to, mentions, attachments };
        (details != Details::default()).then(|| Box::new(details))
    }
}

/// The JSON that a message has beside its content.
pub(super) fn extra_of(rare: Option<&v1::RareFields>) -> Option<&str> {
    rare.and_then(|rare| rare.extra.as_deref())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{
        ATTACHMENTS_MAX, CONTENT_TYPE_BYTES_MAX, Dimensions, FILE_NAME_BYTES_MAX, FILE_NAME_CHARS_MAX, FileId,
    };

    #[test]
    fn mentions_are_ids_or_everyone() {
        let ids = |list: &[&str]| Mentions::parse(list);
        assert_eq!(ids(&["*"]), Ok(Mentions::Everyone));
        assert_eq!(ids(&[]), Ok(Mentions::Users(Vec::new())));
        assert_eq!(ids(&["bob", "bob"]).unwrap().users().len(), 2, "delivered as sent");
        assert_eq!(ids(&["bob", "*"]), Err(MentionsError::EveryoneAndOthers));
        assert!(matches!(ids(&["bob", "a b"]), Err(MentionsError::Id(_))));
        assert_eq!(ids(&["bob"; 50]).unwrap().users().len(), 50);
        assert_eq!(ids(&["bob"; 51]), Err(MentionsError::TooMany(51)));
        for list in [ids(&["*"]).unwrap(), ids(&["bob", "eve"]).unwrap(), ids(&[]).unwrap()] {
            let json = serde_json::to_string(&list).unwrap();
            assert_eq!(serde_json::from_str::<Mentions>(&json).unwrap(), list);
        }
    }

    #[test]
    fn a_plain_message_has_no_encoding_and_others_are_the_same_after_decoding() {
        assert_eq!(Extra::default().encode(), None);
        let details = Details {
            meta: Some(Meta::parse(r#"{"b":1.50,"a":{}}"#).unwrap()),
            reply_to: Some(Seq(7)),
            mentions: Some(Mentions::Everyone),
            attachments: vec![Attachment::named(FileId::generate())],
        };
        let fields = ChangeFields { target: Some(Seq(3)), removes: true, keeps_content: true };
        let all = Extra { edited_at: Some(5), has_reactions: true, ..Extra::new(fields, Some(&details)) };
        let text = all.encode().unwrap();
        assert!(text.contains(r#""meta":{"b":1.50,"a":{}}"#), "the text of meta stays: {text}");
        let read = Extra::decode(&text).unwrap();
        assert_eq!((read.change_fields(), &read), (fields, &all));
        assert_eq!(read.into_details(), Some(Box::new(details)));
        assert_eq!(Extra::decode("{}").unwrap().into_details(), None);
        assert_eq!(Extra::decode(r#"{"later":[1]}"#), Ok(Extra::default()));
    }

    #[test]
    fn what_is_no_encoding_is_refused() {
        for text in
            ["", "[]x", "{", r#"{"target":-1}"#, r#"{"mentions":["a b"]}"#, &"x".repeat(EXTRA_BYTES_MAX + 1)]
        {
            assert!(Extra::decode(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_largest_details_fit() {
        let id = UserId::parse(&"\u{1f600}".repeat(64)).unwrap();
        let details = Details {
            meta: Some(Meta::parse(&format!(r#"{{"a":"{}"}}"#, "x".repeat(2_040))).unwrap()),
            reply_to: Some(Seq::MAX),
            mentions: Some(Mentions::Users(vec![id; MENTIONS_MAX])),
            attachments: vec![attachment("\u{1f600}".repeat(FILE_NAME_BYTES_MAX / 4)); ATTACHMENTS_MAX],
        };
        let text = Extra::new(ChangeFields::default(), Some(&details)).encode().unwrap();
        assert!(text.len() <= EXTRA_BYTES_MAX && Extra::decode(&text).is_ok(), "{}", text.len());
        let long = attachment("x".repeat(FILE_NAME_CHARS_MAX));
        let details = Details { attachments: vec![long; ATTACHMENTS_MAX], ..details };
        let text = Extra::new(ChangeFields::default(), Some(&details)).encode().unwrap();
        assert!(text.chars().count() <= EXTRA_CHARS_MAX, "{}", text.chars().count());
    }

    fn attachment(name: String) -> Attachment {
        Attachment {
            name,
            size: 1 << 40,
            content_type: "x".repeat(CONTENT_TYPE_BYTES_MAX),
            dimensions: Some(Dimensions { width: 99_999, height: 99_999 }),
            thumbhash: Some("x".repeat(36)),
            ..Attachment::named(FileId::generate())
        }
    }
}
