//! The rule.

use super::denied::Denied;
use super::membership::{GroupSettings, HistoryRange, MemberStatus, Membership, Role};
use crate::ids::Seq;

/// A user's relation to a conversation: the facts that the rule decides on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Relation {
    /// The operator's own server.
    Operator,
    /// One of the two users of a private conversation.
    Participant {
        /// The other user has blocked this one.
        is_blocked: bool,
    },
    /// Not one of the two users of a private conversation.
    Stranger,
    /// A member of a group.
    Member {
        /// What the member may do.
        status: MemberStatus,
        /// Only the owner and admins may send.
        group_is_muted: bool,
    },
    /// Not a member of an existing group.
    Outsider {
        /// Anyone may join the group by using it.
        group_is_open: bool,
    },
    /// The group does not exist or was dismissed.
    NoGroup,
}

/// An action on a conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Read messages, positions, members.
    Read,
    /// Send a message or a typing notice.
    Send,
    /// Recall a message; `None`: no message has the given number.
    Recall(Option<RecallTarget>),
    /// Edit a message; `None`: no message has the given number.
    Edit(Option<EditTarget>),
    /// React to a message, or take the reaction back; `None`: no message that can be reacted to has the given number.
    React(Option<ChangeTarget>),
    /// Pin or unpin a message; `None` as for a reaction.
    Pin(Option<ChangeTarget>),
    /// Answer a message; `None`: no message that can be answered has the given number.
    Reply(Option<()>),
    /// Mention all members.
    MentionEveryone {
        /// The group has more than [`EVERYONE_MEMBERS_MAX`] members.
        group_is_big: bool,
    },
    /// Join a group by using it.
    Join,
    /// Change a group's name or settings.
    UpdateGroup,
    /// Add members.
    AddMembers,
    /// Dismiss a group.
    DismissGroup,
    /// Remove a member, or leave.
    RemoveMember {
        /// The role of the member to remove.
        target: Role,
        /// The member removes itself.
        is_self: bool,
    },
    /// Give a member another role.
    SetRole {
        /// The member's present role.
        target: Role,
    },
    /// Mute a member, or end its mute.
    MuteMember {
        /// The member's role.
        target: Role,
    },
}

/// The largest group in which every member may mention everyone.
pub const EVERYONE_MEMBERS_MAX: usize = 100;

/// A message to edit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EditTarget {
    /// It is of a kind that can be edited.
    pub is_editable: bool,
    /// The caller sent it.
    pub is_own: bool,
    /// It was recalled.
    pub is_recalled: bool,
    /// The time within which it may be edited, in milliseconds, if that time is over.
    pub expired_after_ms: Option<u64>,
}

/// A message to react to or to pin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChangeTarget {
    /// It was recalled.
    pub is_recalled: bool,
}

/// A message to recall.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecallTarget {
    /// The message is itself a recall.
    pub is_recall: bool,
    /// The caller sent it.
    pub is_own: bool,
    /// The time within which its sender may recall it, in milliseconds, if that time is over.
    pub expired_after_ms: Option<u64>,
}

