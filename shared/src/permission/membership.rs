//! Roles, memberships and group settings: the facts that the rule is about.

use crate::ids::{Seq, UserId};

/// A member's role in its group. A higher role includes the rights of the lower ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Reads and sends.
    Member,
    /// Changes the group, adds, removes and mutes members, recalls any message.
    Admin,
    /// Assigns roles and dismisses the group. A group has one owner or none.
    Owner,
}

impl Role {
    /// The value of `group_member.role`.
    #[must_use]
    pub fn stored(self) -> u8 {
        match self {
            Self::Member => 0,
            Self::Admin => 1,
            Self::Owner => 2,
        }
    }

    /// Reads `group_member.role`; a value of a later version counts as [`Role::Member`].
    #[must_use]
    pub fn from_stored(stored: u8) -> Self {
        match stored {
            1 => Self::Admin,
            2 => Self::Owner,
            _ => Self::Member,
        }
    }
}

/// Who may add a user to groups without asking.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GroupAdds {
    /// Everyone whom the user has not blocked.
    #[default]
    Everyone,
    /// Those to whom the user has written in a private chat.
    Contacts,
    /// Nobody: the user is invited, and accepts or not.
    Nobody,
}

impl GroupAdds {
    /// The value of `user_setting.group_adds`.
    #[must_use]
    pub fn stored(self) -> u8 {
        match self {
            Self::Everyone => 0,
            Self::Contacts => 1,
            Self::Nobody => 2,
        }
    }

    /// Reads `user_setting.group_adds`; a value of a later version counts as [`GroupAdds::Nobody`].
    #[must_use]
    pub fn from_stored(stored: u8) -> Self {
        match stored {
            0 => Self::Everyone,
            1 => Self::Contacts,
            _ => Self::Nobody,
        }
    }
}

/// The caller of an action.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Actor {
    /// The operator's own server: everything is allowed.
    Operator,
    /// A user, with the rights of its role.
    User(UserId),
}

/// The part of a membership that decides what the member may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemberStatus {
    /// Its role.
    pub role: Role,
    /// The end of its mute, in milliseconds since 1970; 0 if it is not muted.
    pub muted_until: i64,
}

impl MemberStatus {
    /// The status of a new member.
    pub const NEW: Self = Self { role: Role::Member, muted_until: 0 };
}

/// The part of a group's history that concerns one member.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct HistoryRange {
    /// The group's `last_seq` when the member joined: earlier messages never count as unread.
    pub join_seq: Seq,
    /// Messages at or below this number are not shown.
    pub floor: Seq,
}

impl HistoryRange {
    /// Messages at or below this number are never unread.
    #[must_use]
    pub fn counted_from(self) -> Seq {
        self.join_seq.max(self.floor)
    }
}

/// One user's membership in one group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Membership {
    /// What the member may do.
    pub status: MemberStatus,
    /// What the member sees.
    pub history: HistoryRange,
}

impl Membership {
    /// The membership of a user who has just joined.
    #[must_use]
    pub fn new(history: HistoryRange) -> Self {
        Self { status: MemberStatus::NEW, history }
    }
}

/// The settings of a group that concern all members.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct GroupSettings {
    /// The access version at which they were read.
    pub version: u64,
    /// Only the owner and admins may send.
    pub is_muted: bool,
    /// The group is, or was recently, too large for inboxes: its `last_seq` is merged into syncs.
    pub merges_head: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_are_stored_as_numbers_and_a_later_one_counts_as_member() {
        for role in [Role::Member, Role::Admin, Role::Owner] {
            assert_eq!(Role::from_stored(role.stored()), role);
        }
        assert_eq!(Role::from_stored(9), Role::Member);
    }

    #[test]
    fn settings_are_stored_as_numbers_and_a_later_one_is_the_strictest() {
        for adds in [GroupAdds::Everyone, GroupAdds::Contacts, GroupAdds::Nobody] {
            assert_eq!(GroupAdds::from_stored(adds.stored()), adds);
        }
        assert_eq!(GroupAdds::from_stored(9), GroupAdds::Nobody);
    }
}
