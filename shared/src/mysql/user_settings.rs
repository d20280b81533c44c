//! `user_setting`: what users have set for themselves.

use std::sync::LazyLock;

use ahash::AHashMap;
use sqlx::Row as _;

use super::multi_row::MultiRow;
use super::{Pool, Tx};
use crate::ids::UserId;
use crate::permission::GroupAdds;

/// Who may add `user` to groups.
///
/// # Errors
/// The database's.
pub async fn group_adds(pool: &Pool, user: &UserId) -> sqlx::Result<GroupAdds> {
    let stored: Option<u8> = sqlx::query_scalar("SELECT group_adds FROM user_setting WHERE user_id = ?")
        .bind(user.as_str())
        .fetch_optional(pool)
        .await?;
    Ok(GroupAdds::from_stored(stored.unwrap_or(0)))
}

/// Sets who may add `user` to groups.
///
/// # Errors
/// The database's.
pub async fn set_group_adds(pool: &Pool, user: &UserId, adds: GroupAdds) -> sqlx::Result<()> {
    sqlx::query(
        "INSERT INTO user_setting (user_id, group_adds) VALUES (?, ?) \
         ON DUPLICATE KEY UPDATE group_adds = VALUES(group_adds)",
    )
    .bind(user.as_str())
    .bind(adds.stored())
    .execute(pool)
    .await
    .map(drop)
}

static GROUP_ADDS: LazyLock<MultiRow> = LazyLock::new(|| {
    MultiRow::new("SELECT user_id, group_adds FROM user_setting WHERE user_id IN (", "?", ",", ")")
});

/// The settings of those of `users` who have set something.
pub(super) async fn group_adds_of(
    tx: &mut Tx,
    users: &[UserId],
) -> sqlx::Result<AHashMap<String, GroupAdds>> {
    let ids: Vec<[&str; 1]> = users.iter().map(|user| [user.as_str()]).collect();
    let mut settings = AHashMap::new();
    for row in GROUP_ADDS.select(tx, None, &ids).await? {
        settings.insert(row.try_get(0)?, GroupAdds::from_stored(row.try_get(1)?));
    }
    Ok(settings)
}
