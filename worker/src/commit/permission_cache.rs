//! The permissions of senders, cached between batches.
//!
//! Pure. An entry is valid if and only if its version equals the access version in the conversation's row, which the
//! transaction locks anyway. So permissions are checked where messages are committed, without a query while they do not
//! change.

use std::sync::Arc;

use ahash::AHashMap;
use shared::conversation::{Conversation, Kind};
use shared::ids::UserId;
use shared::mysql::conversations::Head;
use shared::permission::Roster;

/// Most members in the cache of one shard, some 100 bytes each. Beyond, the cache is emptied.
const MEMBERS_MAX: usize = 100_000;

/// The members of one conversation, at one access version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct VersionedRoster {
    /// Access version of the conversation.
    pub(crate) version: u64,
    pub(crate) roster: Roster,
}

impl VersionedRoster {
    /// The roster of a conversation for which no query is needed: a private one in which nobody was ever blocked.
    #[must_use]
    pub(crate) fn without_query(conversation: &Conversation, head: Head) -> Option<Self> {
        let is_private = matches!(conversation.kind(), Kind::Private(..));
        let roster = Roster::Private { blocked: Vec::new() };
        (is_private && head.access_version == 0).then_some(Self { version: 0, roster })
    }

    /// Whether it includes each of `users`: of a large group, only some members are read.
    pub(crate) fn covers<'u>(&self, mut users: impl Iterator<Item = &'u UserId>) -> bool {
        match &self.roster {
            Roster::Group(group) if group.is_large => users.all(|user| group.members.contains_key(user)),
            Roster::Group(_) | Roster::Private { .. } | Roster::NoGroup => true,
        }
    }

    /// Adds other members of a large group from an earlier roster of the same version.
    pub(crate) fn extend(&mut self, before: &VersionedRoster) {
        if let (Roster::Group(group), Roster::Group(known)) = (&mut self.roster, &before.roster)
            && group.is_large
            && self.version == before.version
        {
            for (user, sender) in &known.members {
                group.members.entry(user.clone()).or_insert(*sender);
            }
        }
    }

    /// Size in the cache.
    fn size(&self) -> usize {
        1 + match &self.roster {
            Roster::Group(group) => group.members.len(),
            Roster::Private { .. } | Roster::NoGroup => 0,
        }
    }
}

/// The rosters of one shard's conversations.
#[derive(Debug, Clone, Default)]
pub(crate) struct PermissionCache {
    rosters: AHashMap<Conversation, Arc<VersionedRoster>>,
    members: usize,
}

impl PermissionCache {
    /// The roster of `conversation`, if it is of this access version.
    #[must_use]
    pub(crate) fn get(&self, conversation: &Conversation, version: u64) -> Option<&Arc<VersionedRoster>> {
        self.rosters.get(conversation).filter(|roster| roster.version == version)
    }

