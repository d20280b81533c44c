//! Group → connections, in several maps so that few share a lock.

use ahash::{AHashMap, RandomState};
use parking_lot::RwLock;
use shared::conversation::Conversation;
use shared::permission::GroupSettings;

use super::member::Member;

/// Number of maps.
const PARTS: usize = 64;

/// A group that has members connected here.
#[derive(Debug)]
struct Present {
    /// What was last known about it. What is known about its members here is as of the same version.
    about: GroupSettings,
    /// The latest change that was heard of. While it is later than what is known, one before it is missing: believe
    /// nothing.
    heard: u64,
    /// Something is known to have changed and was not read yet: believe nothing.
    is_stale: bool,
    members: AHashMap<u64, Member>,
}

#[derive(Debug)]
pub(super) struct Audience {
    hasher: RandomState,
    parts: [RwLock<AHashMap<Conversation, Present>>; PARTS],
}

impl Default for Audience {
    fn default() -> Self {
        Self { hasher: RandomState::new(), parts: std::array::from_fn(|_| RwLock::default()) }
    }
}

impl Audience {
    fn part(&self, group: &Conversation) -> &RwLock<AHashMap<Conversation, Present>> {
        #[allow(clippy::cast_possible_truncation)] // any bits will do
        let place = self.hasher.hash_one(group) as usize;
        &self.parts[place % PARTS]
    }

    /// Adds a connection. `about` counts only where the group had nobody here: what is known about the others may be
    /// older.
    pub(super) fn add(&self, group: &Conversation, about: GroupSettings, member: Member) {
        let mut part = self.part(group).write();
        let present = part.entry(group.clone()).or_insert_with(|| Present {
            about,
            heard: 0,
            is_stale: false,
            members: AHashMap::new(),
        });
        present.members.insert(member.connection, member);
    }

    /// Adds one more connection of a user who is in it.
    pub(super) fn add_another(&self, group: &Conversation, member: Member) {
        if let Some(present) = self.part(group).write().get_mut(group) {
            present.members.insert(member.connection, member);
        }
    }

    pub(super) fn remove(&self, group: &Conversation, connection: u64) {
        let mut part = self.part(group).write();
        if let Some(present) = part.get_mut(group) {
            present.members.remove(&connection);
            if present.members.is_empty() {
                part.remove(group);
            }
        }
    }

    pub(super) fn each(&self, group: &Conversation, f: impl FnMut(&Member)) -> bool {
        let part = self.part(group).read();
        let Some(present) = part.get(group) else { return false };
        present.members.values().for_each(f);
        true
    }

    /// What is known about the group, unless it is stale, a change is missing, or nobody of it is here.
    pub(super) fn about(&self, group: &Conversation) -> Option<GroupSettings> {
        let part = self.part(group).read();
        let believed = |present: &&Present| !present.is_stale && present.heard <= present.about.version;
        part.get(group).filter(believed).map(|present| present.about)
    }

    /// The version up to which changes were applied; `None` if nobody of the group is here.
    pub(super) fn version(&self, group: &Conversation) -> Option<u64> {
        self.part(group).read().get(group).map(|present| present.about.version)
    }

    pub(super) fn set_about(&self, group: &Conversation, about: GroupSettings) {
        if let Some(present) = self.part(group).write().get_mut(group) {
            present.about = about;
            present.is_stale = false;
        }
    }

    pub(super) fn set_version(&self, group: &Conversation, version: u64, merges_head: bool) {
        if let Some(present) = self.part(group).write().get_mut(group) {
            present.about.version = version;
            present.about.merges_head = merges_head;
        }
    }

    pub(super) fn set_heard(&self, group: &Conversation, version: u64) {
        if let Some(present) = self.part(group).write().get_mut(group) {
            present.heard = present.heard.max(version);
        }
    }

    pub(super) fn mark_stale(&self, group: &Conversation) {
        if let Some(present) = self.part(group).write().get_mut(group) {
            present.is_stale = true;
        }
    }

    /// All groups with somebody here.
    pub(super) fn groups(&self) -> Vec<Conversation> {
        self.parts.iter().flat_map(|part| part.read().keys().cloned().collect::<Vec<_>>()).collect()
    }
}
