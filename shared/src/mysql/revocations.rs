//! `token_revocation`: tokens that were revoked before their expiry.

use super::{Pool, Tx};
use crate::ids::UserId;

/// Most rows of one step: a gateway that starts reads the table in steps of bounded size.
pub const STEP_ROWS_MAX: usize = 10_000;

/// The revocation of a user's tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revocation {
    /// The user.
    pub user: String,
    /// Tokens that were issued up to this time are invalid, in milliseconds since 1970.
    pub not_before_ms: i64,
    /// The time of the last change of this row, in milliseconds since 1970, by the clock of the database.
    pub changed_at: i64,
}

/// Revokes the tokens of `user` that were issued up to `not_before_ms` (milliseconds since 1970). The time never moves
/// back.
///
/// # Errors
/// The database's.
pub async fn revoke(pool: &Pool, user: &UserId, not_before_ms: i64) -> sqlx::Result<()> {
    sqlx::query(REVOKE).bind(user.as_str()).bind(not_before_ms).execute(pool).await.map(drop)
}

/// As [`revoke`], in a transaction.
pub(super) async fn revoke_in(tx: &mut Tx, user: &UserId, not_before_ms: i64) -> sqlx::Result<()> {
    sqlx::query(REVOKE).bind(user.as_str()).bind(not_before_ms).execute(&mut *tx).await.map(drop)
}

const REVOKE: &str = "INSERT INTO token_revocation (user_id, not_before_ms, changed_at) \
     VALUES (?, ?, CAST(UNIX_TIMESTAMP(NOW(3)) * 1000 AS SIGNED)) ON DUPLICATE KEY UPDATE \
     not_before_ms = GREATEST(not_before_ms, VALUES(not_before_ms)), changed_at = VALUES(changed_at)";

/// The rows after (`changed_at`, `after_user`), in the order of these two columns, at most [`STEP_ROWS_MAX`]. After a full
/// step, continue with its last row.
///
/// # Errors
/// The database's.
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
