//! What one row of the feed says, and how it is stored.

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::conversation::Conversation;
use crate::ids::{MsgId, Seq, UserId};

/// Users that a change of a group lists, in each of its lists.
pub const USERS_MAX: usize = 1_000;

/// What one transaction changed. Stored as JSON with short names; a reader ignores names that it does not know.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct FeedBody {
    /// The settled parts of timelines, each conversation once.
    #[serde(rename = "s", skip_serializing_if = "Vec::is_empty")]
    pub ranges: Vec<SeqRange>,
    /// Messages of these parts whose senders were told another number first.
    #[serde(rename = "c", skip_serializing_if = "Vec::is_empty")]
    pub corrected: Vec<Corrected>,
    /// Messages that are not stored, although they were accepted.
    #[serde(rename = "r", skip_serializing_if = "Vec::is_empty")]
    pub refused: Vec<RefusedMessage>,
    /// A change of a group.
    #[serde(rename = "g", skip_serializing_if = "Option::is_none")]
    pub group: Option<GroupChanged>,
    /// The user whose profile changed.
    #[serde(rename = "p", skip_serializing_if = "Option::is_none")]
    pub profile: Option<UserId>,
}

/// Every number of a conversation above `after` up to `last`: it has an entry now, or will never have one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeqRange {
    /// The conversation.
    #[serde(rename = "c", serialize_with = "key", deserialize_with = "of_key")]
    pub conversation: Conversation,
    /// Its last sequence number before the transaction.
    #[serde(rename = "a")]
    pub after: Seq,
    /// Its last sequence number afterwards.
    #[serde(rename = "l")]
    pub last: Seq,
}

/// A message whose sender was told another sequence number before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Corrected {
    /// The conversation.
    #[serde(rename = "c", serialize_with = "key", deserialize_with = "of_key")]
    pub conversation: Conversation,
    /// Its sender.
    #[serde(rename = "u")]
    pub sender: UserId,
    /// The sender's id of it.
    #[serde(rename = "m")]
    pub msg_id: MsgId,
    /// The number that the sender was told first.
    #[serde(rename = "t")]
    pub told: Seq,
    /// The number under which it is stored.
    #[serde(rename = "s")]
    pub seq: Seq,
}

/// A message that was accepted, and is not stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusedMessage {
    /// The conversation.
    #[serde(rename = "c", serialize_with = "key", deserialize_with = "of_key")]
    pub conversation: Conversation,
    /// Its sender.
    #[serde(rename = "u")]
    pub sender: UserId,
    /// The sender's id of it.
    #[serde(rename = "m")]
    pub msg_id: MsgId,
    /// The number that the sender was told.
    #[serde(rename = "s")]
    pub seq: Seq,
    /// As in the answer to the sender: 403, 404, 409.
    #[serde(rename = "k")]
    pub code: u16,
}

/// A change of a group or of its members.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupChanged {
    /// The group.
    #[serde(rename = "c", serialize_with = "key", deserialize_with = "of_key")]
    pub group: Conversation,
    /// Its access version since the change.
    #[serde(rename = "v")]
    pub version: u64,
    /// The name of the change: `create group`.
    #[serde(rename = "k")]
    pub change: String,
    /// New members.
    #[serde(rename = "j", default, skip_serializing_if = "Vec::is_empty")]
    pub joined: Vec<UserId>,
    /// Former members.
    #[serde(rename = "l", default, skip_serializing_if = "Vec::is_empty")]
    pub left: Vec<UserId>,
    /// A member whose role or mute changed.
    #[serde(rename = "u", default, skip_serializing_if = "Option::is_none")]
    pub member: Option<UserId>,
    /// More users joined or left than [`USERS_MAX`]: the lists are cut.
    #[serde(rename = "x", default, skip_serializing_if = "std::ops::Not::not")]
    pub is_cut: bool,
}

impl FeedBody {
    /// Nothing changed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// As it is stored.
    ///
    /// # Errors
    /// None: it has strings and numbers only.
    pub fn to_json(&self) -> serde_json::Result<Vec<u8>> {
        serde_json::to_vec(self)
    }

    /// Reads what [`to_json`](Self::to_json) wrote, of this version or a later one.
    ///
    /// # Errors
    /// The text is something else.
    pub fn from_json(json: &[u8]) -> serde_json::Result<Self> {
        serde_json::from_slice(json)
    }
}

impl GroupChanged {
    /// The bytes of the ids that it lists.
    #[must_use]
    pub fn users_bytes(&self) -> usize {
        self.joined.iter().chain(&self.left).map(|user| user.as_str().len()).sum()
    }
}

impl SeqRange {
    /// How many numbers it has.
    #[must_use]
    pub fn width(&self) -> u64 {
        self.last.0.saturating_sub(self.after.0)
    }
}

fn key<S: Serializer>(conversation: &Conversation, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(conversation.key())
}

fn of_key<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Conversation, D::Error> {
    let key = std::borrow::Cow::<str>::deserialize(deserializer)?;
    Conversation::from_key(&key).map_err(D::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_read_as_it_is_written() {
        let conversation = || Conversation::from_key("private_a b").unwrap();
        let (sender, msg_id) = (UserId::parse("a").unwrap(), MsgId::parse("m\"1").unwrap());
        let body = FeedBody {
            ranges: vec![SeqRange { conversation: conversation(), after: Seq(4), last: Seq(9) }],
            corrected: vec![Corrected {
                conversation: conversation(),
                sender: sender.clone(),
                msg_id: msg_id.clone(),
                told: Seq(5),
                seq: Seq(9),
            }],
            refused: vec![RefusedMessage {
                conversation: conversation(),
                sender: sender.clone(),
                msg_id,
                seq: Seq(6),
                code: 403,
            }],
            group: None,
            profile: Some(sender),
        };
        let json = body.to_json().unwrap();
        assert_eq!(FeedBody::from_json(&json).unwrap(), body);
        assert_eq!(FeedBody::from_json(b"{}").unwrap(), FeedBody::default());
        let plain = FeedBody { ranges: body.ranges, ..FeedBody::default() };
        assert_eq!(plain.to_json().unwrap(), br#"{"s":[{"c":"private_a b","a":4,"l":9}]}"#);
    }

    #[test]
    fn a_body_of_a_later_version_is_read_without_what_is_new() {
        let json = br#"{"s":[{"c":"group_1","a":1,"l":2,"n":7}],"z":[1]}"#;
        assert_eq!(FeedBody::from_json(json).unwrap().ranges[0].width(), 1);
        assert!(FeedBody::from_json(br#"{"s":[{"c":"nobody","a":1,"l":2}]}"#).is_err());
    }
}
