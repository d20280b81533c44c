//! Who may do what: one vocabulary and one rule for gateways and workers.
//!
//! Pure. The facts come from the database; a gateway caches them, a worker reads them under the lock of the commit. The
//! rule is [`Relation::check`]. A [`Denied`] becomes a sentence for clients in the gateway only.

use ahash::AHashMap;
use proto::v1;

use crate::conversation::{Conversation, Kind};
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

/// The reason why an action is not allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Denied {
    /// The group does not exist or was dismissed.
    NoGroup,
    /// The caller is not a member of the group.
    NotMember,
    /// The caller is not one of the two users of the private conversation.
    NotParticipant,
    /// The other user of the private conversation has blocked the caller.
    Blocked,
    /// The caller is muted.
    Muted {
        /// The end of the mute, in milliseconds since 1970.
        until: i64,
    },
    /// The group is muted: only the owner and admins may send.
    GroupMuted,
    /// The group is not open to everyone.
    GroupNotOpen,
    /// No text or image is stored under the number to recall.
    NothingToRecall,
    /// The message to recall is a recall.
    RecallOfRecall,
    /// The message to recall was sent by another user.
    NotSender,
    /// The time within which a sender may recall its message is over.
    RecallExpired {
        /// That time, in milliseconds.
        limit_ms: u64,
    },
    /// Only the owner and admins change a group.
    UpdateNeedsAdmin,
    /// Only the owner and admins add members.
    AddNeedsAdmin,
    /// Only the owner dismisses a group.
    DismissNeedsOwner,
    /// Only the owner assigns roles.
    RolesNeedOwner,
    /// The owner's role changes only by naming another owner.
    OwnerKeepsRole,
    /// The owner leaves only after naming another owner.
    OwnerCannotLeave,
    /// Only a member with a higher role removes this member.
    RemoveNeedsHigherRole,
    /// Only a member with a higher role mutes this member.
    MuteNeedsHigherRole,
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

    /// The rule, see [`Relation::check`].
    ///
    /// # Errors
    /// The reason why `action` is not allowed.
    pub fn check(&self, action: Action, now: impl FnOnce() -> i64) -> Result<(), Denied> {
        self.relation.check(action, now)
    }
}

/// The users of one conversation, as a commit reads them under the lock of the conversation's row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Roster {
    /// The two users of a private conversation.
    Private {
        /// Those of the two whom the other one has blocked.
        blocked: Vec<UserId>,
    },
    /// The members of a group.
    Group(GroupRoster),
    /// The group does not exist or was dismissed.
    NoGroup,
}

/// The members of one group.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct GroupRoster {
    /// Only the owner and admins may send.
    pub is_muted: bool,
    /// The group gets no inbox entries.
    pub is_large: bool,
    /// All members; of a large group only the users that were asked about, with `None` for each that is not a member.
    pub members: AHashMap<UserId, Option<MemberStatus>>,
}

impl Roster {
    /// The relation of `user` to `conversation`, whose roster this is.
    #[must_use]
    pub fn relation(&self, conversation: &Conversation, user: &UserId) -> Relation {
        match self {
            Self::NoGroup => Relation::NoGroup,
            Self::Private { blocked } => match conversation.kind() {
                Kind::Private(lo, hi) if user.as_str() == lo || user.as_str() == hi => {
                    Relation::Participant { is_blocked: blocked.contains(user) }
                }
                Kind::Private(..) | Kind::Group => Relation::Stranger,
            },
            Self::Group(group) => match group.members.get(user).copied().flatten() {
                Some(status) => Relation::Member { status, group_is_muted: group.is_muted },
                None => Relation::Outsider { group_is_open: false },
            },
        }
    }
}

impl Denied {
    /// The code of the client protocol.
    #[must_use]
    pub fn code(self) -> u16 {
        match self {
            Self::RecallOfRecall => 400,
            Self::NoGroup | Self::NothingToRecall => 404,
            _ => 403,
        }
    }

