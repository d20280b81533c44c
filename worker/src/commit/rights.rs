//! Who may send, and what is remembered of it between batches.
//!
//! Pure. What is remembered of a conversation is true if and only if its version is the one that stands in the
//! conversation's row, which the transaction has locked anyway. So sending is checked where it is committed, and as long
//! as nothing changes it costs no query.

use std::sync::Arc;

use ahash::AHashMap;
use shared::conversation::{Conversation, Kind};
use shared::ids::UserId;
use shared::mysql::conversations::Head;
use shared::mysql::members::Role;
use shared::mysql::senders::{GroupSenders, Sender, Senders};

/// Members remembered per shard, some 100 bytes each.
const MEMBERS_MAX: usize = 100_000;

/// Why a message that was accepted is not stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Refusal {
    /// There is no such group, or no longer.
    NoGroup,
    /// The sender is not in the conversation, or no longer.
    NotMember,
    /// The sender is muted.
    Muted,
    /// Only owner and admins may send.
    GroupMuted,
    /// The other user of a private conversation has blocked the sender.
    Blocked,
    /// A recall of a number under which no text or image is stored.
    NothingToRecall,
    /// A recall of someone else's message.
    NotYours,
}

impl Refusal {
    /// As in the client's protocol.
    #[must_use]
    pub fn code(self) -> u32 {
        match self {
            Self::NoGroup | Self::NothingToRecall => 404,
            Self::NotMember | Self::Muted | Self::GroupMuted | Self::Blocked | Self::NotYours => 403,
        }
    }

    /// For the client.
    #[must_use]
    pub fn message(self) -> &'static str {
        match self {
            Self::NoGroup => "there is no such group",
            Self::NotMember => "you are not a member of this conversation",
            Self::Muted => "you are muted in this group",
            Self::GroupMuted => "this group is muted: only its owner and admins may send",
            Self::Blocked => "this user takes no messages from you",
            Self::NothingToRecall => "there is no message of that number to recall",
            Self::NotYours => "only its sender and the group's owner and admins may recall a message",
        }
    }
}

/// Who may send to one conversation, as of one version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rights {
    /// The conversation's access version.
    pub version: u64,
    /// As read.
    pub senders: Senders,
}

impl Rights {
    /// Of a conversation about which nothing need be read: a private one in which nobody was ever blocked.
    #[must_use]
    pub fn of_unchanged(conversation: &Conversation, head: Head) -> Option<Self> {
        let is_private = matches!(conversation.kind(), Kind::Private(..));
        let senders = Senders::Pair { blocked: Vec::new() };
        (is_private && head.access_version == 0).then_some(Self { version: 0, senders })
    }

    /// Whether it says something about each of `users`.
    pub fn covers<'u>(&self, mut users: impl Iterator<Item = &'u UserId>) -> bool {
        match &self.senders {
            Senders::Group(group) if group.is_large => users.all(|user| group.members.contains_key(user)),
            Senders::Group(_) | Senders::Pair { .. } | Senders::NoGroup => true,
        }
    }

    /// Adds what was known of the same version about other members of a large group.
    pub fn extend(&mut self, before: &Rights) {
        if let (Senders::Group(group), Senders::Group(known)) = (&mut self.senders, &before.senders)
            && group.is_large
            && self.version == before.version
        {
            for (user, sender) in &known.members {
                group.members.entry(user.clone()).or_insert(*sender);
            }
        }
    }

    /// Why `sender` may not send at `now` (milliseconds since 1970); `None` if it may.
    #[must_use]
    pub fn refusal(&self, conversation: &Conversation, sender: &UserId, now: i64) -> Option<Refusal> {
        match &self.senders {
            Senders::NoGroup => Some(Refusal::NoGroup),
            Senders::Pair { blocked } => {
                let Kind::Private(lo, hi) = conversation.kind() else { return Some(Refusal::NoGroup) };
                if sender.as_str() != lo && sender.as_str() != hi {
                    return Some(Refusal::NotMember);
                }
                blocked.contains(sender).then_some(Refusal::Blocked)
            }
            Senders::Group(group) => {
                let Some(Sender { role, muted_until }) = member(group, sender) else {
                    return Some(Refusal::NotMember);
                };
                if muted_until > now {
                    return Some(Refusal::Muted);
                }
                (group.is_muted && role < Role::Admin).then_some(Refusal::GroupMuted)
            }
        }
    }

    /// Whether `user` may recall other people's messages.
    #[must_use]
    pub fn may_recall_any(&self, user: &UserId) -> bool {
        let Senders::Group(group) = &self.senders else { return false };
        member(group, user).is_some_and(|sender| sender.role >= Role::Admin)
    }

    /// What it costs to remember it.
    fn size(&self) -> usize {
        1 + match &self.senders {
            Senders::Group(group) => group.members.len(),
            Senders::Pair { .. } | Senders::NoGroup => 0,
        }
    }
}

fn member(group: &GroupSenders, user: &UserId) -> Option<Sender> {
    group.members.get(user).copied().flatten()
}

/// The remembered rights of one shard's conversations.
#[derive(Debug, Clone, Default)]
pub struct Memory {
    rights: AHashMap<Conversation, Arc<Rights>>,
    members: usize,
}

