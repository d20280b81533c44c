//! `user_account`: the built-in accounts.

use super::{Pool, is_duplicate_key};
use crate::ids::UserId;

/// Adds an account; false if there is one of that id already, which stays as it is.
///
/// # Errors
/// As the database says.
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

/// The hash of the account's password; `None` if there is no such account.
///
/// # Errors
/// As the database says.
pub async fn password_hash(pool: &Pool, user: &UserId) -> sqlx::Result<Option<String>> {
    sqlx::query_scalar("SELECT password_hash FROM user_account WHERE user_id = ?")
        .bind(user.as_str())
        .fetch_optional(pool)
        .await
}