impl Relation {
    /// The rule. `now` gives milliseconds since 1970; it is called only for a member with a mute, since the check is on
    /// the path of every message.
    ///
    /// # Errors
    /// The reason why `action` is not allowed.
    pub fn check(self, action: Action, now: impl FnOnce() -> i64) -> Result<(), Denied> {
        match action {
            Action::Read => self.require_inside(),
            Action::Send => self.check_send(now),
            Action::Recall(target) => self.check_recall(target),
            Action::Edit(target) => self.check_edit(target),
            Action::React(target) => self.check_target(target),
            Action::Pin(target) => {
                let may_pin = matches!(self, Self::Participant { .. }) || self.has_role(Role::Admin);
                self.require_inside()?;
                allow(may_pin, Denied::PinNeedsAdmin)?;
                self.check_target(target)
            }
            Action::Reply(target) => {
                self.require_inside()?;
                target.ok_or(Denied::NothingToReply)
            }
            Action::MentionEveryone { group_is_big } => {
                self.require_inside()?;
                allow(!group_is_big || self.has_role(Role::Admin), Denied::EveryoneNeedsAdmin)
            }
            Action::Join => self.check_join(),
            Action::UpdateGroup => self.require_role(Role::Admin, Denied::UpdateNeedsAdmin),
            Action::AddMembers => self.require_role(Role::Admin, Denied::AddNeedsAdmin),
            Action::DismissGroup => self.require_role(Role::Owner, Denied::DismissNeedsOwner),
            Action::RemoveMember { target, is_self: true } => {
                self.require_inside()?;
                allow(target != Role::Owner, Denied::OwnerCannotLeave)
            }
            Action::RemoveMember { target, is_self: false } => {
                self.require_higher_role(target, Denied::RemoveNeedsHigherRole)
            }
            Action::SetRole { target } => {
                self.require_role(Role::Owner, Denied::RolesNeedOwner)?;
                allow(target != Role::Owner, Denied::OwnerKeepsRole)
            }
            Action::MuteMember { target } => self.require_higher_role(target, Denied::MuteNeedsHigherRole),
        }
    }

    fn check_send(self, now: impl FnOnce() -> i64) -> Result<(), Denied> {
        match self {
            Self::Participant { is_blocked } => allow(!is_blocked, Denied::Blocked),
            Self::Member { status: MemberStatus { role, muted_until }, group_is_muted } => {
                allow(muted_until <= 0 || muted_until <= now(), Denied::Muted { until: muted_until })?;
                allow(!group_is_muted || role >= Role::Admin, Denied::GroupMuted)
            }
            other => other.require_inside(),
        }
    }

    fn check_recall(self, target: Option<RecallTarget>) -> Result<(), Denied> {
        self.require_inside()?;
        let target = target.ok_or(Denied::NothingToRecall)?;
        allow(!target.is_recall, Denied::RecallOfRecall)?;
        if self.has_role(Role::Admin) {
            return Ok(());
        }
        allow(target.is_own, Denied::NotSender)?;
        target.expired_after_ms.map_or(Ok(()), |limit_ms| Err(Denied::RecallExpired { limit_ms }))
    }

    fn check_edit(self, target: Option<EditTarget>) -> Result<(), Denied> {
        self.require_inside()?;
        let target = target.ok_or(Denied::NoTarget)?;
        allow(target.is_own, Denied::EditNeedsSender)?;
        allow(target.is_editable, Denied::NotEditable)?;
        allow(!target.is_recalled, Denied::TargetRecalled)?;
        target.expired_after_ms.map_or(Ok(()), |limit_ms| Err(Denied::EditExpired { limit_ms }))
    }

    fn check_target(self, target: Option<ChangeTarget>) -> Result<(), Denied> {
        self.require_inside()?;
        let target = target.ok_or(Denied::NoTarget)?;
        allow(!target.is_recalled, Denied::TargetRecalled)
    }

    fn check_join(self) -> Result<(), Denied> {
        match self {
            Self::Outsider { group_is_open: false } => Err(Denied::GroupNotOpen),
            Self::Outsider { group_is_open: true } => Ok(()),
            other => other.require_inside(),
        }
    }

    fn require_inside(self) -> Result<(), Denied> {
        match self {
            Self::Operator | Self::Participant { .. } | Self::Member { .. } => Ok(()),
            Self::Stranger => Err(Denied::NotParticipant),
            Self::Outsider { .. } => Err(Denied::NotMember),
            Self::NoGroup => Err(Denied::NoGroup),
        }
    }

    fn require_role(self, least: Role, denied: Denied) -> Result<(), Denied> {
        self.require_inside()?;
        allow(self.has_role(least), denied)
    }

    fn require_higher_role(self, target: Role, denied: Denied) -> Result<(), Denied> {
        self.require_inside()?;
        let is_higher = match self {
            Self::Operator => true,
            Self::Member { status, .. } => status.role > target,
            _ => false,
        };
        allow(is_higher, denied)
    }

    fn has_role(self, least: Role) -> bool {
        match self {
            Self::Operator => true,
            Self::Member { status, .. } => status.role >= least,
            _ => false,
        }
    }

