//! Changes of one group that arrived before their predecessors.

use std::collections::BTreeMap;

use ahash::AHashSet;
use shared::ids::UserId;

use super::group_event::Change;

/// Changes of one group that are held; with more, all are dropped and the group is read again.
pub(super) const HELD_MAX: usize = 256;

/// Held changes by version, at most [`HELD_MAX`].
#[derive(Debug, Default)]
pub(super) struct ReorderBuffer(BTreeMap<u64, Change>);

impl ReorderBuffer {
    /// Holds a change. False if there are too many: then the buffer is empty.
    #[must_use]
    pub(super) fn insert(&mut self, change: Change) -> bool {
        self.0.insert(change.version, change);
        let fits = self.0.len() <= HELD_MAX;
        if !fits {
            self.0.clear();
        }
        fits
    }

    /// Takes the change to `version`, and drops all changes before it.
    pub(super) fn take(&mut self, version: u64) -> Option<Change> {
        while self.0.first_key_value().is_some_and(|(first, _)| *first < version) {
            self.0.pop_first();
        }
        self.0.remove(&version)
    }

    /// Users that left with a held change after `version`.
    pub(super) fn left_after(&self, version: u64) -> AHashSet<&UserId> {
        self.0.range(version + 1..).flat_map(|(_, change)| &change.left).collect()
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

#[cfg(test)]
mod tests {
    use super::super::group_state::tests::change;
    use super::*;

    #[test]
    fn the_buffer_is_emptied_when_it_overflows() {
        let mut held = ReorderBuffer::default();
        for version in 0..HELD_MAX as u64 {
            assert!(held.insert(change(version, &[], &[])));
        }
        assert!(!held.insert(change(1_000, &[], &[])));
        assert_eq!(held.take(1_000), None);
    }

    #[test]
    fn taking_a_change_drops_those_before_it() {
        let mut held = ReorderBuffer::default();
        assert!(held.insert(change(2_000, &[], &[])));
        assert!(held.insert(change(2_001, &[], &[])));
        assert_eq!(held.take(2_001).map(|change| change.version), Some(2_001));
        assert_eq!(held.take(2_000), None);
    }

    #[test]
    fn users_that_left_after_a_version_are_listed() {
        let mut held = ReorderBuffer::default();
        assert!(held.insert(change(7, &[], &["alice"])));
        assert!(held.insert(change(9, &["alice"], &["bob"])));
        let left = |version| {
            let mut ids: Vec<_> = held.left_after(version).into_iter().map(UserId::as_str).collect();
            ids.sort_unstable();
            ids
        };
        assert_eq!(left(6), ["alice", "bob"]);
        assert_eq!(left(7), ["bob"]);
        assert_eq!(left(9), [""; 0]);
    }
}
