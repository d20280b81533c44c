//! The database: every version of every group, all blocks, and the list of changes.

use std::collections::{BTreeMap, BTreeSet};

use ahash::AHashSet;
use proto::v1;
use proto::v1::event::Kind;
use shared::conversation::Conversation;
use shared::ids::{Seq, UserId};
use shared::mysql::members::GroupMembership;
use shared::permission::{GroupSettings, HistoryRange, MemberStatus, Membership};

use super::operations::{Change, GROUPS, USERS};

pub(super) fn user(index: usize) -> UserId {
    UserId::parse(["alice", "bob", "carol", "dave"][index]).unwrap()
}

pub(super) fn users() -> impl Iterator<Item = UserId> {
    (0..USERS).map(user)
}

pub(super) fn group(index: usize) -> Conversation {
    Conversation::from_key(["group_a", "group_b"][index]).unwrap()
}

pub(super) fn groups() -> impl Iterator<Item = Conversation> {
    (0..GROUPS).map(group)
}

/// A group as of one version.
#[derive(Debug, Clone, Default)]
pub(super) struct GroupVersion {
    pub(super) settings: GroupSettings,
    pub(super) members: BTreeMap<UserId, Membership>,
}

/// One line of the list of changes.
#[derive(Debug, Clone)]
pub(super) struct LogEntry {
    pub(super) id: u64,
    pub(super) conversation: Conversation,
    pub(super) version: u64,
}

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Truth {
    pub(super) is_up: bool,
    /// By version; the first one is of a group without members.
    versions: BTreeMap<Conversation, Vec<GroupVersion>>,
    /// The blocks of each version: (who blocks, who is blocked).
    blocks: Vec<BTreeSet<(UserId, UserId)>>,
    log: Vec<LogEntry>,
    next_id: u64,
    /// Ids that a transaction has taken that is not committed yet.
    open_ids: Vec<u64>,
}

impl Truth {
    pub(super) fn new() -> Self {
        Self {
            is_up: true,
            versions: groups().map(|group| (group, vec![GroupVersion::default()])).collect(),
            blocks: vec![BTreeSet::new()],
            log: Vec::new(),
            next_id: 1,
            open_ids: Vec::new(),
        }
    }

    /// Commits a change. `None` if there was nothing to change, or the database is unavailable.
    pub(super) fn change(&mut self, group: &Conversation, change: Change, late: bool) -> Option<Kind> {
        let now = self.now(group);
        let mut next = now.clone();
        next.settings.version += 1;
        let version = next.settings.version;
        let history = HistoryRange { join_seq: Seq(version), floor: Seq(version / 2) };
        let mut event = v1::MembershipChanged {
            conversation: group.key().to_owned(),
            version,
            joined_seq: history.join_seq.0,
            joined_floor: history.floor.0,
            ..v1::MembershipChanged::default()
        };
        let id = |user: &UserId| user.as_str().to_owned();
        match change {
            Change::Join { user: index } => {
                if next.members.insert(user(index), Membership::new(history)).is_some() {
                    return None;
                }
                event.joined.push(id(&user(index)));
            }
            Change::Leave { user: index } => {
                next.members.remove(&user(index))?;
                event.left.push(id(&user(index)));
            }
            Change::Mute { user: index, until } => {
                let member = next.members.get_mut(&user(index))?;
                member.status = MemberStatus { muted_until: until, ..member.status };
                event.settings = true;
            }
            Change::MuteAll { on } => {
                next.settings.is_muted = on;
                event.settings = true;
            }
            Change::Dismiss => {
                event.left = next.members.keys().map(id).collect();
                next.members.clear();
                event.dismissed = true;
            }
        }
        if !event.settings {
            next.settings.merges_head = next.members.len() > 2;
            event.merges_head = next.settings.merges_head;
        }
        if !self.is_up {
            return None;
        }
        self.versions.get_mut(group).unwrap().push(next);
        self.append(group, version, late);
        Some(Kind::MembershipChanged(event))
    }

    /// The same for a block.
    pub(super) fn block(&mut self, by: &UserId, user: &UserId, blocked: bool) -> Option<Kind> {
        let mut next = self.blocks.last()?.clone();
        let pair = (by.clone(), user.clone());
        let is_change = if blocked { next.insert(pair) } else { next.remove(&pair) };
        if !is_change || !self.is_up || by == user {
            return None;
        }
        self.blocks.push(next);
        self.append(&Conversation::between(by, user), self.block_version(), false);
        Some(Kind::BlockChanged(v1::BlockChanged {
            user_id: by.as_str().to_owned(),
            other_id: user.as_str().to_owned(),
            blocked,
        }))
    }

    /// Changes of one conversation have rising ids, since each locks its row.
    fn append(&mut self, conversation: &Conversation, version: u64, late: bool) {
        let of_same = self.log.iter().filter(|entry| entry.conversation == *conversation);
        let lowest = of_same.map(|entry| entry.id).max().unwrap_or(0) + 1;
        let open = self.open_ids.iter().position(|id| *id >= lowest);
        let id = match open {
            Some(place) => self.open_ids.swap_remove(place),
            None => {
                if late {
                    self.open_ids.push(self.next_id);
                    self.next_id += 1;
                }
                self.next_id += 1;
                self.next_id - 1
            }
        };
        self.log.push(LogEntry { id, conversation: conversation.clone(), version });
    }

    pub(super) fn versions(&self, group: &Conversation) -> &[GroupVersion] {
        &self.versions[group]
    }

    pub(super) fn now(&self, group: &Conversation) -> &GroupVersion {
        self.versions[group].last().unwrap()
    }

    pub(super) fn block_version(&self) -> u64 {
        self.blocks.len() as u64 - 1
    }

    /// Whether `by` blocked `user` as of `version` or a later one: whether it may have, and whether it may not have.
    pub(super) fn was_blocked(&self, by: &UserId, user: &UserId, version: u64) -> (bool, bool) {
        let pair = (by.clone(), user.clone());
        let later = &self.blocks[usize::try_from(version).unwrap()..];
        (
            later.iter().any(|blocks| blocks.contains(&pair)),
            later.iter().any(|blocks| !blocks.contains(&pair)),
        )
    }

    // What gateways read.

    pub(super) fn groups_of(&self, user: &UserId) -> Vec<GroupMembership> {
        let of = |(group, versions): (&Conversation, &Vec<GroupVersion>)| {
            let now = versions.last()?;
            let membership = *now.members.get(user)?;
            Some(GroupMembership { group: group.clone(), settings: now.settings, membership })
        };
        self.versions.iter().filter_map(of).collect()
    }

    pub(super) fn memberships(&self, group: &Conversation, users: &[UserId]) -> Vec<(UserId, Membership)> {
        let members = &self.now(group).members;
        users.iter().filter_map(|user| Some((user.clone(), *members.get(user)?))).collect()
    }

    pub(super) fn blockers_of(&self, user: &UserId) -> AHashSet<UserId> {
        let blocks = self.blocks.last().unwrap();
        blocks.iter().filter(|(_, blocked)| blocked == user).map(|(by, _)| by.clone()).collect()
    }

    pub(super) fn changes_after(&self, last: u64, skipped: &[u64]) -> Vec<LogEntry> {
        let wanted = |entry: &&LogEntry| entry.id > last || skipped.contains(&entry.id);
        self.log.iter().filter(wanted).cloned().collect()
    }
}