    /// The role of a member; `None` for everyone else.
    #[must_use]
    pub fn role(self) -> Option<Role> {
        match self {
            Self::Member { status, .. } => Some(status.role),
            _ => None,
        }
    }
}

fn allow(is_allowed: bool, denied: Denied) -> Result<(), Denied> {
    if is_allowed { Ok(()) } else { Err(denied) }
}

/// What a user may do in a conversation, and what it sees there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Permissions {
    /// What the user may do.
    pub relation: Relation,
    /// What the user sees; everything in a private conversation.
    pub history: HistoryRange,
}

impl Permissions {
    /// The permissions of a participant of a private conversation.
    #[must_use]
    pub fn of_participant(is_blocked: bool) -> Self {
        Self::without_history(Relation::Participant { is_blocked })
    }

    /// The permissions of a member of a group.
    #[must_use]
    pub fn of_member(settings: GroupSettings, membership: Membership) -> Self {
        let relation = Relation::Member { status: membership.status, group_is_muted: settings.is_muted };
        Self { relation, history: membership.history }
    }

    /// The permissions of a user whose history is not limited, or who sees none.
    #[must_use]
    pub fn without_history(relation: Relation) -> Self {
        Self { relation, history: HistoryRange::default() }
    }

    /// Messages at or below this number are not shown.
    #[must_use]
    pub fn floor(&self) -> Seq {
        self.history.floor
    }

    /// The same where messages up to `seq` are not shown.
    #[must_use]
    pub fn hiding_up_to(mut self, seq: Seq) -> Self {
        self.history.floor = self.history.floor.max(seq);
        self
    }

