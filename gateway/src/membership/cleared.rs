//! Up to where connected users have cleared their conversations: nothing at or below is shown to them.
//!
//! A bound only rises, so readings and events may come in any order. Users who have cleared nothing have no entry.

use std::sync::atomic::{AtomicUsize, Ordering};

use ahash::{AHashMap, RandomState};
use parking_lot::Mutex;
use shared::conversation::Conversation;
use shared::ids::{Seq, UserId};

/// Number of parts.
const PARTS: usize = 64;

type Bounds = AHashMap<UserId, AHashMap<Conversation, Seq>>;

/// The bounds of the users who are connected here.
#[derive(Debug)]
pub(super) struct ClearedBounds {
    hasher: RandomState,
    parts: [Mutex<Bounds>; PARTS],
    /// Users with an entry: where nobody has cleared anything, a lookup costs one comparison.
    users: AtomicUsize,
}

impl Default for ClearedBounds {
    fn default() -> Self {
        Self {
            hasher: RandomState::new(),
            parts: std::array::from_fn(|_| Mutex::default()),
            users: AtomicUsize::new(0),
        }
    }
}

impl ClearedBounds {
    fn part(&self, user: &UserId) -> &Mutex<Bounds> {
        #[expect(clippy::cast_possible_truncation, reason = "any bits of a hash will do")]
        let hash = self.hasher.hash_one(user) as usize;
        &self.parts[hash % PARTS]
    }

    /// The number up to which `user` has cleared `conversation`, as far as it is known here; 0 if it has not.
    pub(super) fn of(&self, user: &UserId, conversation: &Conversation) -> Seq {
        if self.users.load(Ordering::Acquire) == 0 {
            return Seq::ZERO;
        }
        let part = self.part(user).lock();
        part.get(user).and_then(|bounds| bounds.get(conversation)).copied().unwrap_or(Seq::ZERO)
    }

    /// `user`, connected here, has cleared these conversations at least up to these numbers.
    pub(super) fn raise(&self, user: &UserId, cleared: impl IntoIterator<Item = (Conversation, Seq)>) {
        let mut cleared = cleared.into_iter().peekable();
        if cleared.peek().is_none() {
            return;
        }
        let mut part = self.part(user).lock();
        let bounds = part.entry(user.clone()).or_insert_with(|| {
            self.users.fetch_add(1, Ordering::Release);
            AHashMap::new()
        });
        for (conversation, seq) in cleared {
            let bound = bounds.entry(conversation).or_default();
            *bound = seq.max(*bound);
        }
    }

    /// `user` has no connection here any more.
    pub(super) fn forget(&self, user: &UserId) {
        if self.part(user).lock().remove(user).is_some() {
            self.users.fetch_sub(1, Ordering::Release);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_only_rises_and_goes_with_its_user() {
        let bounds = ClearedBounds::default();
        let [alice, bob] = ["alice", "bob"].map(|id| UserId::parse(id).unwrap());
        let [one, two] = ["group_1", "group_2"].map(|key| Conversation::from_key(key).unwrap());
        assert_eq!(bounds.of(&alice, &one), Seq(0));
        bounds.raise(&alice, [(one.clone(), Seq(5)), (two.clone(), Seq(9))]);
        bounds.raise(&alice, [(one.clone(), Seq(3))]);
        bounds.raise(&bob, []);
        assert_eq!([bounds.of(&alice, &one), bounds.of(&alice, &two)], [Seq(5), Seq(9)]);
        bounds.raise(&alice, [(one.clone(), Seq(7))]);
        assert_eq!([bounds.of(&alice, &one), bounds.of(&bob, &one)], [Seq(7), Seq(0)]);
        bounds.forget(&alice);
        bounds.forget(&bob);
        assert_eq!(bounds.of(&alice, &one), Seq(0));
        assert_eq!(bounds.users.load(Ordering::Acquire), 0);
    }
}
