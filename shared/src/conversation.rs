//! What a conversation is, how clients name it, and the key under which it is stored.
//!
//! A private conversation is named `private_<a>_<b>` by clients, and user ids may contain `_`, so the name alone does
//! not say who its two users are: `private_a_b_c` may be `a` with `b_c`, or `a_b` with `c`. Whoever asks is one of
//! them, which nearly always settles it. Storage, Redis and the queue use a key of their own in which a blank, which
//! no id contains, stands between the two, so that two different pairs never share a timeline.

use std::fmt;
use std::sync::Arc;

use crate::ids::{IdError, UserId, check};

const PRIVATE: &str = "private_";
const GROUP: &str = "group_";

/// Longest private name in characters: the prefix, two ids and the `_` between them.
const PRIVATE_CHARS_MAX: usize = PRIVATE.len() + 2 * crate::ids::ID_CHARS_MAX + 1;

/// Why a text names no conversation for the user who sent it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConversationError {
    /// Not an id at all.
    #[error(transparent)]
    Id(#[from] IdError),
    /// Neither `private_…` nor `group_…`.
    #[error("conversation_id must be private_<user>_<user> or group_<name>")]
    UnknownKind,
    /// A private conversation without two users in it.
    #[error("conversation_id must name two users: private_<user>_<user>")]
    NotTwoUsers,
    /// A private conversation of others.
    #[error("you are not one of the two users of this private conversation")]
    NotYours,
}

/// A conversation, canonical: equal values are one conversation. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Conversation {
    key: Arc<str>,
}

/// Who belongs to a conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind<'a> {
    /// Exactly these two, in byte order (or one user twice: notes to oneself).
    Private(&'a str, &'a str),
    /// Whoever the membership table says.
    Group,
}

impl Conversation {
    /// Reads the name that `reader` sent.
    ///
    /// Where `private_…` can be read as two different pairs that both contain `reader`, the pair whose canonical name
    /// is exactly the text wins (it is what the server itself sends), else the one that begins with `reader`.
    ///
    /// # Errors
    /// [`ConversationError`], whose text is meant for the client.
    pub fn parse(text: &str, reader: &UserId) -> Result<Self, ConversationError> {
        if let Some(name) = text.strip_prefix(GROUP) {
            check("conversation_id", text, crate::ids::ID_CHARS_MAX)?;
            if name.is_empty() {
                return Err(ConversationError::UnknownKind);
            }
            return Ok(Self { key: Arc::from(text) });
        }
        let Some(pair) = text.strip_prefix(PRIVATE) else {
            check("conversation_id", text, PRIVATE_CHARS_MAX)?;
            return Err(ConversationError::UnknownKind);
        };
        check("conversation_id", text, PRIVATE_CHARS_MAX)?;
        let me = reader.as_str();
        let after = pair.strip_prefix(me).and_then(|rest| rest.strip_prefix('_'));
        let before = pair.strip_suffix(me).and_then(|rest| rest.strip_suffix('_'));
        let mut readings = [after, before]
            .into_iter()
            .flatten()
            .filter(|peer| check("user_id", peer, crate::ids::ID_CHARS_MAX).is_ok());
        let Some(first) = readings.next() else {
            let two = pair.split_once('_').is_some_and(|(a, b)| !a.is_empty() && !b.is_empty());
            return Err(if two { ConversationError::NotYours } else { ConversationError::NotTwoUsers });
        };
        let first = Self::private(me, first);
        Ok(match readings.next().map(|peer| Self::private(me, peer)) {
            Some(second) if first.wire() != text && second.wire() == text => second,
            _ => first,
        })
    }

    /// The private conversation of two users, in either order.
    #[must_use]
    pub fn between(a: &UserId, b: &UserId) -> Self {
        Self::private(a.as_str(), b.as_str())
    }

    fn private(a: &str, b: &str) -> Self {
        let (lo, hi) = if a <= b { (a, b) } else { (b, a) };
        Self { key: Arc::from(format!("{PRIVATE}{lo} {hi}")) }
    }

    /// Reads a storage key, as [`key`](Self::key) gave it.
    ///
    /// # Errors
    /// [`ConversationError`] for a text that no key can be.
    pub fn from_key(key: &str) -> Result<Self, ConversationError> {
        if key.strip_prefix(GROUP).is_some_and(|name| !name.is_empty()) {
            check("conversation_id", key, crate::ids::ID_CHARS_MAX)?;
            return Ok(Self { key: Arc::from(key) });
        }
        let Some(pair) = key.strip_prefix(PRIVATE) else { return Err(ConversationError::UnknownKind) };
        let Some((lo, hi)) = pair.split_once(' ') else { return Err(ConversationError::NotTwoUsers) };
        check("user_id", lo, crate::ids::ID_CHARS_MAX)?;
        check("user_id", hi, crate::ids::ID_CHARS_MAX)?;
        if lo > hi {
            return Err(ConversationError::NotTwoUsers);
        }
        Ok(Self { key: Arc::from(key) })
    }