    /// The rule, see [`Relation::check`].
    ///
    /// # Errors
    /// The reason why `action` is not allowed.
    pub fn check(&self, action: Action, now: impl FnOnce() -> i64) -> Result<(), Denied> {
        self.relation.check(action, now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 100;

    fn member(role: Role, muted_until: i64, group_is_muted: bool) -> Relation {
        Relation::Member { status: MemberStatus { role, muted_until }, group_is_muted }
    }

    fn plain(role: Role) -> Relation {
        member(role, 0, false)
    }

    const OUTSIDER: Relation = Relation::Outsider { group_is_open: false };
    const OUTSIDER_OF_OPEN: Relation = Relation::Outsider { group_is_open: true };
    const PARTICIPANT: Relation = Relation::Participant { is_blocked: false };

    #[test]
    fn reading_is_for_those_inside() {
        for inside in [Relation::Operator, PARTICIPANT, Relation::Participant { is_blocked: true }] {
            assert_eq!(inside.check(Action::Read, || NOW), Ok(()), "{inside:?}");
        }
        assert_eq!(member(Role::Member, i64::MAX, true).check(Action::Read, || NOW), Ok(()));
        for (outside, denied) in [
            (Relation::Stranger, Denied::NotParticipant),
            (OUTSIDER, Denied::NotMember),
            (OUTSIDER_OF_OPEN, Denied::NotMember),
            (Relation::NoGroup, Denied::NoGroup),
        ] {
            for action in [Action::Read, Action::Send, Action::Recall(None), Action::AddMembers] {
                assert_eq!(outside.check(action, || NOW), Err(denied), "{outside:?} {action:?}");
            }
        }
    }

    #[test]
    fn sending_table() {
        let muted = |until| Err(Denied::Muted { until });
        for (role, muted_until, group_is_muted, expected) in [
            (Role::Member, 0, false, Ok(())),
            (Role::Member, 0, true, Err(Denied::GroupMuted)),
            (Role::Member, 100, false, Ok(())),
            (Role::Member, 101, false, muted(101)),
            (Role::Member, 101, true, muted(101)),
            (Role::Member, 99, true, Err(Denied::GroupMuted)),
            (Role::Admin, 0, true, Ok(())),
            (Role::Admin, 101, true, muted(101)),
            (Role::Owner, 0, true, Ok(())),
            (Role::Owner, 101, false, muted(101)),
        ] {
            let relation = member(role, muted_until, group_is_muted);
            assert_eq!(relation.check(Action::Send, || NOW), expected, "{relation:?}");
        }
        assert_eq!(PARTICIPANT.check(Action::Send, || NOW), Ok(()));
        let blocked = Relation::Participant { is_blocked: true };
        assert_eq!(blocked.check(Action::Send, || NOW), Err(Denied::Blocked));
    }

    #[test]
    fn the_clock_is_read_only_for_a_member_with_a_mute() {
        for relation in [plain(Role::Member), member(Role::Member, 0, true), PARTICIPANT] {
            let _ = relation.check(Action::Send, || panic!("{relation:?}"));
        }
    }

    #[test]
    fn edit_table() {
        let own = EditTarget { is_editable: true, is_own: true, is_recalled: false, expired_after_ms: None };
        for relation in [plain(Role::Member), plain(Role::Owner), PARTICIPANT] {
            let check = |target| relation.check(Action::Edit(target), || NOW);
            assert_eq!(check(Some(own)), Ok(()), "{relation:?}");
            assert_eq!(check(None), Err(Denied::NoTarget));
            assert_eq!(check(Some(EditTarget { is_own: false, ..own })), Err(Denied::EditNeedsSender));
            assert_eq!(check(Some(EditTarget { is_editable: false, ..own })), Err(Denied::NotEditable));
            assert_eq!(check(Some(EditTarget { is_recalled: true, ..own })), Err(Denied::TargetRecalled));
            let expired = EditTarget { expired_after_ms: Some(9), ..own };
            assert_eq!(check(Some(expired)), Err(Denied::EditExpired { limit_ms: 9 }), "{relation:?}");
        }
        assert_eq!(OUTSIDER.check(Action::Edit(Some(own)), || NOW), Err(Denied::NotMember));
    }

    #[test]
    fn reactions_are_for_members_and_pins_for_admins_and_both_sides_of_a_private_chat() {
        let (there, recalled) = (ChangeTarget { is_recalled: false }, ChangeTarget { is_recalled: true });
        for (relation, may_pin) in [
            (plain(Role::Member), Err(Denied::PinNeedsAdmin)),
            (plain(Role::Admin), Ok(())),
            (plain(Role::Owner), Ok(())),
            (PARTICIPANT, Ok(())),
            (Relation::Operator, Ok(())),
            (OUTSIDER, Err(Denied::NotMember)),
            (Relation::NoGroup, Err(Denied::NoGroup)),
        ] {
            assert_eq!(relation.check(Action::Pin(Some(there)), || NOW), may_pin, "{relation:?}");
            let inside = relation.check(Action::Read, || NOW);
            assert_eq!(relation.check(Action::React(Some(there)), || NOW), inside, "{relation:?}");
            let none = inside.and(Err(Denied::NoTarget));
            assert_eq!(relation.check(Action::React(None), || NOW), none, "{relation:?}");
            let gone = inside.and(Err(Denied::TargetRecalled));
            assert_eq!(relation.check(Action::React(Some(recalled)), || NOW), gone, "{relation:?}");
            assert_eq!(
                relation.check(Action::Pin(Some(recalled)), || NOW),
                may_pin.and(gone),
                "{relation:?}"
            );
            let reply = inside.and(Err(Denied::NothingToReply));
            assert_eq!(relation.check(Action::Reply(None), || NOW), reply, "{relation:?}");
            assert_eq!(relation.check(Action::Reply(Some(())), || NOW), inside, "{relation:?}");
        }
    }

    #[test]
    fn everyone_is_mentioned_by_every_member_of_a_small_group_and_by_admins_of_a_big_one() {
        for (role, group_is_big, expected) in [
            (Role::Member, false, Ok(())),
            (Role::Member, true, Err(Denied::EveryoneNeedsAdmin)),
            (Role::Admin, true, Ok(())),
            (Role::Owner, true, Ok(())),
        ] {
            assert_eq!(plain(role).check(Action::MentionEveryone { group_is_big }, || NOW), expected);
        }
        assert_eq!(PARTICIPANT.check(Action::MentionEveryone { group_is_big: false }, || NOW), Ok(()));
    }

    #[test]
    fn recall_table() {
        let own = RecallTarget { is_recall: false, is_own: true, expired_after_ms: None };
        let others = RecallTarget { is_own: false, ..own };
        let expired = RecallTarget { expired_after_ms: Some(9), ..own };
        let recall = RecallTarget { is_recall: true, ..own };
        for (relation, expected) in [
            (
                plain(Role::Member),
                [Ok(()), Err(Denied::NotSender), Err(Denied::RecallExpired { limit_ms: 9 })],
            ),
            (PARTICIPANT, [Ok(()), Err(Denied::NotSender), Err(Denied::RecallExpired { limit_ms: 9 })]),
            (plain(Role::Admin), [Ok(()); 3]),
            (plain(Role::Owner), [Ok(()); 3]),
            (Relation::Operator, [Ok(()); 3]),
        ] {
            let check = |target| relation.check(Action::Recall(target), || NOW);
            assert_eq!([own, others, expired].map(|target| check(Some(target))), expected, "{relation:?}");
            assert_eq!(check(Some(recall)), Err(Denied::RecallOfRecall));
            assert_eq!(check(None), Err(Denied::NothingToRecall));
        }
    }

    #[test]
    fn joining_is_for_open_groups() {
        assert_eq!(OUTSIDER_OF_OPEN.check(Action::Join, || NOW), Ok(()));
        assert_eq!(OUTSIDER.check(Action::Join, || NOW), Err(Denied::GroupNotOpen));
        assert_eq!(Relation::NoGroup.check(Action::Join, || NOW), Err(Denied::NoGroup));
        assert_eq!(plain(Role::Member).check(Action::Join, || NOW), Ok(()), "is inside already");
    }

    /// For each role of the caller (member, admin, owner, operator): may it?
    #[test]
    fn group_administration_table() {
        let remove = |target| Action::RemoveMember { target, is_self: false };
        let leave = |target| Action::RemoveMember { target, is_self: true };
        let mute = |target| Action::MuteMember { target };
        let role = |target| Action::SetRole { target };
        for (action, allowed, denied) in [
            (Action::UpdateGroup, [0, 1, 1, 1], Denied::UpdateNeedsAdmin),
            (Action::AddMembers, [0, 1, 1, 1], Denied::AddNeedsAdmin),
            (Action::DismissGroup, [0, 0, 1, 1], Denied::DismissNeedsOwner),
            (remove(Role::Member), [0, 1, 1, 1], Denied::RemoveNeedsHigherRole),
            (remove(Role::Admin), [0, 0, 1, 1], Denied::RemoveNeedsHigherRole),
            (remove(Role::Owner), [0, 0, 0, 1], Denied::RemoveNeedsHigherRole),
            (leave(Role::Member), [1, 1, 1, 1], Denied::OwnerCannotLeave),
            (leave(Role::Owner), [0, 0, 0, 0], Denied::OwnerCannotLeave),
            (mute(Role::Member), [0, 1, 1, 1], Denied::MuteNeedsHigherRole),
            (mute(Role::Admin), [0, 0, 1, 1], Denied::MuteNeedsHigherRole),
            (mute(Role::Owner), [0, 0, 0, 1], Denied::MuteNeedsHigherRole),
            (role(Role::Member), [0, 0, 1, 1], Denied::RolesNeedOwner),
            (role(Role::Admin), [0, 0, 1, 1], Denied::RolesNeedOwner),
        ] {
            let callers = [plain(Role::Member), plain(Role::Admin), plain(Role::Owner), Relation::Operator];
            for (caller, allowed) in callers.into_iter().zip(allowed) {
                let expected = if allowed == 1 { Ok(()) } else { Err(denied) };
                assert_eq!(caller.check(action, || NOW), expected, "{caller:?} {action:?}");
            }
        }
        for caller in [plain(Role::Owner), Relation::Operator] {
            assert_eq!(caller.check(role(Role::Owner), || NOW), Err(Denied::OwnerKeepsRole));
        }
    }
}
