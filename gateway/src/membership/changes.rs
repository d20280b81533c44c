//! Changing groups and blocks: commit, apply here, tell the other gateways and wait for them, note it in inboxes.

use std::sync::Arc;
use std::time::Duration;

use proto::v1;
use proto::v1::event::Kind;
use shared::conversation::Conversation;
use shared::ids::UserId;
use shared::mysql::groups::{
    self, AddMembers, CreateGroup, DismissGroup, GroupChange, GroupSizes, MemberUpdate, RemoveMember,
    UpdateGroup, UpdateMember,
};
use shared::mysql::{Pool, blocks};
use shared::permission::Actor;

use super::event::event;
use super::fence::Fences;
use super::memberships::Memberships;
use super::refusals::refusal;
use crate::wire::api_error::ApiError;

/// How long a call waits for its note in inboxes; the note is tried on after that.
const NOTING_PATIENCE: Duration = Duration::from_secs(1);

/// The way to change groups. When one of its calls returns, the change holds on every live gateway.
#[derive(Debug)]
pub struct GroupChanges {
    pool: Pool,
    memberships: Arc<Memberships>,
    fences: Arc<Fences>,
    sizes: GroupSizes,
}

impl GroupChanges {
    /// Changes go to `pool` and are told through `fences`.
    #[must_use]
    pub fn new(pool: Pool, memberships: Arc<Memberships>, fences: Arc<Fences>, sizes: GroupSizes) -> Self {
        Self { pool, memberships, fences, sizes }
    }

    /// Makes a group.
    ///
    /// # Errors
    /// 409 if the name is taken or there are too many members, 503.
    pub async fn create(&self, group: &Conversation, new: CreateGroup) -> Result<(), ApiError> {
        self.change(group, &new, Told::Members).await
    }

    /// Changes what it is like.
    ///
    /// # Errors
    /// 403, 404, 503.
    pub async fn update(&self, group: &Conversation, update: UpdateGroup<'_>) -> Result<(), ApiError> {
        self.change(group, &update, Told::Settings).await
    }

    /// Ends it.
    ///
    /// # Errors
    /// 403, 404, 503.
    pub async fn dismiss(&self, group: &Conversation, by: &Actor) -> Result<(), ApiError> {
        self.change(group, &DismissGroup { by }, Told::Dismissed).await
    }

    /// Adds users.
    ///
    /// # Errors
    /// 403, 404, 409 if there are too many, 503.
    pub async fn add(&self, group: &Conversation, by: &Actor, users: &[UserId]) -> Result<(), ApiError> {
        self.change(group, &AddMembers { by, users }, Told::Members).await
    }

    /// Removes a user, or lets it leave.
    ///
    /// # Errors
    /// 403, 404, 503.
    pub async fn remove(&self, group: &Conversation, by: &Actor, user: &UserId) -> Result<(), ApiError> {
        self.change(group, &RemoveMember { by, user }, Told::Members).await
    }

    /// Changes a member's role, or mutes it.
    ///
    /// # Errors
    /// 403, 404, 503.
    pub async fn update_member(
        &self,
        group: &Conversation,
        by: &Actor,
        user: &UserId,
        update: MemberUpdate,
    ) -> Result<(), ApiError> {
        self.change(group, &UpdateMember { by, user, update }, Told::Settings).await
    }

    /// `user` takes no private messages from `other` any more, or again.
    ///
    /// # Errors
    /// 503
    pub async fn block(&self, user: &UserId, other: &UserId, blocked: bool) -> Result<(), ApiError> {
        let changed =
            blocks::set(&self.pool, user, other, blocked).await.map_err(|e| ApiError::database(&e))?;
        if changed.is_some() {
            let change = v1::BlockChanged {
                user_id: user.as_str().to_owned(),
                other_id: other.as_str().to_owned(),
                blocked,
            };
            self.memberships.block_changed(&change);
            self.fences.announce(Kind::BlockChanged(change)).await;
        }
        Ok(())
    }

    async fn change<C: GroupChange>(
        &self,
        group: &Conversation,
        change: &C,
        told: Told,
    ) -> Result<(), ApiError> {
        let changed = groups::change(&self.pool, group, self.sizes, change).await;
        let changed = changed.map_err(|error| refusal(&error))?;
        let Some(mut event) = event(group, &changed) else { return Ok(()) };
        event.settings = told == Told::Settings;
        event.dismissed = told == Told::Dismissed;
        self.memberships.changed(&event);
        let noted = self.memberships.note(changed, group);
        let noted = tokio::time::timeout(NOTING_PATIENCE, noted);
        let _ = tokio::join!(self.fences.announce(Kind::MembershipChanged(event)), noted);
        Ok(())
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Told {
    Members,
    Settings,
    Dismissed,
}