    /// The key for tables, Redis, queues and the shard hash: unambiguous, at most 137 characters.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.key
    }

    /// The name that clients see, always the canonical one.
    #[must_use]
    pub fn wire(&self) -> String {
        // Groups have no blank to replace.
        self.key.replacen(' ', "_", 1)
    }

    /// The other one of a private chat that `user` is in (the same one in notes to oneself); `None` for a group, and for
    /// a private chat of others.
    #[must_use]
    pub fn peer_of(&self, user: &str) -> Option<&str> {
        match self.kind() {
            Kind::Private(lo, hi) if user == lo => Some(hi),
            Kind::Private(lo, hi) if user == hi => Some(lo),
            _ => None,
        }
    }

    /// Private (with its two users) or group.
    #[must_use]
    pub fn kind(&self) -> Kind<'_> {
        match self.key.strip_prefix(PRIVATE).and_then(|pair| pair.split_once(' ')) {
            Some((lo, hi)) => Kind::Private(lo, hi),
            None => Kind::Group,
        }
    }
}

impl fmt::Display for Conversation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.wire())
    }
}

impl fmt::Debug for Conversation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Conversation({:?})", &*self.key)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn user(id: &str) -> UserId {
        UserId::parse(id).unwrap()
    }

    #[test]
    fn both_orders_are_one_conversation_with_a_canonical_name() {
        let a = Conversation::parse("private_bob_alice", &user("alice")).unwrap();
        let b = Conversation::parse("private_alice_bob", &user("bob")).unwrap();
        assert_eq!(a, b);
        assert_eq!(a.wire(), "private_alice_bob");
        assert_eq!(a.key(), "private_alice bob");
        assert_eq!(a.kind(), Kind::Private("alice", "bob"));
        assert_eq!(["alice", "bob", "carol"].map(|id| a.peer_of(id)), [Some("bob"), Some("alice"), None]);
    }

    #[test]
    fn underscores_in_ids_never_join_two_pairs() {
        let of_a = Conversation::parse("private_a_b_c", &user("a")).unwrap();
        let of_c = Conversation::parse("private_a_b_c", &user("c")).unwrap();
        assert_eq!(of_a.kind(), Kind::Private("a", "b_c"));
        assert_eq!(of_c.kind(), Kind::Private("a_b", "c"));
        assert_ne!(of_a, of_c);
    }

    #[test]
    fn of_two_readings_the_canonical_one_wins() {
        // For "a": after "a_" stands "b_a", before "_a" stands "a_b"; the second pair's name is the text itself.
        let read = Conversation::parse("private_a_b_a", &user("a")).unwrap();
        assert_eq!(read.wire(), "private_a_b_a");
    }

    #[test]
    fn errors_say_what_to_send() {
        let me = user("carol");
        assert_eq!(Conversation::parse("private_alice_bob", &me), Err(ConversationError::NotYours));
        assert_eq!(Conversation::parse("private_carol", &me), Err(ConversationError::NotTwoUsers));
        assert_eq!(Conversation::parse("private_carol_", &me), Err(ConversationError::NotTwoUsers));
        assert_eq!(Conversation::parse("room_1", &me), Err(ConversationError::UnknownKind));
        assert_eq!(Conversation::parse("group_", &me), Err(ConversationError::UnknownKind));
        assert!(matches!(Conversation::parse("", &me), Err(ConversationError::Id(_))));
        assert!(matches!(Conversation::parse("group_a b", &me), Err(ConversationError::Id(_))));
        assert!(matches!(
            Conversation::parse(&format!("group_{}", "x".repeat(60)), &me),
            Err(ConversationError::Id(_))
        ));
    }

    #[test]
    fn notes_to_oneself_are_a_private_conversation() {
        let notes = Conversation::parse("private_alice_alice", &user("alice")).unwrap();
        assert_eq!(notes.kind(), Kind::Private("alice", "alice"));
    }

    #[test]
    fn the_longest_ids_fit() {
        let (a, b) = (user(&"a".repeat(64)), user(&"b".repeat(64)));
        let name = Conversation::between(&a, &b).wire();
        assert_eq!(Conversation::parse(&name, &b).unwrap(), Conversation::between(&a, &b));
    }

    proptest! {
        #[test]
        fn any_two_users_find_the_same_conversation(a in "[a-c_]{1,6}", b in "[a-c_]{1,6}") {
            let (a, b) = (user(&a), user(&b));
            let pair = Conversation::between(&a, &b);
            prop_assert_eq!(&pair, &Conversation::between(&b, &a));
            prop_assert_eq!(Conversation::from_key(pair.key()), Ok(pair.clone()));
            // Whatever a user reads from a name is a conversation that the user is in.
            for text in [pair.wire(), format!("private_{b}_{a}")] {
                for me in [&a, &b] {
                    let read = Conversation::parse(&text, me).unwrap();
                    let Kind::Private(lo, hi) = read.kind() else { panic!("not private") };
                    prop_assert!(lo == me.as_str() || hi == me.as_str());
                }
            }
        }

        #[test]
        fn any_text_is_read_or_refused(text in "\\PC{0,150}", me in "[a-z_]{1,5}") {
            if let Ok(conversation) = Conversation::parse(&text, &user(&me)) {
                prop_assert_eq!(Conversation::from_key(conversation.key()), Ok(conversation.clone()));
            }
        }
    }
}