impl Memory {
    /// What is remembered of `conversation`, if it is still true.
    #[must_use]
    pub fn of(&self, conversation: &Conversation, version: u64) -> Option<&Arc<Rights>> {
        self.rights.get(conversation).filter(|rights| rights.version == version)
    }

    /// Remembers what a transaction read that succeeded.
    pub fn learn(&mut self, conversation: &Conversation, rights: &Arc<Rights>) {
        if self.rights.get(conversation).is_some_and(|known| Arc::ptr_eq(known, rights)) {
            return;
        }
        if self.members + rights.size() > MEMBERS_MAX {
            *self = Self::default();
        }
        self.members += rights.size();
        if let Some(before) = self.rights.insert(conversation.clone(), Arc::clone(rights)) {
            self.members -= before.size();
        }
    }
}

#[cfg(test)]
mod tests {
    use shared::ids::Seq;
    use shared::mysql::members::Access;

    use super::*;

    fn user(id: &str) -> UserId {
        UserId::parse(id).unwrap()
    }

    fn group() -> Conversation {
        Conversation::from_key("group_1").unwrap()
    }

    fn of_group(is_muted: bool, is_large: bool, members: &[(&str, Option<Sender>)]) -> Rights {
        let members = members.iter().map(|(id, sender)| (user(id), *sender)).collect();
        Rights { version: 3, senders: Senders::Group(GroupSenders { is_muted, is_large, members }) }
    }

    #[test]
    fn a_group_refuses_exactly_whom_the_gateway_refuses() {
        for role in [Role::Member, Role::Admin, Role::Owner] {
            for (muted_until, is_muted) in [(0, false), (0, true), (100, false), (101, false), (101, true)] {
                let access = Access { role, muted_until, join_seq: Seq::ZERO, floor: Seq::ZERO };
                let rights = of_group(is_muted, false, &[("alice", Some(Sender { role, muted_until }))]);
                let refusal = rights.refusal(&group(), &user("alice"), 100);
                assert_eq!(refusal.is_none(), access.may_send(is_muted, 100), "{role:?} {muted_until}");
            }
        }
        let empty = of_group(false, false, &[]);
        assert_eq!(empty.refusal(&group(), &user("alice"), 0), Some(Refusal::NotMember));
        let none = Rights { version: 3, senders: Senders::NoGroup };
        assert_eq!(none.refusal(&group(), &user("alice"), 0), Some(Refusal::NoGroup));
    }

    #[test]
    fn a_private_conversation_has_two_users_and_needs_no_query_until_one_is_blocked() {
        let (alice, bob) = (user("alice"), user("bob"));
        let chat = Conversation::between(&alice, &bob);
        let head = |access_version| Head { last_seq: Seq(9), access_version };
        let rights = Rights::of_unchanged(&chat, head(0)).unwrap();
        assert_eq!(rights.refusal(&chat, &bob, 0), None);
        assert_eq!(rights.refusal(&chat, &user("carol"), 0), Some(Refusal::NotMember));
        assert_eq!(Rights::of_unchanged(&chat, head(1)), None);
        assert_eq!(Rights::of_unchanged(&group(), head(0)), None);
        let blocked = Rights { version: 1, senders: Senders::Pair { blocked: vec![bob.clone()] } };
        assert_eq!(blocked.refusal(&chat, &bob, 0), Some(Refusal::Blocked));
        assert_eq!(blocked.refusal(&chat, &alice, 0), None);
    }

    #[test]
    fn of_a_large_group_only_those_are_known_who_were_asked_about() {
        let sender = Some(Sender { role: Role::Member, muted_until: 0 });
        let first = of_group(false, true, &[("alice", sender), ("eve", None)]);
        assert!(first.covers([&user("alice"), &user("eve")].into_iter()));
        assert!(!first.covers([&user("alice"), &user("bob")].into_iter()));
        let mut second = of_group(false, true, &[("bob", sender)]);
        second.extend(&first);
        assert!(second.covers([&user("alice"), &user("eve"), &user("bob")].into_iter()));
        assert_eq!(second.refusal(&group(), &user("eve"), 0), Some(Refusal::NotMember));
        let mut newer = Rights { version: 4, ..of_group(false, true, &[("bob", sender)]) };
        newer.extend(&first);
        assert!(!newer.covers([&user("alice")].into_iter()), "what was known is no longer true");
    }

    #[test]
    fn memory_holds_one_version_of_each_and_is_bounded() {
        let mut memory = Memory::default();
        let sender = Some(Sender { role: Role::Member, muted_until: 0 });
        let rights = Arc::new(of_group(false, false, &[("alice", sender), ("bob", sender)]));
        memory.learn(&group(), &rights);
        memory.learn(&group(), &rights);
        assert_eq!(
            (memory.of(&group(), 3), memory.of(&group(), 4), memory.members),
            (Some(&rights), None, 3)
        );
        let newer = Arc::new(Rights { version: 4, ..of_group(false, false, &[("alice", sender)]) });
        memory.learn(&group(), &newer);
        assert_eq!((memory.of(&group(), 3), memory.of(&group(), 4), memory.members), (None, Some(&newer), 2));
        for n in 0..MEMBERS_MAX {
            memory.learn(&Conversation::from_key(&format!("group_x{n}")).unwrap(), &newer);
            assert!(memory.members <= MEMBERS_MAX);
        }
        assert!(memory.members > 0);
    }
}