    /// The text that stands for this reason in [`v1::Refused`]. A gateway of an earlier version shows it to the client.
    fn event_text(self) -> &'static str {
        match self {
            Self::NoGroup => "there is no such group",
            Self::NotMember => "you are not a member of this conversation",
            Self::NotParticipant => "you are not one of the two users of this private conversation",
            Self::Blocked => "this user takes no messages from you",
            Self::Muted { .. } => MUTED,
            Self::GroupMuted => "this group is muted: only its owner and admins may send",
            Self::GroupNotOpen => "this group is not open",
            Self::NothingToRecall => "there is no message of that number to recall",
            Self::RecallOfRecall => "a recall cannot be recalled",
            Self::NotSender => "only its sender and the group's owner and admins may recall a message",
            Self::RecallExpired { .. } => "this message is too old to be recalled",
            Self::UpdateNeedsAdmin => "only the owner and admins change a group",
            Self::AddNeedsAdmin => "only the owner and admins add members",
            Self::DismissNeedsOwner => "only the owner dismisses a group",
            Self::RolesNeedOwner => "only the owner assigns roles",
            Self::OwnerKeepsRole => "the owner's role cannot be changed",
            Self::OwnerCannotLeave => "the owner cannot leave",
            Self::RemoveNeedsHigherRole => "only a higher role removes this member",
            Self::MuteNeedsHigherRole => "only a higher role mutes this member",
        }
    }

    /// Writes the reason into an event.
    pub fn write_to(self, event: &mut v1::Refused) {
        event.code = u32::from(self.code());
        event.message = match self {
            Self::Muted { until } if until > 0 => format!("{MUTED}{UNTIL}{until}"),
            _ => self.event_text().to_owned(),
        };
    }

    /// Reads the reason from an event. A text that is not known, of a later version, is read by its code: as
    /// [`Denied::NoGroup`] or [`Denied::NotMember`].
    #[must_use]
    pub fn read_from(event: &v1::Refused) -> Self {
        if let Some(rest) = event.message.strip_prefix(MUTED) {
            let until = rest.strip_prefix(UNTIL).and_then(|until| until.parse().ok());
            return Self::Muted { until: until.unwrap_or(0) };
        }
        let known = Self::ALL.iter().find(|denied| denied.event_text() == event.message);
        known.copied().unwrap_or(if event.code == 404 { Self::NoGroup } else { Self::NotMember })
    }

    /// All reasons.
    pub const ALL: [Self; 19] = [
        Self::NoGroup,
        Self::NotMember,
        Self::NotParticipant,
        Self::Blocked,
        Self::Muted { until: 0 },
        Self::GroupMuted,
        Self::GroupNotOpen,
        Self::NothingToRecall,
        Self::RecallOfRecall,
        Self::NotSender,
        Self::RecallExpired { limit_ms: 0 },
        Self::UpdateNeedsAdmin,
        Self::AddNeedsAdmin,
        Self::DismissNeedsOwner,
        Self::RolesNeedOwner,
        Self::OwnerKeepsRole,
        Self::OwnerCannotLeave,
        Self::RemoveNeedsHigherRole,
        Self::MuteNeedsHigherRole,
    ];
}

const MUTED: &str = "you are muted in this group";
/// Between [`MUTED`] and the end of the mute, in milliseconds since 1970.
const UNTIL: &str = " until ";

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

    #[test]
    fn a_roster_gives_the_relation_of_each_user() {
        let [alice, bob, carol] = ["alice", "bob", "carol"].map(|id| UserId::parse(id).unwrap());
        let chat = Conversation::between(&alice, &bob);
        let private = Roster::Private { blocked: vec![bob.clone()] };
        assert_eq!(private.relation(&chat, &alice), PARTICIPANT);
        assert_eq!(private.relation(&chat, &bob), Relation::Participant { is_blocked: true });
        assert_eq!(private.relation(&chat, &carol), Relation::Stranger);
        let group = Conversation::from_key("group_1").unwrap();
        let members = AHashMap::from_iter([(alice.clone(), Some(MemberStatus::NEW)), (bob.clone(), None)]);
        let roster = Roster::Group(GroupRoster { is_muted: true, is_large: true, members });
        assert_eq!(roster.relation(&group, &alice), member(Role::Member, 0, true));
        assert_eq!([&bob, &carol].map(|user| roster.relation(&group, user)), [OUTSIDER; 2]);
        assert_eq!(Roster::NoGroup.relation(&group, &alice), Relation::NoGroup);
    }

    #[test]
    fn a_denial_is_the_same_after_an_event() {
        let muted = [Denied::Muted { until: 1_700_000_000_000 }, Denied::Muted { until: i64::MAX }];
        for denied in Denied::ALL.into_iter().chain(muted) {
            let mut event = v1::Refused::default();
            denied.write_to(&mut event);
            assert_eq!(Denied::read_from(&event), denied);
            assert_eq!(event.code, u32::from(denied.code()));
        }
        for (code, expected) in [(404, Denied::NoGroup), (403, Denied::NotMember)] {
            let event = v1::Refused { code, message: "a later reason".into(), ..v1::Refused::default() };
            assert_eq!(Denied::read_from(&event), expected);
        }
    }

    #[test]
    fn roles_are_stored_as_numbers_and_a_later_one_counts_as_member() {
        for role in [Role::Member, Role::Admin, Role::Owner] {
            assert_eq!(Role::from_stored(role.stored()), role);
        }
        assert_eq!(Role::from_stored(9), Role::Member);
    }
}
