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
use shared::permission::Roster;

/// Members remembered per shard, some 100 bytes each.
const MEMBERS_MAX: usize = 100_000;

/// Who may send to one conversation, as of one version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rights {
    /// The conversation's access version.
    pub version: u64,
    /// As read.
    pub roster: Roster,
}

impl Rights {
    /// Of a conversation about which nothing need be read: a private one in which nobody was ever blocked.
    #[must_use]
    pub fn of_unchanged(conversation: &Conversation, head: Head) -> Option<Self> {
        let is_private = matches!(conversation.kind(), Kind::Private(..));
        let roster = Roster::Private { blocked: Vec::new() };
        (is_private && head.access_version == 0).then_some(Self { version: 0, roster })
    }

    /// Whether it says something about each of `users`.
    pub fn covers<'u>(&self, mut users: impl Iterator<Item = &'u UserId>) -> bool {
        match &self.roster {
            Roster::Group(group) if group.is_large => users.all(|user| group.members.contains_key(user)),
            Roster::Group(_) | Roster::Private { .. } | Roster::NoGroup => true,
        }
    }

    /// Adds what was known of the same version about other members of a large group.
    pub fn extend(&mut self, before: &Rights) {
        if let (Roster::Group(group), Roster::Group(known)) = (&mut self.roster, &before.roster)
            && group.is_large
            && self.version == before.version
        {
            for (user, sender) in &known.members {
                group.members.entry(user.clone()).or_insert(*sender);
            }
        }
    }

    /// What it costs to remember it.
    fn size(&self) -> usize {
        1 + match &self.roster {
            Roster::Group(group) => group.members.len(),
            Roster::Private { .. } | Roster::NoGroup => 0,
        }
    }
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
    use shared::permission::{
        Action, Denied, GroupRoster, GroupSettings, HistoryRange, MemberStatus, Membership, Permissions, Role,
    };

    use super::*;

    fn user(id: &str) -> UserId {
        UserId::parse(id).unwrap()
    }

    fn group() -> Conversation {
        Conversation::from_key("group_1").unwrap()
    }

    fn of_group(is_muted: bool, is_large: bool, members: &[(&str, Option<MemberStatus>)]) -> Rights {
        let members = members.iter().map(|(id, status)| (user(id), *status)).collect();
        Rights { version: 3, roster: Roster::Group(GroupRoster { is_muted, is_large, members }) }
    }

    fn refusal(rights: &Rights, conversation: &Conversation, user: &UserId, now: i64) -> Option<Denied> {
        rights.roster.relation(conversation, user).check(Action::Send, || now).err()
    }

    #[test]
    fn a_group_refuses_exactly_whom_the_gateway_refuses() {
        for role in [Role::Member, Role::Admin, Role::Owner] {
            for (muted_until, is_muted) in [(0, false), (0, true), (100, false), (101, false), (101, true)] {
                let status = MemberStatus { role, muted_until };
                let rights = of_group(is_muted, false, &[("alice", Some(status))]);
                let settings = GroupSettings { is_muted, ..GroupSettings::default() };
                let membership = Membership { status, history: HistoryRange::default() };
                let at_gateway = Permissions::of_member(settings, membership).check(Action::Send, || 100);
                let refusal = refusal(&rights, &group(), &user("alice"), 100);
                assert_eq!(refusal, at_gateway.err(), "{role:?} {muted_until}");
            }
        }
        let empty = of_group(false, false, &[]);
        assert_eq!(refusal(&empty, &group(), &user("alice"), 0), Some(Denied::NotMember));
        let none = Rights { version: 3, roster: Roster::NoGroup };
        assert_eq!(refusal(&none, &group(), &user("alice"), 0), Some(Denied::NoGroup));
    }

    #[test]
    fn a_private_conversation_has_two_users_and_needs_no_query_until_one_is_blocked() {
        let (alice, bob) = (user("alice"), user("bob"));
        let chat = Conversation::between(&alice, &bob);
        let head = |access_version| Head { last_seq: Seq(9), access_version };
        let rights = Rights::of_unchanged(&chat, head(0)).unwrap();
        assert_eq!(refusal(&rights, &chat, &bob, 0), None);
        assert_eq!(refusal(&rights, &chat, &user("carol"), 0), Some(Denied::NotParticipant));
        assert_eq!(Rights::of_unchanged(&chat, head(1)), None);
        assert_eq!(Rights::of_unchanged(&group(), head(0)), None);
        let blocked = Rights { version: 1, roster: Roster::Private { blocked: vec![bob.clone()] } };
        assert_eq!(refusal(&blocked, &chat, &bob, 0), Some(Denied::Blocked));
        assert_eq!(refusal(&blocked, &chat, &alice, 0), None);
    }

    #[test]
    fn of_a_large_group_only_those_are_known_who_were_asked_about() {
        let sender = Some(MemberStatus::NEW);
        let first = of_group(false, true, &[("alice", sender), ("eve", None)]);
        assert!(first.covers([&user("alice"), &user("eve")].into_iter()));
        assert!(!first.covers([&user("alice"), &user("bob")].into_iter()));
        let mut second = of_group(false, true, &[("bob", sender)]);
        second.extend(&first);
        assert!(second.covers([&user("alice"), &user("eve"), &user("bob")].into_iter()));
        assert_eq!(refusal(&second, &group(), &user("eve"), 0), Some(Denied::NotMember));
        let mut newer = Rights { version: 4, ..of_group(false, true, &[("bob", sender)]) };
        newer.extend(&first);
        assert!(!newer.covers([&user("alice")].into_iter()), "what was known is no longer true");
    }

    #[test]
    fn memory_holds_one_version_of_each_and_is_bounded() {
        let mut memory = Memory::default();
        let sender = Some(MemberStatus::NEW);
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
