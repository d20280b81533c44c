//! The rules about the size of groups and the history of new members. Pure.

use super::error::GroupError;
use crate::feed::FeedShards;
use crate::ids::Seq;
use crate::permission::HistoryRange;

/// Members added by one call.
pub const ADDED_MAX: usize = 1_000;
/// Characters of a group's name.
pub const NAME_CHARS_MAX: usize = 128;
/// Bytes of a group's notice.
pub const NOTICE_BYTES_MAX: usize = 1_024;
/// The time for which the `last_seq` of a group that is no longer large is still merged into syncs. It is longer than any
/// inbox lives, so every cursor that was handed out while the group was large has expired by then.
pub(super) const LARGE_LINGERS_MS: i64 = 8 * 86_400_000;

/// What the operator has set for groups.
#[derive(Debug, Clone, Copy)]
pub struct GroupPolicy {
    /// A group with more members is large and gets no inbox entries. It is small again below nine tenths of this, so that
    /// one member who joins and leaves does not switch it each time.
    pub large_above: u32,
    /// Most members of a group.
    pub members_max: u32,
    /// Members see changes of the group as entries of its timeline.
    pub has_system_entries: bool,
    /// Changes are added to the change feed, if it is on.
    pub feed: Option<FeedShards>,
}

impl GroupPolicy {
    /// Whether a group that now has `members` members is large.
    pub(super) fn is_large(self, was_large: bool, members: u32) -> bool {
        if was_large {
            u64::from(members) * 10 >= u64::from(self.large_above) * 9
        } else {
            members > self.large_above
        }
    }

    /// Checks the size of a group after a change.
    ///
    /// # Errors
    /// [`GroupError::Full`]
    pub(super) fn check(self, members: u32) -> Result<(), GroupError> {
        if members > self.members_max { Err(GroupError::Full(self.members_max)) } else { Ok(()) }
    }
}

/// What users who join a group see of the messages before them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NewcomerHistory {
    /// Those above this number: what the one who set it so may see.
    From(Seq),
    /// None.
    Joining,
}

impl NewcomerHistory {
    /// The setting of a group after a caller who sees what is above `floor` has set it to "from the start" or not. It never
    /// shows more than the caller sees, unless it did so before.
    pub(super) fn set(self, from_start: bool, floor: Seq) -> Self {
        match self {
            _ if !from_start => Self::Joining,
            Self::From(before) => Self::From(before.min(floor)),
            Self::Joining => Self::From(floor),
        }
    }

    /// The part of the history that concerns a user who joins at `last_seq`.
    pub(super) fn of_newcomer(self, last_seq: Seq) -> HistoryRange {
        let floor = match self {
            Self::From(floor) => floor.min(last_seq),
            Self::Joining => last_seq,
        };
        HistoryRange { join_seq: last_seq, floor }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_becomes_large_above_the_limit_and_small_below_nine_tenths_of_it() {
        let sizes = GroupPolicy { large_above: 10, members_max: 30, has_system_entries: false, feed: None };
        for (was_large, members, expected) in [
            (false, 0, false),
            (false, 10, false),
            (false, 11, true),
            (true, 11, true),
            (true, 10, true),
            (true, 9, true),
            (true, 8, false),
            (true, 0, false),
            (false, u32::MAX, true),
            (true, u32::MAX, true),
        ] {
            assert_eq!(sizes.is_large(was_large, members), expected, "{was_large} {members}");
        }
    }

    #[test]
    fn a_group_has_a_largest_size() {
        let sizes = GroupPolicy { large_above: 10, members_max: 30, has_system_entries: false, feed: None };
        assert!(sizes.check(30).is_ok());
        assert!(matches!(sizes.check(31), Err(GroupError::Full(30))));
    }

    #[test]
    fn newcomers_see_the_history_from_the_start_or_what_comes_after_them() {
        let floor = |history: NewcomerHistory| {
            let HistoryRange { join_seq, floor } = history.of_newcomer(Seq(70));
            assert_eq!(join_seq, Seq(70));
            floor.0
        };
        assert_eq!(floor(NewcomerHistory::From(Seq::ZERO)), 0);
        assert_eq!(floor(NewcomerHistory::From(Seq(40))), 40);
        assert_eq!(floor(NewcomerHistory::Joining), 70);
    }

    #[test]
    fn nobody_shows_newcomers_more_than_it_sees() {
        use NewcomerHistory::{From, Joining};
        for (before, from_start, floor, after) in [
            (Joining, true, 0, From(Seq(0))),
            (Joining, true, 40, From(Seq(40))),
            (Joining, false, 0, Joining),
            (From(Seq(40)), true, 0, From(Seq(0))),
            (From(Seq(0)), true, 40, From(Seq(0))),
            (From(Seq(0)), false, 40, Joining),
        ] {
            assert_eq!(before.set(from_start, Seq(floor)), after, "{before:?} {from_start} {floor}");
        }
    }
}
