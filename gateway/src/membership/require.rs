//! What a user may do in a conversation, asked of the database where memory does not know.

use std::time::Instant;

use proto::v1::event::Kind as EventKind;
use shared::conversation::{Conversation, Kind};
use shared::ids::{Seq, UserId, unix_millis};
use shared::mysql::groups::{self, GroupError, INVITATIONS_MAX, JoinGroup};
use shared::mysql::{members, views};
use shared::permission::{Action, Denied, GroupSettings, Membership, Permissions, Relation};

use super::event::event;
use super::memberships::{Memberships, OpenGroups};
use crate::wire::api_error::ApiError;
use crate::wire::denied;

impl Memberships {
    /// What `user` may do in `conversation`. The user joins an open group on the way.
    ///
    /// # Errors
    /// 403, 404, or 503 where the database is unavailable. For a user who would join: also 403 if it is in too many groups, and
    /// 429 if it has made too many on this day.
    pub(crate) async fn require(
        &self,
        conversation: &Conversation,
        user: &UserId,
    ) -> Result<Permissions, ApiError> {
        if let Some(known) = self.known(conversation, user) {
            return Ok(known);
        }
        metrics::counter!(shared::metrics::GATEWAY_PERMISSIONS_LOADED).increment(1);
        match conversation.kind() {
            Kind::Private(..) => self.require_participant(conversation, user).await,
            Kind::Group => self.require_member(conversation, user).await,
        }
    }

    /// The same for reading: what `user` has cleared is hidden, too.
    ///
    /// # Errors
    /// As [`require`](Self::require).
    pub(crate) async fn require_to_read(
        &self,
        conversation: &Conversation,
        user: &UserId,
    ) -> Result<Permissions, ApiError> {
        // Looked up before and after: the user may log in or disconnect meanwhile. Permissions that come from the database
        // have it already.
        let cleared = self.view.cleared().of(user, conversation);
        let permissions = self.require(conversation, user).await?;
        Ok(self.without_cleared(permissions, conversation, user).hiding_up_to(cleared))
    }

    /// Checks that `user` is inside `conversation`. It does not join an open group on the way.
    ///
    /// # Errors
    /// 403, 404, or 503 where the database is unavailable.
    pub(crate) async fn require_inside(
        &self,
        conversation: &Conversation,
        user: &UserId,
    ) -> Result<(), ApiError> {
        self.permissions_inside(conversation, user).await.map(drop)
    }

    /// The same, with what `user` may do there. What it has cleared is hidden from it.
    ///
    /// # Errors
    /// As [`require_inside`](Self::require_inside).
    pub(crate) async fn permissions_inside(
        &self,
        conversation: &Conversation,
        user: &UserId,
    ) -> Result<Permissions, ApiError> {
        let cleared = self.view.cleared().of(user, conversation);
        let permissions = match (self.known(conversation, user), conversation.kind()) {
            (Some(known), _) => known,
            (None, Kind::Private(..)) => self.require_participant(conversation, user).await?,
            (None, Kind::Group) => {
                let found = members::permissions(&self.pool, conversation, user).await;
                found.map_err(|e| ApiError::database(&e))?.1
            }
        };
        permissions.check(Action::Read, unix_millis)?;
        Ok(self.without_cleared(permissions, conversation, user).hiding_up_to(cleared))
    }

    async fn require_participant(
        &self,
        conversation: &Conversation,
        user: &UserId,
    ) -> Result<Permissions, ApiError> {
        let peer = conversation.peer_of(user.as_str()).ok_or(Denied::NotParticipant)?;
        let found = views::of_participant(&self.pool, conversation, user, peer).await;
        let (is_blocked, cleared) = found.map_err(|e| ApiError::database(&e))?;
        Ok(Permissions::of_participant(is_blocked).hiding_up_to(cleared))
    }

    async fn require_member(&self, group: &Conversation, user: &UserId) -> Result<Permissions, ApiError> {
        let found = members::permissions(&self.pool, group, user).await;
        let (settings, permissions) = found.map_err(|e| ApiError::database(&e))?;
        match permissions.relation {
            Relation::Member { .. } => {
                // The view has missed an event, or the event is on its way.
                let found = self.view.member_found(group, user, settings.version, Instant::now());
                self.reloader.follow(found);
                Ok(permissions)
            }
            Relation::Outsider { group_is_open: true } => {
                self.open_groups.quotas.join_by_use(user).await?;
                self.join(group, user).await
            }
            Relation::NoGroup if self.open_groups.auto_create => {
                let OpenGroups { ids, policy, .. } = self.open_groups;
                ids.check_group(group).map_err(ApiError::malformed)?;
                self.open_groups.quotas.make_by_use(user).await?;
                groups::create_open(&self.pool, group, policy).await.map_err(|e| refusal(&e))?;
                self.join(group, user).await
            }
            relation => {
                relation.check(Action::Read, unix_millis)?;
                Ok(permissions)
            }
        }
    }

    /// `user` joins an open group.
    async fn join(&self, group: &Conversation, user: &UserId) -> Result<Permissions, ApiError> {
        let policy = self.open_groups.policy;
        let changed = groups::change(&self.pool, group, policy, &JoinGroup { user }).await;
        let changed = changed.map_err(|e| refusal(&e))?;
        let (membership, joined_muted) = (Membership::new(changed.history), changed.joined_muted);
        if let Some(event) = event(group, &changed) {
            // Here at once, so that the user has the group's pushes before its next pull; elsewhere by the event.
            if self.view.cache().version(group).is_none() {
                self.join_first(group, user).await;
            }
            self.changed(&event);
            self.open_groups.announcer.announce(EventKind::MembershipChanged(event));
            drop(self.open_groups.inbox_updates.record(changed, group));
        }
        if joined_muted {
            let found = members::permissions(&self.pool, group, user).await;
            return Ok(found.map_err(|e| ApiError::database(&e))?.1);
        }
        // It may have been a member before.
        let views = views::of_user(&self.pool, user, &[group]).await.map_err(|e| ApiError::database(&e))?;
        let cleared = views.get(group).and_then(|view| view.cleared).unwrap_or(Seq::ZERO);
        Ok(Permissions::of_member(GroupSettings::default(), membership).hiding_up_to(cleared))
    }

    /// `user` has joined a group that has no other member here. If the group cannot be read now, the event leads to a
    /// reload.
    async fn join_first(&self, group: &Conversation, user: &UserId) {
        match members::memberships_in(&self.pool, group, std::slice::from_ref(user)).await {
            Ok((settings, members)) => {
                if let Some((_, membership)) = members.first() {
                    let read = (settings, *membership);
                    self.reloader.follow(self.view.joined(group, user, read, Instant::now()));
                }
            }
            Err(error) => tracing::warn!(%group, %error, "reading a group after a join failed"),
        }
    }
}

/// What the caller of a change is told.
pub(super) fn refusal(error: &GroupError) -> ApiError {
    match error {
        GroupError::Denied(denied) => (*denied).into(),
        GroupError::NoSuchMember => denied::no_such_member(),
        GroupError::Exists => denied::group_exists(),
        GroupError::Refused(users) => denied::blocked_by(users),
        GroupError::NoInvitation => denied::no_invitation(),
        GroupError::TooManyInvitations(user) => denied::too_many_invitations(user, INVITATIONS_MAX),
        GroupError::Full(members_max) => denied::group_full(*members_max),
        GroupError::AvatarGone => {
            ApiError::malformed("avatar is no file that may be shown, or it was removed")
        }
        GroupError::Sql(error) => ApiError::database(error),
    }
}
