//! `token_revocation`: whose tokens are good no more.

use super::Pool;
use crate::ids::UserId;

/// Rows of one step: what a gateway that starts holds at once, beside what it keeps.
pub const STEP_ROWS_MAX: usize = 10_000;

/// One row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revocation {
    /// Whose tokens.
    pub user: String,
    /// Issued up to here.
    pub not_before_ms: i64,
    /// When this was written, by the clock of the database.
    pub changed_at: i64,
}

/// Stores that tokens of `user` issued up to `not_before_ms` are good no more. It never moves back.
///
/// # Errors
/// As the database says.
pub async fn revoke(pool: &Pool, user: &UserId, not_before_ms: i64) -> sqlx::Result<()> {
    sqlx::query(
        "INSERT INTO token_revocation (user_id, not_before_ms, changed_at) \
         VALUES (?, ?, CAST(UNIX_TIMESTAMP(NOW(3)) * 1000 AS SIGNED)) ON DUPLICATE KEY UPDATE \
         not_before_ms = GREATEST(not_before_ms, VALUES(not_before_ms)), changed_at = VALUES(changed_at)",
    )
    .bind(user.as_str())
    .bind(not_before_ms)
    .execute(pool)
    .await
    .map(drop)
}

/// What changed at or after this place, in order of (`changed_at`, `user_id`), [`STEP_ROWS_MAX`] rows at most. A full step
/// goes on after its last row.
///
/// # Errors
/// As the database says.
pub async fn changed_since(pool: &Pool, changed_at: i64, after_user: &str) -> sqlx::Result<Vec<Revocation>> {
    let rows: Vec<(String, i64, i64)> = sqlx::query_as(
        "SELECT user_id, not_before_ms, changed_at FROM token_revocation \
         WHERE changed_at > ? OR (changed_at = ? AND user_id > ?) ORDER BY changed_at, user_id LIMIT 10000",
    )
    .bind(changed_at)
    .bind(changed_at)
    .bind(after_user)
    .fetch_all(pool)
    .await?;
    let row = |(user, not_before_ms, changed_at)| Revocation { user, not_before_ms, changed_at };
    Ok(rows.into_iter().map(row).collect())
}
