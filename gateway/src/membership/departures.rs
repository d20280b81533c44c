//! Who left a group with the last few changes that were applied.
//!
//! A login that is a little older than the group's version is still right if no change in between concerned its user.
//! In a group where many users join at once, that is the usual case, and saves reading the group again.

use std::collections::VecDeque;

use shared::ids::UserId;

/// Changes that are remembered per group; beyond, the oldest is forgotten.
const CHANGES_MAX: usize = 64;
/// Users that are remembered per change; a change with more counts as one that concerns everyone.
const LEFT_MAX: usize = 8;

/// The last applied changes, whose versions follow each other.
#[derive(Debug, Default)]
pub(super) struct Departures {
    /// The version of the last one.
    version: u64,
    /// The users that left with each; `None`: any user may have.
    changes: VecDeque<Option<Box<[UserId]>>>,
}

impl Departures {
    /// The state was read at `version`: nothing is known about the changes before.
    pub(super) fn begin(&mut self, version: u64) {
        self.version = version;
        self.changes.clear();
    }

    /// Remembers a change that was applied.
    pub(super) fn push(&mut self, version: u64, left: &[UserId]) {
        if version != self.version + 1 {
            self.changes.clear();
        }
        self.version = version;
        if self.changes.len() == CHANGES_MAX {
            self.changes.pop_front();
        }
        self.changes.push_back((left.len() <= LEFT_MAX).then(|| left.into()));
    }

    /// Whether `user` left with none of the changes after `version`, all of which are remembered.
    pub(super) fn excludes(&self, user: &UserId, version: u64) -> bool {
        let count = self.version.checked_sub(version).and_then(|count| usize::try_from(count).ok());
        let Some(first) = count.and_then(|count| self.changes.len().checked_sub(count)) else { return false };
        let concerns = |left: &Option<Box<[UserId]>>| left.as_ref().is_none_or(|left| left.contains(user));
        !self.changes.range(first..).any(concerns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(n: usize) -> UserId {
        UserId::parse(&format!("user{n}")).unwrap()
    }

    #[test]
    fn a_user_is_excluded_only_if_all_later_changes_are_remembered() {
        let mut departures = Departures::default();
        departures.begin(5);
        assert!(departures.excludes(&user(0), 5));
        departures.push(6, &[user(0)]);
        departures.push(7, &[user(1)]);
        assert!(!departures.excludes(&user(0), 5));
        assert!(departures.excludes(&user(0), 6));
        assert!(!departures.excludes(&user(1), 6));
        assert!(departures.excludes(&user(2), 5));
        assert!(!departures.excludes(&user(2), 4), "the change to 5 is not remembered");
        assert!(!departures.excludes(&user(2), 8), "a later version is not comparable");
        departures.push(8, &(0..=LEFT_MAX).map(|n| user(n + 10)).collect::<Vec<_>>());
        assert!(!departures.excludes(&user(2), 7), "a large change concerns everyone");
    }

    #[test]
    fn the_number_of_changes_is_bounded() {
        let mut departures = Departures::default();
        for version in 1..=2 * CHANGES_MAX as u64 {
            departures.push(version, &[]);
        }
        assert_eq!(departures.changes.len(), CHANGES_MAX);
        assert!(departures.excludes(&user(0), CHANGES_MAX as u64));
        assert!(!departures.excludes(&user(0), CHANGES_MAX as u64 - 1));
        departures.push(1_000, &[]);
        assert!(!departures.excludes(&user(0), 998), "a gap");
    }
}
