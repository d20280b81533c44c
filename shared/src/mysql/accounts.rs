//! `user_account`: the built-in accounts.

use super::{Pool, is_duplicate_key};
use crate::ids::UserId;

/// Adds an account. Returns false if the id is taken; the existing account stays as it is.
///
/// # Errors
/// The database's.
pub async fn create(pool: &Pool, user: &UserId, password_hash: &str, nickname: &str) -> sqlx::Result<bool> {
    let inserted = sqlx::query(
        "INSERT INTO user_account (user_id, password_hash, nickname, created_at) VALUES (?, ?, ?, ?)",
    )
    .bind(user.as_str())
    .bind(password_hash)
    .bind(nickname)
    .bind(crate::ids::unix_millis())
    .execute(pool)
    .await;
    match inserted {
        Ok(_) => Ok(true),
        Err(error) if is_duplicate_key(&error) => Ok(false),
        Err(error) => Err(error),
    }
}

/// The password hash of an account; `None` if there is no such account.
///
/// # Errors
/// The database's.
pub async fn password_hash(pool: &Pool, user: &UserId) -> sqlx::Result<Option<String>> {
    sqlx::query_scalar("SELECT password_hash FROM user_account WHERE user_id = ?")
        .bind(user.as_str())
        .fetch_optional(pool)
        .await
}
