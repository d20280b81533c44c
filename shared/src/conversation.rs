//! Conversations: their names for clients, and their keys for the stores.
//!
//! Clients name a private conversation `private_<a>_<b>`. User ids may contain `_`, so the name alone does not identify
//! the two users: `private_a_b_c` may be `a` with `b_c`, or `a_b` with `c`. The reader of the name is one of them, which
//! nearly always decides. The conversation key, for MySQL, Redis and the queues, separates the two ids by a blank, which
//! no id contains, so that two different pairs never share a key.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use crate::ids::{IdError, UserId, check};

const PRIVATE: &str = "private_";
const GROUP: &str = "group_";

/// Longest private name in characters: the prefix, two ids and the `_` between them.
const PRIVATE_CHARS_MAX: usize = PRIVATE.len() + 2 * crate::ids::ID_CHARS_MAX + 1;

/// The reason why a text does not name a conversation of the user who sent it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConversationError {
    /// It breaks the rules for ids.
    #[error(transparent)]
    Id(#[from] IdError),
    /// It begins with neither `private_` nor `group_`.
    #[error("conversation_id must be private_<user>_<user> or group_<name>")]
    UnknownKind,
    /// It names a private conversation without two users.
    #[error("conversation_id must name two users: private_<user>_<user>")]
    NotTwoUsers,
    /// It names two private conversations of the reader, and is the canonical name of neither.
    #[error("conversation_id can be read in two ways: send the other user's id as \"to\" instead")]
    Ambiguous,
    /// It names a private conversation of other users.
    #[error("you are not one of the two users of this private conversation")]
    NotYours,
}

/// A conversation in canonical form: equal values are the same conversation. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Conversation {
    key: Arc<str>,
}

/// The kind of a conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind<'a> {
    /// Of exactly these two users, in byte order; a user's notes to itself name it twice.
    Private(&'a str, &'a str),
    /// Of the members in `group_member`.
    Group,
}

impl Conversation {
    /// Parses the name that `reader` sent.
    ///
    /// If `private_…` can be two different pairs that both contain `reader`, it is the pair whose canonical name is exactly the
    /// text (the server itself sends canonical names), and else refused: it would reach the wrong user.
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
        match readings.next().map(|peer| Self::private(me, peer)) {
            None => Ok(first),
            Some(second) if second == first => Ok(first),
            Some(_) if first.wire() == text => Ok(first),
            Some(second) if second.wire() == text => Ok(second),
            Some(_) => Err(ConversationError::Ambiguous),
        }
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

    /// Parses a conversation key, as returned by [`key`](Self::key).
    ///
    /// # Errors
    /// [`ConversationError`]
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

    /// The conversation key for tables, Redis, queues and the shard hash: unambiguous, at most 137 characters.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.key
    }

    /// The canonical name for clients. The name of a group is its key.
    #[must_use]
    pub fn wire(&self) -> Cow<'_, str> {
        match self.kind() {
            Kind::Private(..) => Cow::Owned(self.key.replacen(' ', "_", 1)),
            Kind::Group => Cow::Borrowed(&self.key),
        }
    }

    /// The other user of a private conversation of `user` (in notes to itself the same one); `None` for a group, and for a
    /// private conversation of other users.
    #[must_use]
    pub fn peer_of(&self, user: &str) -> Option<&str> {
        match self.kind() {
            Kind::Private(lo, hi) if user == lo => Some(hi),
            Kind::Private(lo, hi) if user == hi => Some(lo),
            _ => None,
        }
    }

    /// Private, with its two users, or group.
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
    fn two_pairs_with_underscores_stay_apart() {
        let of_a = Conversation::parse("private_a_b_c", &user("a")).unwrap();
        let of_c = Conversation::parse("private_a_b_c", &user("c")).unwrap();
        assert_eq!(of_a.kind(), Kind::Private("a", "b_c"));
        assert_eq!(of_c.kind(), Kind::Private("a_b", "c"));
        assert_ne!(of_a, of_c);
    }

    #[test]
    fn the_canonical_reading_has_precedence() {
        // For "a": "b_a" follows "a_", and "a_b" precedes "_a"; the second pair's name is the text itself.
        let read = Conversation::parse("private_a_b_a", &user("a")).unwrap();
        assert_eq!(read.wire(), "private_a_b_a");
        assert_eq!(read.peer_of("a"), Some("b_a"));
    }

    #[test]
    fn a_name_with_two_readings_of_which_neither_is_canonical_is_refused() {
        // bob with bob_smith would be private_bob_bob_smith, bob with smith_bob is the text itself.
        let read = Conversation::parse("private_bob_smith_bob", &user("bob")).unwrap();
        assert_eq!(read.peer_of("bob"), Some("smith_bob"));
        // m with a_m would be private_a_m_m, m with m_a would be private_m_m_a.
        assert_eq!(Conversation::parse("private_m_a_m", &user("m")), Err(ConversationError::Ambiguous));
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
        let name = Conversation::between(&a, &b).wire().into_owned();
        assert_eq!(Conversation::parse(&name, &b).unwrap(), Conversation::between(&a, &b));
    }

    proptest! {
        #[test]
        fn two_users_parse_the_same_conversation(a in "[a-c_]{1,6}", b in "[a-c_]{1,6}") {
            let (a, b) = (user(&a), user(&b));
            let pair = Conversation::between(&a, &b);
            prop_assert_eq!(&pair, &Conversation::between(&b, &a));
            prop_assert_eq!(Conversation::from_key(pair.key()), Ok(pair.clone()));
            // The name is always read as a conversation of the reader.
            for text in [pair.wire().into_owned(), format!("private_{b}_{a}")] {
                for me in [&a, &b] {
                    let read = match Conversation::parse(&text, me) {
                        Ok(read) => read,
                        // Not the name that the server sends.
                        Err(error) => {
                            prop_assert_eq!(error, ConversationError::Ambiguous);
                            prop_assert_ne!(&text, &pair.wire());
                            continue;
                        }
                    };
                    let Kind::Private(lo, hi) = read.kind() else { panic!("not private") };
                    prop_assert!(lo == me.as_str() || hi == me.as_str());
                }
            }
        }

        #[test]
        fn any_text_is_parsed_or_refused(text in "\\PC{0,150}", me in "[a-z_]{1,5}") {
            if let Ok(conversation) = Conversation::parse(&text, &user(&me)) {
                prop_assert_eq!(Conversation::from_key(conversation.key()), Ok(conversation.clone()));
            }
        }
    }
}
