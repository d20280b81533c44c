//! Changing groups and blocks: commit, apply here, announce, record in inboxes, and wait for the other gateways.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use proto::v1;
use proto::v1::event::Kind;
use shared::conversation::Conversation;
use shared::ids::UserId;
use shared::mysql::groups::{
    self, AcceptInvitation, AddMembers, CreateGroup, DismissGroup, GroupChange, GroupPolicy, MemberUpdate,
    RemoveMember, UpdateGroup, UpdateMember,
};
use shared::mysql::system_entries::EntryId;
use shared::mysql::{Pool, blocks};
use shared::permission::Actor;

use super::barrier::Barriers;
use super::event::event;
use super::inbox_updates::InboxUpdates;
use super::memberships::Memberships;
use super::require::refusal;
use crate::wire::api_error::ApiError;

/// How long a call waits until its change is recorded in inboxes. The recording goes on after that.
const INBOX_TIMEOUT: Duration = Duration::from_secs(1);

/// Sends the entries of timelines about changes of groups.
pub(crate) trait SendEntries: std::fmt::Debug + Send + Sync {
    /// Sends the entries of `group` up to `last`. The future ends when they are stored, or after a time limit.
    fn send(&self, group: &Conversation, last: EntryId) -> BoxFuture<'static, ()>;
}

/// Changes groups and blocks. When one of its calls returns, the change holds on every live gateway, or the barrier has
/// timed out.
#[derive(Debug)]
pub(crate) struct GroupChanges {
    pool: Pool,
    memberships: Arc<Memberships>,
    telling: Telling,
    policy: GroupPolicy,
}

/// Who has to know of a committed change.
#[derive(Debug)]
pub(crate) struct Telling {
    /// The other gateways.
    pub(crate) barriers: Arc<Barriers>,
    /// The inboxes of those who join and leave.
    pub(crate) inbox_updates: InboxUpdates,
    /// The timeline.
    pub(crate) entries: Box<dyn SendEntries>,
}

/// What a change is about, as far as its event tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ChangeKind {
    Members,
    Settings,
    Dismissal,
}

impl GroupChanges {
    /// Changes are committed through `pool`.
    #[must_use]
    pub(crate) fn new(
        pool: Pool,
        memberships: Arc<Memberships>,
        telling: Telling,
        policy: GroupPolicy,
    ) -> Self {
        Self { pool, memberships, telling, policy }
    }

    /// Creates a group. Returns the users who are invited, because they want to be asked.
    ///
    /// # Errors
    /// 403 if one of the members has blocked the owner, 409 if the name is taken or there are too many members, 503.
    pub(crate) async fn create(
        &self,
        group: &Conversation,
        new: CreateGroup,
    ) -> Result<Vec<UserId>, ApiError> {
        let by = new.owner.clone();
        let invited = self.change(group, &new, ChangeKind::Members).await?;
        self.tell_invited(group, by.as_ref(), &invited).await;
        Ok(invited)
    }

    /// Changes a group's settings.
    ///
    /// # Errors
    /// 403, 404, 503.
    pub(crate) async fn update(&self, group: &Conversation, update: UpdateGroup<'_>) -> Result<(), ApiError> {
        self.change(group, &update, ChangeKind::Settings).await.map(drop)
    }

    /// Dismisses a group.
    ///
    /// # Errors
    /// 403, 404, 503.
    pub(crate) async fn dismiss(&self, group: &Conversation, by: &Actor) -> Result<(), ApiError> {
        self.change(group, &DismissGroup { by }, ChangeKind::Dismissal).await.map(drop)
    }

    /// Adds members. Returns the users who are invited, because they want to be asked.
    ///
    /// # Errors
    /// 403, 404, 409 if there are too many, 503.
    pub(crate) async fn add(
        &self,
        group: &Conversation,
        by: &Actor,
        users: &[UserId],
    ) -> Result<Vec<UserId>, ApiError> {
        let invited = self.change(group, &AddMembers { by, users }, ChangeKind::Members).await?;
        let by = match by {
            Actor::User(user) => Some(user),
            Actor::Operator => None,
        };
        self.tell_invited(group, by, &invited).await;
        Ok(invited)
    }

    /// `user` accepts an invitation.
    ///
    /// # Errors
    /// 404, 409 if there are too many members, 503.
    pub(crate) async fn accept(&self, group: &Conversation, user: &UserId) -> Result<(), ApiError> {
        self.change(group, &AcceptInvitation { user }, ChangeKind::Members).await.map(drop)
    }

    async fn tell_invited(&self, group: &Conversation, by: Option<&UserId>, invited: &[UserId]) {
        let Some(by) = by.filter(|_| !invited.is_empty()) else { return };
        let event = v1::Invited {
            conversation: group.key().to_owned(),
            user_ids: invited.iter().map(|user| user.as_str().to_owned()).collect(),
            by: by.as_str().to_owned(),
        };
        self.telling.barriers.announce(Kind::Invited(event)).await;
    }

    /// Removes a member, or lets it leave.
    ///
    /// # Errors
    /// 403, 404, 503.
    pub(crate) async fn remove(
        &self,
        group: &Conversation,
        by: &Actor,
        user: &UserId,
    ) -> Result<(), ApiError> {
        self.change(group, &RemoveMember { by, user }, ChangeKind::Members).await.map(drop)
    }

    /// Changes a member's role, mutes it, or ends its mute.
    ///
    /// # Errors
    /// 403, 404, 503.
    pub(crate) async fn update_member(
        &self,
        group: &Conversation,
        by: &Actor,
        user: &UserId,
        update: MemberUpdate,
    ) -> Result<(), ApiError> {
        self.change(group, &UpdateMember { by, user, update }, ChangeKind::Settings).await.map(drop)
    }

    /// Blocks `other` for `user`, or ends the block.
    ///
    /// # Errors
    /// 503
    pub(crate) async fn block(&self, user: &UserId, other: &UserId, blocked: bool) -> Result<(), ApiError> {
        let changed =
            blocks::set(&self.pool, user, other, blocked).await.map_err(|e| ApiError::database(&e))?;
        if changed.is_some() {
            let change = v1::BlockChanged {
                user_id: user.as_str().to_owned(),
                other_id: other.as_str().to_owned(),
                blocked,
            };
            self.memberships.block_changed(&change);
            self.telling.barriers.announce(Kind::BlockChanged(change)).await;
        }
        Ok(())
    }

    /// Returns the users who are invited.
    async fn change<C: GroupChange>(
        &self,
        group: &Conversation,
        change: &C,
        kind: ChangeKind,
    ) -> Result<Vec<UserId>, ApiError> {
        let changed = groups::change(&self.pool, group, self.policy, change).await;
        let mut changed = changed.map_err(|error| refusal(&error))?;
        let invited = std::mem::take(&mut changed.invited);
        let entry = changed.entry;
        let Some(mut event) = event(group, &changed) else { return Ok(invited) };
        event.settings |= kind == ChangeKind::Settings;
        event.dismissed = kind == ChangeKind::Dismissal;
        self.memberships.changed(&event);
        let recorded = tokio::time::timeout(INBOX_TIMEOUT, self.telling.inbox_updates.record(changed, group));
        let _ = tokio::join!(self.telling.barriers.announce(Kind::MembershipChanged(event)), recorded);
        // Afterwards: new members get it as a push, and a group that was just made has it from the start.
        if let Some(entry) = entry {
            self.telling.entries.send(group, entry).await;
        }
        Ok(invited)
    }
}
