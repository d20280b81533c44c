//! What connected users may do: read on every send, from memory.
//!
//! Both halves are divided into parts with a lock each. A lookup takes one lock and allocates nothing.

use ahash::{AHashMap, AHashSet, RandomState};
use parking_lot::{Mutex, RwLock};
use shared::conversation::{Conversation, Kind};
use shared::ids::UserId;

use shared::permission::{GroupSettings, Permissions};

use super::group_state::GroupState;

/// Number of parts of each half.
const PARTS: usize = 64;

/// The groups that have members here, and the users who block those that are connected here.
#[derive(Debug)]
pub(super) struct PermissionCache {
    hasher: RandomState,
    groups: [RwLock<AHashMap<Conversation, GroupState>>; PARTS],
    /// Connected user → users who take no private messages from it. No entry: not known.
    blockers: [Mutex<AHashMap<UserId, AHashSet<UserId>>>; PARTS],
}

impl Default for PermissionCache {
    fn default() -> Self {
        Self {
            hasher: RandomState::new(),
            groups: std::array::from_fn(|_| RwLock::default()),
            blockers: std::array::from_fn(|_| Mutex::default()),
        }
    }
}

impl PermissionCache {
    fn part(&self, key: impl std::hash::Hash) -> usize {
        #[expect(clippy::cast_possible_truncation, reason = "any bits of a hash will do")]
        let hash = self.hasher.hash_one(key) as usize;
        hash % PARTS
    }

    fn group_part(&self, group: &Conversation) -> &RwLock<AHashMap<Conversation, GroupState>> {
        &self.groups[self.part(group)]
    }

    fn blockers_of(&self, user: &str) -> &Mutex<AHashMap<UserId, AHashSet<UserId>>> {
        &self.blockers[self.part(user)]
    }

    /// What `user`, connected here, may do in `conversation`; `None` if that is not known for certain.
    pub(super) fn permissions(&self, conversation: &Conversation, user: &UserId) -> Option<Permissions> {
        match conversation.kind() {
            Kind::Private(..) => {
                let peer = conversation.peer_of(user.as_str())?;
                self.is_blocked(user.as_str(), peer).map(Permissions::of_participant)
            }
            Kind::Group => self.group_part(conversation).read().get(conversation)?.permissions(user.as_str()),
        }
    }

    /// What holds for all members of `group`; `None` if that is not known for certain.
    pub(super) fn settings(&self, group: &Conversation) -> Option<GroupSettings> {
        self.group_part(group).read().get(group)?.settings()
    }

    /// The version up to which all changes of `group` are applied; `None` if no member is connected here.
    pub(super) fn version(&self, group: &Conversation) -> Option<u64> {
        self.group_part(group).read().get(group)?.version()
    }

    /// Whether changes of `group` to these versions may tell something new.
    pub(super) fn is_behind(&self, group: &Conversation, first: u64, last: u64) -> bool {
        self.group_part(group).read().get(group).is_none_or(|state| state.is_behind(first, last))
    }

    /// Whether `group` has members here, or is being read because it may have.
    pub(super) fn contains(&self, group: &Conversation) -> bool {
        self.group_part(group).read().contains_key(group)
    }

    /// All groups that have members here.
    pub(super) fn groups(&self) -> Vec<Conversation> {
        self.groups.iter().flat_map(|part| part.read().keys().cloned().collect::<Vec<_>>()).collect()
    }

    /// Changes the state of `group`. A state that is idle afterwards is forgotten.
    pub(super) fn update<R>(&self, group: &Conversation, change: impl FnOnce(&mut GroupState) -> R) -> R {
        let mut part = self.group_part(group).write();
        let state = match part.get_mut(group) {
            Some(state) => state,
            None => part.entry(group.clone()).or_default(),
        };
        let result = change(state);
        if state.is_idle() {
            part.remove(group);
        }
        result
    }

    /// Whether `by` takes no private messages from `user`; `None` if that is not known.
    fn is_blocked(&self, user: &str, by: &str) -> Option<bool> {
        Some(self.blockers_of(user).lock().get(user)?.contains(by))
    }

    /// The users who take no private messages from `user`, who is connected here.
    pub(super) fn set_blockers(&self, user: &UserId, blockers: AHashSet<UserId>) {
        self.blockers_of(user.as_str()).lock().insert(user.clone(), blockers);
    }

    /// The blockers of `user` are not known any longer.
    pub(super) fn forget_blockers(&self, user: &UserId) {
        self.blockers_of(user.as_str()).lock().remove(user);
    }

    #[cfg(test)]
    pub(super) fn each_group(&self, mut f: impl FnMut(&Conversation, &GroupState)) {
        self.groups.iter().for_each(|part| part.read().iter().for_each(|(group, state)| f(group, state)));
    }
}
