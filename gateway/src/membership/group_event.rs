//! What happens to the state of a group, and what follows from it.

use std::time::Instant;

use shared::ids::UserId;
use shared::permission::{GroupSettings, Membership};

use super::recent_changes::Since;

/// A change of a group, as an event announces it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Change {
    /// The access version since this change.
    pub(super) version: u64,
    /// New members, who all have the membership `newcomer`.
    pub(super) joined: Vec<UserId>,
    /// Users who are no longer members.
    pub(super) left: Vec<UserId>,
    pub(super) newcomer: Membership,
    /// The group has no entries in inboxes; syncs merge it in.
    pub(super) merges_head: bool,
    /// Settings, roles or mutes changed; the event does not say how.
    pub(super) settings_changed: bool,
    /// The group was dismissed.
    pub(super) dismissed: bool,
}

/// The answer of the database about one group.
#[derive(Debug, Clone)]
pub(super) struct Reading {
    /// The users about whom it was asked.
    pub(super) asked: Vec<UserId>,
    pub(super) settings: GroupSettings,
    /// Those of them who are members.
    pub(super) members: Vec<(UserId, Membership)>,
}

/// The answer of the database about one user, who has a connection here.
#[derive(Debug, Clone)]
pub(super) struct MemberReading {
    pub(super) user: UserId,
    pub(super) settings: GroupSettings,
    pub(super) membership: Membership,
    /// Changes of the group that were heard of since the reading began.
    pub(super) since: Since,
    /// The user has just joined and is told so.
    pub(super) joined: bool,
}

/// What happens to a group.
#[derive(Debug, Clone)]
pub(super) enum Event {
    /// A gateway announced a change.
    Changed(Change),
    /// The list of changes in the database contains this version; these connected users joined lately.
    Logged { version: u64, joined: Vec<UserId> },
    /// A login or a join has read that a user is a member.
    MemberRead(MemberReading),
    /// A request found in the database that a user is a member as of this version.
    MemberFound { user: UserId, version: u64 },
    /// The last connection of a user here has ended.
    Disconnected(UserId),
    /// Anything may have changed unnoticed.
    Invalidated,
    /// A reading that [`next_step`](super::group_state::GroupState::next_step) asked for has arrived.
    Read(Reading),
    /// A reading about these users failed.
    ReadFailed { asked: Vec<UserId> },
}

/// What has to be done after an event, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Effect {
    /// The user's connections here get the group's pushes; it is told about a join that was not its own login.
    Subscribe { user: UserId, announced: bool },
    /// The pushes end, and the user is told.
    Unsubscribe { user: UserId, dismissed: bool },
    /// All members here are told that the group was updated.
    TellUpdated,
    /// A reload has to be started, which follows [`next_step`](super::group_state::GroupState::next_step) until [`Step::Done`].
    StartReload,
    /// No predecessor is missing any longer: a waiting reload should look again.
    Current,
}

/// What a reload has to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    /// End.
    Done,
    /// Wait until then, or until [`Effect::Current`].
    Wait(Instant),
    /// Read the group and its membership of these users from the database, then report [`Event::Read`] or
    /// [`Event::ReadFailed`].
    Read(Vec<UserId>),
}

/// The surroundings of an event.
pub(super) struct Context<'c> {
    pub(super) now: Instant,
    /// Whether a user has a connection here.
    pub(super) is_connected: &'c dyn Fn(&str) -> bool,
}