    /// Inserts a roster that a committed transaction has read.
    pub(crate) fn insert(&mut self, conversation: &Conversation, roster: &Arc<VersionedRoster>) {
        if self.rosters.get(conversation).is_some_and(|cached| Arc::ptr_eq(cached, roster)) {
            return;
        }
        if self.members + roster.size() > MEMBERS_MAX {
            *self = Self::default();
        }
        self.members += roster.size();
        if let Some(before) = self.rosters.insert(conversation.clone(), Arc::clone(roster)) {
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

    fn of_group(is_muted: bool, is_large: bool, members: &[(&str, Option<MemberStatus>)]) -> VersionedRoster {
        let members = members.iter().map(|(id, status)| (user(id), *status)).collect();
        VersionedRoster { version: 3, roster: Roster::Group(GroupRoster { is_muted, is_large, members }) }
    }

    fn denied(
        versioned: &VersionedRoster,
        conversation: &Conversation,
        user: &UserId,
        now: i64,
    ) -> Option<Denied> {
        versioned.roster.relation(conversation, user).check(Action::Send, || now).err()
    }

    #[test]
    fn a_group_refuses_the_same_senders_as_the_gateway() {
        for role in [Role::Member, Role::Admin, Role::Owner] {
            for (muted_until, is_muted) in [(0, false), (0, true), (100, false), (101, false), (101, true)] {
                let status = MemberStatus { role, muted_until };
                let roster = of_group(is_muted, false, &[("alice", Some(status))]);
                let settings = GroupSettings { is_muted, ..GroupSettings::default() };
                let membership = Membership { status, history: HistoryRange::default() };
                let at_gateway = Permissions::of_member(settings, membership).check(Action::Send, || 100);
                let result = denied(&roster, &group(), &user("alice"), 100);
                assert_eq!(result, at_gateway.err(), "{role:?} {muted_until}");
            }
        }
        let empty = of_group(false, false, &[]);
        assert_eq!(denied(&empty, &group(), &user("alice"), 0), Some(Denied::NotMember));
        let none = VersionedRoster { version: 3, roster: Roster::NoGroup };
        assert_eq!(denied(&none, &group(), &user("alice"), 0), Some(Denied::NoGroup));
    }

    #[test]
    fn a_private_conversation_has_two_users_and_needs_no_query_until_one_is_blocked() {
        let (alice, bob) = (user("alice"), user("bob"));
        let chat = Conversation::between(&alice, &bob);
        let head = |access_version| Head { last_seq: Seq(9), access_version };
        let roster = VersionedRoster::without_query(&chat, head(0)).unwrap();
        assert_eq!(denied(&roster, &chat, &bob, 0), None);
        assert_eq!(denied(&roster, &chat, &user("carol"), 0), Some(Denied::NotParticipant));
        assert_eq!(VersionedRoster::without_query(&chat, head(1)), None);
        assert_eq!(VersionedRoster::without_query(&group(), head(0)), None);
        let blocked = VersionedRoster { version: 1, roster: Roster::Private { blocked: vec![bob.clone()] } };
        assert_eq!(denied(&blocked, &chat, &bob, 0), Some(Denied::Blocked));
        assert_eq!(denied(&blocked, &chat, &alice, 0), None);
    }

    #[test]
    fn the_roster_of_a_large_group_covers_only_the_members_read() {
        let sender = Some(MemberStatus::NEW);
        let first = of_group(false, true, &[("alice", sender), ("eve", None)]);
        assert!(first.covers([&user("alice"), &user("eve")].into_iter()));
        assert!(!first.covers([&user("alice"), &user("bob")].into_iter()));
        let mut second = of_group(false, true, &[("bob", sender)]);
        second.extend(&first);
        assert!(second.covers([&user("alice"), &user("eve"), &user("bob")].into_iter()));
        assert_eq!(denied(&second, &group(), &user("eve"), 0), Some(Denied::NotMember));
        let mut newer = VersionedRoster { version: 4, ..of_group(false, true, &[("bob", sender)]) };
        newer.extend(&first);
        assert!(!newer.covers([&user("alice")].into_iter()), "members of another version are not added");
    }

    #[test]
    fn the_cache_holds_one_version_per_conversation_and_is_bounded() {
        let mut cache = PermissionCache::default();
        let sender = Some(MemberStatus::NEW);
        let roster = Arc::new(of_group(false, false, &[("alice", sender), ("bob", sender)]));
        cache.insert(&group(), &roster);
        cache.insert(&group(), &roster);
        assert_eq!((cache.get(&group(), 3), cache.get(&group(), 4), cache.members), (Some(&roster), None, 3));
        let newer = Arc::new(VersionedRoster { version: 4, ..of_group(false, false, &[("alice", sender)]) });
        cache.insert(&group(), &newer);
        assert_eq!((cache.get(&group(), 3), cache.get(&group(), 4), cache.members), (None, Some(&newer), 2));
        for n in 0..MEMBERS_MAX {
            cache.insert(&Conversation::from_key(&format!("group_x{n}")).unwrap(), &newer);
            assert!(cache.members <= MEMBERS_MAX);
        }
        assert!(cache.members > 0);
    }
}
