//! `user_look_alike`: the keys of accounts whose ids look alike, so that no new account looks like another one.
//!
//! The rule that makes keys of an id is the gateway's, and has a version. Accounts that were made without keys, by a gateway
//! of an earlier version or while the rule was switched off, are below that version until [`add_missing`] has found them.

use std::sync::LazyLock;

use sqlx::AssertSqlSafe;

use super::multi_row::MultiRow;
use super::{Pool, Transaction, Tx, TxError, is_duplicate_key, run_tx};
use crate::ids::{UserId, unix_millis};

/// Most accounts of one call of [`add_missing`].
pub const STEP_ACCOUNTS_MAX: usize = 256;

/// An account to be made.
#[derive(Debug, Clone, Copy)]
pub struct NewAccount<'a> {
    /// Its id.
    pub user: &'a UserId,
    /// The hash of its password.
    pub password_hash: &'a str,
    /// Its nickname.
    pub nickname: &'a str,
    /// The keys of its id, at most 255 characters each.
    pub keys: &'a [String],
    /// The version of the rule for keys.
    pub version: u16,
}

/// The reason why an account was not made.
#[derive(Debug, thiserror::Error)]
pub enum CreateError {
    /// The id is taken; the existing account stays as it is.
    #[error("the id is taken")]
    Taken,
    /// The id has a key of another account.
    #[error("the id looks like that of another account")]
    LooksTaken,
    /// A statement failed.
    #[error(transparent)]
    Sql(#[from] sqlx::Error),
}

impl TxError for CreateError {
    fn sql(&self) -> Option<&sqlx::Error> {
        match self {
            Self::Sql(error) => Some(error),
            Self::Taken | Self::LooksTaken => None,
        }
    }
}

/// Makes an account whose id looks like no other one.
///
/// # Errors
/// [`CreateError`]. Accounts without keys are not compared: call [`add_missing`] first.
pub async fn create(pool: &Pool, account: NewAccount<'_>) -> Result<(), CreateError> {
    run_tx(pool, &account).await
}

impl Transaction for NewAccount<'_> {
    type Output = ();
    type Error = CreateError;

    const NAME: &'static str = "create account";

    async fn run(&self, tx: &mut Tx) -> Result<(), CreateError> {
        let refused = |error: sqlx::Error, why| if is_duplicate_key(&error) { why } else { error.into() };
        sqlx::query(
            "INSERT INTO user_account (user_id, password_hash, nickname, created_at, look_alike_version) \
             VALUES (?, ?, ?, ?, ?)",
        )
        .bind(self.user.as_str())
        .bind(self.password_hash)
        .bind(self.nickname)
        .bind(unix_millis())
        .bind(self.version)
        .execute(&mut *tx)
        .await
        .map_err(|error| refused(error, CreateError::Taken))?;
        for key in self.keys {
            sqlx::query("INSERT INTO user_look_alike (look_alike_key, user_id) VALUES (?, ?)")
                .bind(key)
                .bind(self.user.as_str())
                .execute(&mut *tx)
                .await
                .map_err(|error| refused(error, CreateError::LooksTaken))?;
        }
        Ok(())
    }
}

// A key that another account has stays with it.
static ADD_KEYS: LazyLock<MultiRow> = LazyLock::new(|| {
    MultiRow::new(
        "INSERT INTO user_look_alike (look_alike_key, user_id) VALUES ",
        "(?, ?)",
        ", ",
        " ON DUPLICATE KEY UPDATE user_id = user_id",
    )
});

static SET_VERSION: LazyLock<MultiRow> = LazyLock::new(|| {
    MultiRow::new("UPDATE user_account SET look_alike_version = ? WHERE user_id IN (", "?", ", ", ")")
});

/// Adds the keys of accounts below `version`, of [`STEP_ACCOUNTS_MAX`] at most. Returns whether there may be more of them.
/// May run several times at once, and again after a failure.
///
/// # Errors
/// The database's.
pub async fn add_missing(
    pool: &Pool,
    version: u16,
    keys_of: impl Fn(&str) -> Vec<String>,
) -> sqlx::Result<bool> {
    let users: Vec<String> =
        sqlx::query_scalar("SELECT user_id FROM user_account WHERE look_alike_version < ? LIMIT 256")
            .bind(version)
            .fetch_all(pool)
            .await?;
    if users.is_empty() {
        return Ok(false);
    }
    let mut rows: Vec<(String, &str)> = Vec::with_capacity(2 * users.len());
    for user in &users {
        rows.extend(keys_of(user).into_iter().map(|key| (key, user.as_str())));
    }
    // In the order of the index, so that gateways that do the same seldom wait for each other in a circle.
    rows.sort_unstable();
    run_tx(pool, &AddKeys { rows: &rows, users: &users, version }).await?;
    Ok(users.len() == STEP_ACCOUNTS_MAX)
}

struct AddKeys<'a> {
    /// Keys with their users.
    rows: &'a [(String, &'a str)],
    users: &'a [String],
    version: u16,
}

impl Transaction for AddKeys<'_> {
    type Output = ();
    type Error = sqlx::Error;

    const NAME: &'static str = "add look-alike keys";

    async fn run(&self, tx: &mut Tx) -> sqlx::Result<()> {
        for (range, text) in ADD_KEYS.exact(self.rows.len()) {
            let mut query = sqlx::query(AssertSqlSafe(text));
            for (key, user) in &self.rows[range] {
                query = query.bind(key).bind(*user);
            }
            query.execute(&mut *tx).await?;
        }
        for (range, text) in SET_VERSION.exact(self.users.len()) {
            let mut query = sqlx::query(AssertSqlSafe(text)).bind(self.version);
            for user in &self.users[range] {
                query = query.bind(user);
            }
            query.execute(&mut *tx).await?;
        }
        Ok(())
    }
}
