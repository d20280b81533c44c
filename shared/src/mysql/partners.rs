//! Who knows whom: by private messages and common groups.

use std::sync::LazyLock;

use ahash::AHashSet;
use sqlx::Row as _;
use sqlx::mysql::MySqlRow;

use super::multi_row::MultiRow;
use super::{Pool, Tx, blocks};
use crate::conversation::Conversation;
use crate::ids::UserId;

// One row is enough to know: a sender may have thousands.
static WROTE: LazyLock<MultiRow> = LazyLock::new(|| {
    MultiRow::new(
        "",
        "(SELECT sender_id FROM timeline_message WHERE conversation_id = ? AND sender_id = ? LIMIT 1)",
        " UNION ALL ",
        "",
    )
});
static GROUPS_SHARED: LazyLock<MultiRow> = LazyLock::new(|| {
    MultiRow::new(
        "SELECT DISTINCT y.user_id FROM group_member x JOIN group_member y ON y.group_id = x.group_id \
         WHERE x.user_id = ? AND y.user_id IN (",
        "?",
        ",",
        ")",
    )
});

/// The conversation with each of `others`, and its id: the writer to look for.
fn chats<'o>(user: &UserId, others: &'o [UserId]) -> Vec<(Conversation, &'o UserId)> {
    others.iter().map(|other| (Conversation::between(user, other), other)).collect()
}

/// Those of `others` who have written to `user` in their private chat.
pub(super) async fn writers_in(
    tx: &mut Tx,
    user: &UserId,
    others: &[UserId],
) -> sqlx::Result<AHashSet<UserId>> {
    let chats = chats(user, others);
    let keys: Vec<[&str; 2]> = chats.iter().map(|(chat, other)| [chat.key(), other.as_str()]).collect();
    found(others, &WROTE.select(tx, None, &keys).await?)
}

/// Those of `users` whose ids are in the first column of `rows`.
fn found(users: &[UserId], rows: &[MySqlRow]) -> sqlx::Result<AHashSet<UserId>> {
    let ids = rows.iter().map(|row| row.try_get(0)).collect::<sqlx::Result<AHashSet<&str>>>()?;
    Ok(users.iter().filter(|user| ids.contains(user.as_str())).cloned().collect())
}

/// Those of `others` whom `user` knows: who share a group with it, or have written to it in their private chat, and have not
/// blocked it. That `user` has written to them is not enough.
///
/// # Errors
/// The database's.
pub async fn among(pool: &Pool, user: &UserId, others: &[UserId]) -> sqlx::Result<Vec<UserId>> {
    let chats = chats(user, others);
    let keys: Vec<[&str; 2]> = chats.iter().map(|(chat, other)| [chat.key(), other.as_str()]).collect();
    let writers = found(others, &WROTE.select_from(pool, None, &keys).await?)?;
    let ids: Vec<[&str; 1]> = others.iter().map(|other| [other.as_str()]).collect();
    let together = found(others, &GROUPS_SHARED.select_from(pool, Some(user.as_str()), &ids).await?)?;
    let blockers = blocks::blocking(pool, user, others).await?;
    let is_partner = |other: &&UserId| {
        (writers.contains(*other) || together.contains(*other)) && !blockers.contains(*other)
    };
    Ok(others.iter().filter(is_partner).cloned().collect())
}
