//! The rules about the size of groups and the history of new members. Pure.

use super::error::GroupError;
use crate::ids::Seq;
use crate::permission::HistoryRange;

/// Members added by one call.
pub const ADDED_MAX: usize = 1_000;
/// Characters of a group's name.
pub const NAME_CHARS_MAX: usize = 128;
/// The time for which the `last_seq` of a group that is no longer large is still merged into syncs. It is longer than any
/// inbox lives, so every cursor that was handed out while the group was large has expired by then.
pub(super) const LARGE_LINGERS_MS: i64 = 8 * 86_400_000;

/// The limits on the number of members.
#[derive(Debug, Clone, Copy)]
pub struct GroupSizes {
    /// A group with more members is large and gets no inbox entries. It is small again below nine tenths of this, so that
    /// one member who joins and leaves does not switch it each time.
    pub large_above: u32,
    /// Most members of a group.
    pub members_max: u32,
}

impl GroupSizes {
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

/// The part of the history that concerns a user who joins at `last_seq`.
pub(super) fn history_of_newcomer(history_from_start: bool, last_seq: Seq) -> HistoryRange {
    HistoryRange { join_seq: last_seq, floor: if history_from_start { Seq::ZERO } else { last_seq } }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_becomes_large_above_the_limit_and_small_below_nine_tenths_of_it() {
        let sizes = GroupSizes { large_above: 10, members_max: 30 };
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
        let sizes = GroupSizes { large_above: 10, members_max: 30 };
        assert!(sizes.check(30).is_ok());
        assert!(matches!(sizes.check(31), Err(GroupError::Full(30))));
    }

    #[test]
    fn newcomers_see_the_whole_history_or_what_comes_after_them() {
        let history = |from_start| history_of_newcomer(from_start, Seq(70));
        assert_eq!(history(true), HistoryRange { join_seq: Seq(70), floor: Seq::ZERO });
        assert_eq!(history(false), HistoryRange { join_seq: Seq(70), floor: Seq(70) });
    }
}
