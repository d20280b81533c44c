//! `group_invitation`: what users do about invitations.

use sqlx::Row as _;

use super::change::{Difference, GroupChange};
use super::consent::invited_by;
use super::error::GroupError;
use super::members::join_all;
use super::rows::{existing, role_of};
use crate::conversation::Conversation;
use crate::ids::{Seq, UserId};
use crate::mysql::system_entries::{SystemChange, SystemEntry};
use crate::mysql::{Pool, Tx};
use crate::permission::{Actor, Role};

/// Joins a group by an invitation. It counts while the one who invited may still add members.
#[derive(Debug, Clone)]
pub struct AcceptInvitation<'c> {
    /// The user who was invited.
    pub user: &'c UserId,
}

impl GroupChange for AcceptInvitation<'_> {
    const NAME: &'static str = "accept invitation";

    async fn apply(
        &self,
        tx: &mut Tx,
        group: &Conversation,
        last_seq: Seq,
    ) -> Result<Option<Difference>, GroupError> {
        let found = existing(tx, group).await?;
        let by = invited_by(tx, group, self.user).await?.ok_or(GroupError::NoInvitation)?;
        let by = UserId::parse(&by).map_err(|_| GroupError::NoInvitation)?;
        if role_of(tx, group, &by).await?.is_none_or(|role| role < Role::Admin) {
            return Err(GroupError::NoInvitation);
        }
        let joined = join_all(tx, group, &found, vec![self.user.clone()], last_seq).await?;
        Ok(joined.map(|difference| {
            let by = Actor::User(self.user.clone());
            let entry = SystemEntry::new(SystemChange::Joined, &by, difference.joined.clone());
            Difference { entry: Some(entry), ..difference }
        }))
    }
}

/// Declines an invitation. Returns whether there was one.
///
/// # Errors
/// The database's.
pub async fn decline(pool: &Pool, group: &Conversation, user: &UserId) -> sqlx::Result<bool> {
    let declined = sqlx::query("DELETE FROM group_invitation WHERE user_id = ? AND group_id = ?")
        .bind(user.as_str())
        .bind(group.key())
        .execute(pool)
        .await?;
    Ok(declined.rows_affected() > 0)
}

/// An open invitation.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Invitation {
    /// The group.
    pub conversation_id: String,
    /// Its name; may be empty.
    pub name: String,
    /// The user who invited.
    pub invited_by: String,
    /// The time of the invitation, in milliseconds since 1970.
    pub created_at: i64,
}

/// The open invitations of `user` into groups after `cursor`, in the order of their ids, at most `limit`.
///
/// # Errors
/// The database's.
pub async fn invitations_of(
    pool: &Pool,
    user: &UserId,
    cursor: &str,
    limit: u32,
) -> sqlx::Result<Vec<Invitation>> {
    let rows = sqlx::query(
        "SELECT i.group_id, g.name, i.invited_by, i.created_at FROM group_invitation i \
         JOIN chat_group g ON g.group_id = i.group_id AND NOT g.is_dismissed \
         WHERE i.user_id = ? AND i.group_id > ? ORDER BY i.group_id LIMIT ?",
    )
    .bind(user.as_str())
    .bind(cursor)
    .bind(limit)
    .fetch_all(pool)
    .await?;
    rows.iter()
        .map(|row| {
            Ok(Invitation {
                conversation_id: row.try_get(0)?,
                name: row.try_get(1)?,
                invited_by: row.try_get(2)?,
                created_at: row.try_get(3)?,
            })
        })
        .collect()
}
