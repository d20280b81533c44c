//! The latest changes that this gateway heard of.
//!
//! A login reads the database while events arrive. What it has read may be older than an event that was applied
//! meanwhile, to a group that had no member here at that time, or to a block of a user who is not loaded yet. The login
//! compares its reading with this list.

use std::collections::VecDeque;
use std::hash::Hash;

use ahash::AHashMap;

/// Keys that are remembered; beyond, the oldest is forgotten.
pub(super) const RECENT_MAX: usize = 4_096;

/// A position in the list: changes after it were heard later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(super) struct Mark(u64);

/// What the list knows about a key since a [`Mark`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Since {
    /// No change was heard of.
    Unchanged,
    /// The highest version that was heard of, not necessarily after the mark.
    Heard(u64),
    /// So many changes followed the mark that the list no longer knows.
    Forgotten,
}

/// Keys with the highest version that was heard of, in the order of the last change.
#[derive(Debug)]
pub(super) struct RecentChanges<K> {
    latest: AHashMap<K, (u64, Mark)>,
    /// One entry per change; those whose mark is not the key's latest are skipped.
    order: VecDeque<(Mark, K)>,
    mark: Mark,
    /// Changes up to here may be forgotten.
    forgotten: Mark,
}

impl<K> Default for RecentChanges<K> {
    fn default() -> Self {
        Self {
            latest: AHashMap::new(),
            order: VecDeque::new(),
            mark: Mark::default(),
            forgotten: Mark::default(),
        }
    }
}

impl<K: Clone + Eq + Hash> RecentChanges<K> {
    /// Records a change of `key` to `version`.
    pub(super) fn record(&mut self, key: &K, version: u64) {
        self.mark.0 += 1;
        let highest = self.latest.get(key).map_or(version, |(known, _)| version.max(*known));
        self.latest.insert(key.clone(), (highest, self.mark));
        self.order.push_back((self.mark, key.clone()));
        while self.order.len() > RECENT_MAX {
            let Some((mark, key)) = self.order.pop_front() else { return };
            if self.latest.get(&key).is_some_and(|(_, latest)| *latest == mark) {
                self.latest.remove(&key);
                self.forgotten = mark;
            }
        }
    }

    /// Now.
    pub(super) fn mark(&self) -> Mark {
        self.mark
    }

    /// The highest version of `key` that was heard of and is remembered; 0 if there is none.
    pub(super) fn version(&self, key: &K) -> u64 {
        self.latest.get(key).map_or(0, |(version, _)| *version)
    }

    /// What is known about changes of `key` after `mark`.
    pub(super) fn since(&self, key: &K, mark: Mark) -> Since {
        match self.latest.get(key) {
            Some((version, latest)) if *latest > mark => Since::Heard(*version),
            _ if self.forgotten > mark => Since::Forgotten,
            _ => Since::Unchanged,
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.order.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_after_a_mark_are_known_by_their_highest_version() {
        let mut recent = RecentChanges::default();
        recent.record(&"a", 7);
        let mark = recent.mark();
        recent.record(&"b", 3);
        recent.record(&"b", 2);
        assert_eq!(recent.since(&"a", mark), Since::Unchanged);
        assert_eq!(recent.since(&"b", mark), Since::Heard(3));
        assert_eq!((recent.version(&"a"), recent.version(&"c")), (7, 0));
    }

    #[test]
    fn the_list_is_bounded_and_knows_what_it_has_forgotten() {
        let mut recent = RecentChanges::default();
        recent.record(&0, 1);
        let mark = recent.mark();
        for key in 1..=RECENT_MAX {
            recent.record(&key, 1);
        }
        assert_eq!(recent.len(), RECENT_MAX);
        assert_eq!(recent.since(&0, mark), Since::Unchanged, "only a change before the mark is forgotten");
        assert_eq!(recent.since(&0, Mark::default()), Since::Forgotten);
        recent.record(&0, 2);
        assert_eq!(recent.since(&1, mark), Since::Forgotten);
        assert_eq!(recent.since(&2, mark), Since::Heard(1));
        for _ in 0..2 * RECENT_MAX {
            recent.record(&0, 3);
        }
        assert_eq!((recent.len(), recent.latest.len()), (RECENT_MAX, 1));
    }
}
