//! Users whom the caller may not simply add to a group: those who have blocked it, and those who want to be asked.

use std::sync::LazyLock;

use super::error::GroupError;
use crate::conversation::Conversation;
use crate::ids::{UserId, unix_millis};
use crate::mysql::multi_row::MultiRow;
use crate::mysql::{Tx, blocks, partners, user_settings};
use crate::permission::{Actor, GroupAdds};

/// Open invitations of one user; a further one fails with [`GroupError::TooManyInvitations`].
pub const INVITATIONS_MAX: i64 = 500;

/// Divides `users`, who are not members, into those whom `by` may add and those whom it may only invite.
///
/// # Errors
/// [`GroupError::Refused`] if some of them have blocked the caller.
pub(super) async fn consenting(
    tx: &mut Tx,
    by: &Actor,
    users: Vec<UserId>,
) -> Result<(Vec<UserId>, Vec<UserId>), GroupError> {
    let Actor::User(me) = by else { return Ok((users, Vec::new())) };
    let others: Vec<UserId> = users.iter().filter(|user| *user != me).cloned().collect();
    let blockers = blocks::blocking_in(tx, me, &others).await?;
    if !blockers.is_empty() {
        return Err(GroupError::Refused(blockers));
    }
    let settings = user_settings::group_adds_of(tx, &others).await?;
    let asked: Vec<UserId> =
        others.into_iter().filter(|user| settings.get(user.as_str()) == Some(&GroupAdds::Contacts)).collect();
    let contacts = partners::writers_in(tx, me, &asked).await?;
    let may_add = |user: &UserId| match settings.get(user.as_str()) {
        None | Some(GroupAdds::Everyone) => true,
        Some(GroupAdds::Contacts) => contacts.contains(user),
        Some(GroupAdds::Nobody) => user == me,
    };
    Ok(users.into_iter().partition(may_add))
}

/// Invites `users`. An open invitation stays as it is, and its user is not told again. Returns those who have to be told.
pub(super) async fn invite(
    tx: &mut Tx,
    group: &Conversation,
    by: &Actor,
    users: Vec<UserId>,
) -> Result<Vec<UserId>, GroupError> {
    let Actor::User(by) = by else { return Ok(Vec::new()) };
    let mut told = Vec::with_capacity(users.len());
    for user in users {
        if invited_by(tx, group, &user).await?.is_some() {
            continue;
        }
        let open: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM group_invitation WHERE user_id = ?")
            .bind(user.as_str())
            .fetch_one(&mut *tx)
            .await?;
        if open >= INVITATIONS_MAX {
            return Err(GroupError::TooManyInvitations(user));
        }
        sqlx::query(
            "INSERT INTO group_invitation (user_id, group_id, invited_by, created_at) VALUES (?, ?, ?, ?)",
        )
        .bind(user.as_str())
        .bind(group.key())
        .bind(by.as_str())
        .bind(unix_millis())
        .execute(&mut *tx)
        .await?;
        told.push(user);
    }
    Ok(told)
}

static WITHDRAW: LazyLock<MultiRow> = LazyLock::new(|| {
    MultiRow::new("DELETE FROM group_invitation WHERE group_id = ? AND user_id IN (", "?", ",", ")")
});

/// Removes the invitations of `joined`, who are members now.
pub(super) async fn withdraw(tx: &mut Tx, group: &Conversation, joined: &[UserId]) -> sqlx::Result<()> {
    let ids: Vec<[&str; 1]> = joined.iter().map(|user| [user.as_str()]).collect();
    WITHDRAW.select(tx, Some(group.key()), &ids).await.map(drop)
}

/// Who has invited `user`.
pub(super) async fn invited_by(
    tx: &mut Tx,
    group: &Conversation,
    user: &UserId,
) -> sqlx::Result<Option<String>> {
    sqlx::query_scalar("SELECT invited_by FROM group_invitation WHERE user_id = ? AND group_id = ?")
        .bind(user.as_str())
        .bind(group.key())
        .fetch_optional(&mut *tx)
        .await
}
