//! System entries: the changes of a group that its members see in its timeline.

use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};

use crate::ids::UserId;
use crate::meta::Meta;
use crate::permission::{Actor, Role};

/// Most users that one entry names.
const NAMED_USERS_MAX: usize = 100;
/// Most bytes of their ids as JSON: with the longest name of a group, the entry fits in its column.
const NAMED_BYTES_MAX: usize = 12_000;

/// What was changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum SystemChange {
    /// The group was made, with these members beside its owner.
    Created,
    /// The users joined, or were added.
    Joined,
    /// The user left.
    Left,
    /// The user was removed.
    Removed,
    /// The group has another name.
    Renamed {
        /// The new one; may be empty.
        name: String,
    },
    /// The user has another role. A new owner makes the old one an admin, which has no entry of its own.
    Role {
        /// The new one.
        role: Role,
    },
}

/// A change of a group, by whom, and whom it concerns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SystemEntry {
    /// What was changed.
    pub change: SystemChange,
    /// The user who made the change, and who is shown as the sender.
    pub by: UserId,
    /// The users whom it concerns.
    pub users: Vec<UserId>,
}

/// `meta` of an entry.
#[derive(Serialize)]
struct Fields<'a> {
    #[serde(flatten)]
    change: &'a SystemChange,
    by: &'a UserId,
    user_ids: Vec<Box<RawValue>>,
    /// How many further users there are.
    #[serde(skip_serializing_if = "Option::is_none")]
    more: Option<usize>,
}

impl SystemEntry {
    /// A change by `by`; the operator itself is shown as the user `operator`.
    #[must_use]
    pub fn new(change: SystemChange, by: &Actor, users: Vec<UserId>) -> Self {
        let by = match by {
            Actor::User(user) => user.clone(),
            Actor::Operator => UserId::operator(),
        };
        Self { change, by, users }
    }

    /// Whether a large group shows it: not who joins and leaves.
    #[must_use]
    pub fn is_shown_in_large_groups(&self) -> bool {
        !matches!(self.change, SystemChange::Joined | SystemChange::Left)
    }

    /// What the entry shows, as its `meta`.
    #[must_use]
    pub fn meta(&self) -> Meta {
        let mut bytes = 0;
        // Strings only: serialization cannot fail.
        let ids = self.users.iter().filter_map(|user| to_raw_value(user).ok());
        let named = ids.take(NAMED_USERS_MAX).take_while(|id| {
            bytes += id.get().len() + 1;
            bytes <= NAMED_BYTES_MAX
        });
        let user_ids: Vec<Box<RawValue>> = named.collect();
        let more = self.users.len() - user_ids.len();
        let fields =
            Fields { change: &self.change, by: &self.by, user_ids, more: (more > 0).then_some(more) };
        Meta::from_stored(serde_json::to_string(&fields).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{Details, Message, MessageKind, Stored};

    fn users(count: usize, id: impl Fn(usize) -> String) -> Vec<UserId> {
        (0..count).map(|n| UserId::parse(&id(n)).unwrap()).collect()
    }

    fn by_ann(change: SystemChange, users: Vec<UserId>) -> SystemEntry {
        SystemEntry::new(change, &Actor::User(UserId::parse("ann").unwrap()), users)
    }

    #[test]
    fn an_entry_says_what_was_changed_by_whom_and_whom_it_concerns() {
        let two = || users(2, |n| format!("u{n}"));
        let named = SystemChange::Renamed { name: "Team \"A\"".to_owned() };
        for (change, users, expected) in [
            (SystemChange::Created, Vec::new(), r#"{"type":"created","by":"ann","user_ids":[]}"#),
            (SystemChange::Joined, two(), r#"{"type":"joined","by":"ann","user_ids":["u0","u1"]}"#),
            (SystemChange::Left, two(), r#"{"type":"left","by":"ann","user_ids":["u0","u1"]}"#),
            (named, Vec::new(), r#"{"type":"renamed","name":"Team \"A\"","by":"ann","user_ids":[]}"#),
            (
                SystemChange::Role { role: Role::Owner },
                two(),
                r#"{"type":"role","role":"owner","by":"ann","user_ids":["u0","u1"]}"#,
            ),
        ] {
            assert_eq!(by_ann(change, users).meta().as_str(), expected);
        }
        let by_operator = SystemEntry::new(SystemChange::Removed, &Actor::Operator, two());
        assert_eq!(
            by_operator.meta().as_str(),
            r#"{"type":"removed","by":"operator","user_ids":["u0","u1"]}"#
        );
    }

    #[test]
    fn an_entry_names_a_hundred_users_at_most_and_always_fits() {
        let hundred = by_ann(SystemChange::Joined, users(100, |n| format!("u{n}"))).meta();
        assert!(!hundred.as_str().contains("more"));
        let many = by_ann(SystemChange::Joined, users(103, |n| format!("u{n}"))).meta();
        assert!(many.as_str().ends_with(r#""u99"],"more":3}"#), "{}", many.as_str());

        let name = "\u{1f600}".repeat(128);
        let long = users(1_000, |n| format!("{}{n:04}", "\u{1f600}".repeat(60)));
        let longest = by_ann(SystemChange::Renamed { name }, long).meta();
        assert!(longest.as_str().contains(r#""more":9"#), "{}", longest.as_str());
        let message = Message {
            kind: MessageKind::System,
            details: Some(Box::new(Details { meta: Some(longest.clone()), ..Details::default() })),
            ..crate::message::fixture::numbered("group_1", 7, "ann", "m1").message
        };
        let (kind, details, ..) = Stored::read(8, String::new(), message.extra().as_deref());
        assert_eq!((kind, details.unwrap().meta), (MessageKind::System, Some(longest)));
    }
}
