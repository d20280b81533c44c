//! Adding, removing and changing the members of a group.

use ahash::AHashSet;

use super::change::{Difference, GroupChange};
use super::consent::{consenting, invite, withdraw};
use super::error::GroupError;
use super::former_mutes;
use super::read::Group;
use super::rows::{existing, insert_members, relation_of, role_of, roles, set_muted_until, set_role};
use crate::conversation::Conversation;
use crate::ids::{Seq, UserId, unix_millis};
use crate::mysql::Tx;
use crate::mysql::system_entries::{SystemChange, SystemEntry};
use crate::permission::{Action, Actor, Relation, Role};

/// Adds users (at most [`ADDED_MAX`](super::ADDED_MAX)), or invites those who want to be asked: for the owner and admins.
/// Members stay as they are. Fails with [`GroupError::Refused`] if some of the users have blocked the caller.
#[derive(Debug, Clone)]
pub struct AddMembers<'c> {
    /// The caller.
    pub by: &'c Actor,
    /// The users to add.
    pub users: &'c [UserId],
}

impl GroupChange for AddMembers<'_> {
    const NAME: &'static str = "add members";

    async fn apply(
        &self,
        tx: &mut Tx,
        group: &Conversation,
        last_seq: Seq,
    ) -> Result<Option<Difference>, GroupError> {
        let found = existing(tx, group).await?;
        relation_of(tx, group, &found, self.by).await?.check(Action::AddMembers, unix_millis)?;
        let others = not_members(tx, group, self.users.to_vec()).await?;
        let (added, invited) = consenting(tx, self.by, others).await?;
        let invited = invite(tx, group, self.by, invited).await?;
        match join_all(tx, group, &found, added, last_seq).await? {
            Some(difference) => {
                let entry = SystemEntry::new(SystemChange::Joined, self.by, difference.joined.clone());
                Ok(Some(Difference { invited, entry: Some(entry), ..difference }))
            }
            None if invited.is_empty() => Ok(None),
            None => Ok(Some(Difference { invited, invites_only: true, ..Difference::default() })),
        }
    }
}

/// Joins an open group.
#[derive(Debug, Clone)]
pub struct JoinGroup<'c> {
    /// The user who joins.
    pub user: &'c UserId,
}

impl GroupChange for JoinGroup<'_> {
    const NAME: &'static str = "join group";

    async fn apply(
        &self,
        tx: &mut Tx,
        group: &Conversation,
        last_seq: Seq,
    ) -> Result<Option<Difference>, GroupError> {
        let found = existing(tx, group).await?;
        Relation::Outsider { group_is_open: found.is_open }.check(Action::Join, unix_millis)?;
        join_all(tx, group, &found, vec![self.user.clone()], last_seq).await
    }
}

/// Those of `users` who are not members, sorted.
async fn not_members(tx: &mut Tx, group: &Conversation, mut users: Vec<UserId>) -> sqlx::Result<Vec<UserId>> {
    users.sort_unstable();
    users.dedup();
    let members: AHashSet<UserId> =
        roles(tx, group, &users).await?.into_iter().map(|(member, _)| member).collect();
    users.retain(|user| !members.contains(user));
    Ok(users)
}

/// Makes those of `users` members who are not. `None` if all are.
pub(super) async fn join_all(
    tx: &mut Tx,
    group: &Conversation,
    found: &Group,
    users: Vec<UserId>,
    last_seq: Seq,
) -> Result<Option<Difference>, GroupError> {
    let joined = not_members(tx, group, users).await?;
    if joined.is_empty() {
        return Ok(None);
    }
    let history = found.newcomer_history.of_newcomer(last_seq);
    insert_members(tx, group, &joined, history).await?;
    let joined_muted = former_mutes::restore(tx, group, &joined).await?;
    withdraw(tx, group, &joined).await?;
    Ok(Some(Difference { joined, history, joined_muted, ..Difference::default() }))
}

