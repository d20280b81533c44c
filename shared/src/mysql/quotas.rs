//! `user_quota`: how many groups each user made and how many members it added today; and how many groups users are in.

use std::sync::LazyLock;

use ahash::AHashSet;
use sqlx::Row as _;

use super::Pool;
use super::multi_row::MultiRow;
use crate::ids::UserId;

/// What a user did on one day, or is about to do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DayCounts {
    /// Groups that it made.
    pub groups_made: u32,
    /// Members that it added to groups, whether they were members before or not.
    pub members_added: u32,
}

/// Counts what `user` does on `day` (days since 1970), and returns the counts of the day with it. Earlier days are
/// forgotten.
///
/// # Errors
/// The database's.
pub async fn count(pool: &Pool, user: &UserId, day: u32, done: DayCounts) -> sqlx::Result<DayCounts> {
    sqlx::query(
        "INSERT INTO user_quota (user_id, day, groups_made, members_added) VALUES (?, ?, ?, ?) \
         ON DUPLICATE KEY UPDATE groups_made = IF(day = VALUES(day), groups_made, 0) + VALUES(groups_made), \
         members_added = IF(day = VALUES(day), members_added, 0) + VALUES(members_added), day = VALUES(day)",
    )
    .bind(user.as_str())
    .bind(day)
    .bind(done.groups_made)
    .bind(done.members_added)
    .execute(pool)
    .await?;
    let row = sqlx::query("SELECT groups_made, members_added FROM user_quota WHERE user_id = ?")
        .bind(user.as_str())
        .fetch_one(pool)
        .await?;
    Ok(DayCounts { groups_made: row.try_get(0)?, members_added: row.try_get(1)? })
}

/// Takes back what [`count`] counted on `day`, because it was refused.
///
/// # Errors
/// The database's.
pub async fn uncount(pool: &Pool, user: &UserId, day: u32, refused: DayCounts) -> sqlx::Result<()> {
    sqlx::query(
        "UPDATE user_quota SET groups_made = groups_made - LEAST(groups_made, ?), \
         members_added = members_added - LEAST(members_added, ?) WHERE user_id = ? AND day = ?",
    )
    .bind(refused.groups_made)
    .bind(refused.members_added)
    .bind(user.as_str())
    .bind(day)
    .execute(pool)
    .await
    .map(drop)
}

static GROUPS_OF_EACH: LazyLock<MultiRow> = LazyLock::new(|| {
    MultiRow::new(
        "SELECT user_id, COUNT(*) FROM group_member WHERE user_id IN (",
        "?",
        ",",
        ") GROUP BY user_id",
    )
});

/// Those of `users` who are in `groups_max` groups or more.
///
/// # Errors
/// The database's.
pub async fn in_too_many_groups(pool: &Pool, users: &[UserId], groups_max: u32) -> sqlx::Result<Vec<String>> {
    let ids: Vec<[&str; 1]> = users.iter().map(|user| [user.as_str()]).collect();
    let mut found = Vec::new();
    for row in GROUPS_OF_EACH.select_from(pool, None, &ids).await? {
        let (user, groups): (String, i64) = (row.try_get(0)?, row.try_get(1)?);
        if groups >= i64::from(groups_max) {
            found.push(user);
        }
    }
    Ok(found)
}

static ACCOUNTS: LazyLock<MultiRow> =
    LazyLock::new(|| MultiRow::new("SELECT user_id FROM user_account WHERE user_id IN (", "?", ",", ")"));

/// The first of `users` that has no account.
///
/// # Errors
/// The database's.
pub async fn without_account<'u>(pool: &Pool, users: &'u [UserId]) -> sqlx::Result<Option<&'u UserId>> {
    let ids: Vec<[&str; 1]> = users.iter().map(|user| [user.as_str()]).collect();
    let mut known = AHashSet::with_capacity(users.len());
    for row in ACCOUNTS.select_from(pool, None, &ids).await? {
        known.insert(row.try_get::<String, _>(0)?);
    }
    Ok(users.iter().find(|user| !known.contains(user.as_str())))
}
