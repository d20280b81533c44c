//! Group → connections, in several maps so that few threads share a lock.

use ahash::{AHashMap, RandomState};
use parking_lot::RwLock;
use shared::conversation::Conversation;

use super::member::Member;

/// Number of maps.
const PARTS: usize = 64;

/// The connections that get the pushes of each group, by their number.
type Part = AHashMap<Conversation, AHashMap<u64, Member>>;

#[derive(Debug)]
pub(super) struct Audience {
    hasher: RandomState,
    parts: [RwLock<Part>; PARTS],
}

impl Default for Audience {
    fn default() -> Self {
        Self { hasher: RandomState::new(), parts: std::array::from_fn(|_| RwLock::default()) }
    }
}

impl Audience {
    fn part(&self, group: &Conversation) -> &RwLock<Part> {
        #[expect(clippy::cast_possible_truncation, reason = "any bits of a hash will do")]
        let hash = self.hasher.hash_one(group) as usize;
        &self.parts[hash % PARTS]
    }

    pub(super) fn add(&self, group: &Conversation, member: Member) {
        let mut part = self.part(group).write();
        match part.get_mut(group) {
            Some(members) => _ = members.insert(member.connection, member),
            None => _ = part.insert(group.clone(), AHashMap::from_iter([(member.connection, member)])),
        }
    }

    pub(super) fn remove(&self, group: &Conversation, connection: u64) {
        let mut part = self.part(group).write();
        if let Some(members) = part.get_mut(group) {
            members.remove(&connection);
            if members.is_empty() {
                part.remove(group);
            }
        }
    }

    /// Calls `f` for each connection; false if there is none.
    pub(super) fn each(&self, group: &Conversation, f: impl FnMut(&Member)) -> bool {
        let part = self.part(group).read();
        let Some(members) = part.get(group) else { return false };
        members.values().for_each(f);
        true
    }
}
