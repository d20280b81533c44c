//! Group → connections, in several maps so that few share a lock.

use ahash::{AHashMap, RandomState};
use parking_lot::RwLock;
use shared::conversation::Conversation;

use super::Member;

/// Number of maps.
const PARTS: usize = 64;

type Part = RwLock<AHashMap<Conversation, AHashMap<u64, Member>>>;

#[derive(Debug)]
pub(super) struct Audience {
    hasher: RandomState,
    parts: [Part; PARTS],
}

impl Default for Audience {
    fn default() -> Self {
        Self { hasher: RandomState::new(), parts: std::array::from_fn(|_| RwLock::default()) }
    }
}

impl Audience {
    fn part(&self, group: &Conversation) -> &Part {
        #[allow(clippy::cast_possible_truncation)] // any bits will do
        let place = self.hasher.hash_one(group) as usize;
        &self.parts[place % PARTS]
    }

    pub(super) fn add(&self, group: &Conversation, member: Member) {
        self.part(group).write().entry(group.clone()).or_default().insert(member.connection, member);
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

    pub(super) fn each(&self, group: &Conversation, f: impl FnMut(&Member)) -> bool {
        let part = self.part(group).read();
        let Some(members) = part.get(group) else { return false };
        members.values().for_each(f);
        true
    }
}
