//! Users.

use crate::ids::UserId;
use crate::mysql::Pool;

/// The time up to which the tokens of `user` are revoked, in milliseconds since 1970.
///
/// # Errors
/// The database's.
pub async fn revoked_before_ms(pool: &Pool, user: &UserId) -> sqlx::Result<Option<i64>> {
    sqlx::query_scalar("SELECT not_before_ms FROM token_revocation WHERE user_id = ?")
        .bind(user.as_str())
        .fetch_optional(pool)
        .await
}

/// When the account of `user` was made, in milliseconds since 1970; `None` if it has none.
///
/// # Errors
/// The database's.
pub async fn account_created_at_ms(pool: &Pool, user: &UserId) -> sqlx::Result<Option<i64>> {
    sqlx::query_scalar("SELECT created_at FROM user_account WHERE user_id = ?")
        .bind(user.as_str())
        .fetch_optional(pool)
        .await
}

/// The users whom `user` has blocked, by id, at most `limit`.
///
/// # Errors
/// The database's.
pub async fn blocked_by(pool: &Pool, user: &UserId, limit: u32) -> sqlx::Result<Vec<String>> {
    sqlx::query_scalar("SELECT blocked_id FROM user_block WHERE user_id = ? ORDER BY blocked_id LIMIT ?")
        .bind(user.as_str())
        .bind(limit)
        .fetch_all(pool)
        .await
}

/// The number of conversations of `user`: private chats, and groups.
///
/// # Errors
/// The database's.
pub async fn conversation_counts(pool: &Pool, user: &UserId) -> sqlx::Result<(i64, i64)> {
    sqlx::query_as(
        "SELECT (SELECT COUNT(*) FROM private_chat WHERE user_id = ?), \
         (SELECT COUNT(*) FROM group_member WHERE user_id = ?)",
    )
    .bind(user.as_str())
    .bind(user.as_str())
    .fetch_one(pool)
    .await
}