/// Removes a member, or lets it leave: any member but the owner leaves, a higher role removes members.
#[derive(Debug, Clone)]
pub struct RemoveMember<'c> {
    /// The caller.
    pub by: &'c Actor,
    /// The member to remove.
    pub user: &'c UserId,
}

impl GroupChange for RemoveMember<'_> {
    const NAME: &'static str = "remove member";

    async fn apply(
        &self,
        tx: &mut Tx,
        group: &Conversation,
        _: Seq,
    ) -> Result<Option<Difference>, GroupError> {
        let found = existing(tx, group).await?;
        let relation = relation_of(tx, group, &found, self.by).await?;
        relation.check(Action::Read, unix_millis)?;
        let target = role_of(tx, group, self.user).await?.ok_or(GroupError::NoSuchMember)?;
        let is_self = matches!(self.by, Actor::User(by) if by == self.user);
        relation.check(Action::RemoveMember { target, is_self }, unix_millis)?;
        former_mutes::keep(tx, group, self.user).await?;
        sqlx::query("DELETE FROM group_member WHERE group_id = ? AND user_id = ?")
            .bind(group.key())
            .bind(self.user.as_str())
            .execute(&mut *tx)
            .await?;
        let change = if is_self { SystemChange::Left } else { SystemChange::Removed };
        let entry = SystemEntry::new(change, self.by, vec![self.user.clone()]);
        Ok(Some(Difference { left: vec![self.user.clone()], entry: Some(entry), ..Difference::default() }))
    }
}

/// The change of a member; what is `None` stays as it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MemberUpdate {
    /// Another role: for the owner. A new owner makes the old one an admin, and is not muted.
    pub role: Option<Role>,
    /// The end of the mute, in milliseconds since 1970; 0 ends it at once.
    pub muted_until: Option<i64>,
}

/// Changes a member's role, or mutes it: for a member with a higher role.
#[derive(Debug, Clone)]
pub struct UpdateMember<'c> {
    /// The caller.
    pub by: &'c Actor,
    /// The member to change.
    pub user: &'c UserId,
    /// The change.
    pub update: MemberUpdate,
}

impl GroupChange for UpdateMember<'_> {
    const NAME: &'static str = "update member";

    fn member(&self) -> Option<&UserId> {
        Some(self.user)
    }

    async fn apply(
        &self,
        tx: &mut Tx,
        group: &Conversation,
        _: Seq,
    ) -> Result<Option<Difference>, GroupError> {
        let found = existing(tx, group).await?;
        let relation = relation_of(tx, group, &found, self.by).await?;
        relation.check(Action::Read, unix_millis)?;
        let target = role_of(tx, group, self.user).await?.ok_or(GroupError::NoSuchMember)?;
        let new_role = self.update.role.filter(|role| *role != target);
        if let Some(role) = new_role {
            relation.check(Action::SetRole { target }, unix_millis)?;
            if role == Role::Owner {
                demote_owner(tx, group).await?;
                // No member has a role that could end the mute of an owner.
                set_muted_until(tx, group, self.user, 0).await?;
            }
            set_role(tx, group, self.user, role).await?;
        }
        let role = self.update.role.unwrap_or(target);
        if let Some(until) =
            self.update.muted_until.filter(|until| *until > 0 || role != Role::Owner || role == target)
        {
            relation.check(Action::MuteMember { target: role }, unix_millis)?;
            set_muted_until(tx, group, self.user, until).await?;
        }
        let entry = new_role
            .map(|role| SystemEntry::new(SystemChange::Role { role }, self.by, vec![self.user.clone()]));
        Ok(Some(Difference { entry, ..Difference::default() }))
    }
}

/// Makes the present owner, if there is one, an admin.
async fn demote_owner(tx: &mut Tx, group: &Conversation) -> sqlx::Result<()> {
    sqlx::query("UPDATE group_member SET role = ? WHERE group_id = ? AND role = ?")
        .bind(Role::Admin.stored())
        .bind(group.key())
        .bind(Role::Owner.stored())
        .execute(&mut *tx)
        .await
        .map(drop)
}
