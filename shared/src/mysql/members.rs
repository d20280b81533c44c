//! `chat_group` and `group_member`: which groups there are and who is in them.

use super::Pool;
use crate::conversation::Conversation;
use crate::ids::UserId;

/// What a user is to a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Membership {
    /// In it.
    Member,
    /// Not in it, but anyone may join by using it.
    Open,
    /// Not in it.
    Stranger,
    /// There is no such group.
    NoGroup,
}

/// What `user` is to `group`.
///
/// # Errors
/// As the database says.
pub async fn membership(pool: &Pool, group: &Conversation, user: &UserId) -> sqlx::Result<Membership> {
    let row: Option<(bool, bool)> = sqlx::query_as(
        "SELECT g.is_open, m.user_id IS NOT NULL FROM chat_group g \
         LEFT JOIN group_member m ON m.group_id = g.group_id AND m.user_id = ? WHERE g.group_id = ?",
    )
    .bind(user.as_str())
    .bind(group.key())
    .fetch_optional(pool)
    .await?;
    Ok(match row {
        Some((_, true)) => Membership::Member,
        Some((true, false)) => Membership::Open,
        Some((false, false)) => Membership::Stranger,
        None => Membership::NoGroup,
    })
}

/// Makes an open group if there is none of that name.
///
/// # Errors
/// As the database says.
pub async fn create_open_group(pool: &Pool, group: &Conversation) -> sqlx::Result<()> {
    sqlx::query(
        "INSERT INTO chat_group (group_id, is_open, created_at) VALUES (?, TRUE, ?) \
         ON DUPLICATE KEY UPDATE group_id = chat_group.group_id",
    )
    .bind(group.key())
    .bind(crate::ids::unix_millis())
    .execute(pool)
    .await
    .map(drop)
}

/// Adds `user`; nothing changes if the user is a member already.
///
/// # Errors
/// As the database says.
pub async fn join(pool: &Pool, group: &Conversation, user: &UserId) -> sqlx::Result<()> {
    sqlx::query(
        "INSERT INTO group_member (group_id, user_id, join_time) VALUES (?, ?, ?) \
         ON DUPLICATE KEY UPDATE group_id = group_member.group_id",
    )
    .bind(group.key())
    .bind(user.as_str())
    .bind(crate::ids::unix_millis())
    .execute(pool)
    .await
    .map(drop)
}

/// All groups that `user` is in.
///
/// # Errors
/// As the database says; a stored id that is none is left out and logged.
pub async fn groups_of(pool: &Pool, user: &UserId) -> sqlx::Result<Vec<Conversation>> {
    let keys: Vec<String> = sqlx::query_scalar("SELECT group_id FROM group_member WHERE user_id = ?")
        .bind(user.as_str())
        .fetch_all(pool)
        .await?;
    let parse = |key: &String| {
        Conversation::from_key(key)
            .inspect_err(|error| tracing::error!(%key, %error, "ill-formed id in group_member"))
            .ok()
    };
    Ok(keys.iter().filter_map(parse).collect())
}
