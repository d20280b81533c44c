//! `user_account`: the built-in accounts.

use super::{Pool, Transaction, Tx, is_duplicate_key, revocations, run_tx};
use crate::ids::{UserId, unix_millis};

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
    .bind(unix_millis())
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

/// The same, after the end of a change of the password that is in progress.
///
/// # Errors
/// The database's.
pub async fn settled_password_hash(pool: &Pool, user: &UserId) -> sqlx::Result<Option<String>> {
    // Both MySQL and MariaDB know this form.
    sqlx::query_scalar("SELECT password_hash FROM user_account WHERE user_id = ? LOCK IN SHARE MODE")
        .bind(user.as_str())
        .fetch_optional(pool)
        .await
}

/// The result of [`set_password`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PasswordChange {
    /// The password is changed, and the tokens that were issued up to this time are revoked.
    Changed {
        /// Milliseconds since 1970.
        not_before_ms: i64,
    },
    /// The account has another password than expected.
    Differs,
    /// There is no such account.
    NoAccount,
}

/// Sets the password of an account, and revokes the tokens of its user, in one transaction. With `expected` only if that is the
/// present hash.
///
/// # Errors
/// The database's.
pub async fn set_password(
    pool: &Pool,
    user: &UserId,
    expected: Option<&str>,
    hash: &str,
) -> sqlx::Result<PasswordChange> {
    run_tx(pool, &SetPassword { user, expected, hash }).await
}

struct SetPassword<'p> {
    user: &'p UserId,
    expected: Option<&'p str>,
    hash: &'p str,
}

impl Transaction for SetPassword<'_> {
    type Output = PasswordChange;
    type Error = sqlx::Error;

    const NAME: &'static str = "password";

    async fn run(&self, tx: &mut Tx) -> sqlx::Result<PasswordChange> {
        let present: Option<String> =
            sqlx::query_scalar("SELECT password_hash FROM user_account WHERE user_id = ? FOR UPDATE")
                .bind(self.user.as_str())
                .fetch_optional(&mut *tx)
                .await?;
        let Some(present) = present else { return Ok(PasswordChange::NoAccount) };
        if self.expected.is_some_and(|expected| expected != present) {
            return Ok(PasswordChange::Differs);
        }
        // Read under the lock of the row: whoever verified the old password did so before.
        let not_before_ms = unix_millis();
        sqlx::query("UPDATE user_account SET password_hash = ? WHERE user_id = ?")
            .bind(self.hash)
            .bind(self.user.as_str())
            .execute(&mut *tx)
            .await?;
        revocations::revoke_in(tx, self.user, not_before_ms).await?;
        Ok(PasswordChange::Changed { not_before_ms })
    }
}
