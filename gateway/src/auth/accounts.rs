//! The built-in accounts: user ids with passwords.
//!
//! Hashing a password is slow on purpose. It runs on blocking threads with a concurrency limit; a call that waits too long
//! for a permit gets 503. A login of an unknown user costs the same work and gets the same answer as a wrong password.

use std::sync::Arc;
use std::time::Duration;

use argon2::Argon2;
use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher as _, PasswordVerifier as _};
use shared::ids::{UserId, unix_millis};
use shared::mysql::accounts::{self, PasswordChange};
use shared::mysql::{self, Pool};
use tokio::sync::Semaphore;

use super::login_limits::{Attempt, LoginLimits};
use super::new_accounts::NewAccounts;
use super::password_rules::{PasswordRules, check_length};
use crate::config::{Config, Limits};
use crate::wire::api_error::ApiError;
use crate::wire::retry_delay::RetryDelay;

/// How long a call waits for a permit to hash.
const PERMIT_TIMEOUT: Duration = Duration::from_secs(2);

/// Creates accounts, verifies and changes passwords, within rate limits.
#[derive(Debug)]
pub(crate) struct Accounts {
    pool: Pool,
    new: NewAccounts,
    /// Each permit uses one core and 19 MiB.
    permits: Arc<Semaphore>,
    limits: LoginLimits,
    rules: PasswordRules,
    /// Compared with the password of an unknown user.
    dummy_hash: String,
}

impl Accounts {
    /// Accounts in `pool`; `None` if they are disabled.
    ///
    /// # Errors
    /// The hash of a random password cannot be made.
    pub(crate) fn new(
        config: &Config,
        pool: Pool,
        redis: shared::redis::Client,
    ) -> anyhow::Result<Option<Self>> {
        if !config.auth.accounts {
            return Ok(None);
        }
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let salt_and_password: [u8; 32] = rand::random();
        let dummy_hash = hash(&salt_and_password).map_err(|error| anyhow::anyhow!("hashing: {error}"))?;
        Ok(Some(Self {
            new: NewAccounts::new(pool.clone(), config.auth.id_profile),
            pool,
            permits: Arc::new(Semaphore::new(cores.div_ceil(2))),
            limits: LoginLimits::new(redis, &config.limits),
            rules: PasswordRules {
                chars_min: config.auth.password_chars_min,
                refuse_common: config.auth.refuse_common_passwords,
            },
            dummy_hash,
        }))
    }

    /// Applies the limits of `limits` from now on.
    pub(crate) fn set_limits(&self, limits: &Limits) {
        self.limits.set(limits);
    }

    /// Creates an account.
    ///
    /// # Errors
    /// 400 for an id that new accounts do not have, or an invalid or common password; 409 if the id, or one that looks like it,
    /// is taken; 429, 503.
    pub(crate) async fn register(
        &self,
        attempt: Attempt<'_>,
        password: String,
        nickname: &str,
    ) -> Result<(), ApiError> {
        self.limits.take_registration(attempt.address).await?;
        self.new.check(attempt.user).await?;
        self.rules.check_length(&password)?;
        let hashed = self.hash_new(attempt.user, password).await?;
        self.new.create(attempt.user, &hashed, nickname).await?;
        self.limits.succeeded(attempt).await;
        Ok(())
    }

    /// Verifies a password. Returns the time, in milliseconds since 1970, at which it was the account's password: a token that
    /// is issued as of this time is revoked by every later change of the password.
    ///
    /// # Errors
    /// 401 with the same message for an unknown user and a wrong password; 429, 503.
    pub(crate) async fn log_in(&self, attempt: Attempt<'_>, password: String) -> Result<i64, ApiError> {
        self.limits.take(attempt).await?;
        check_length(&password)?;
        let wrong = || ApiError::Unauthenticated("user_id or password is wrong".to_owned());
        let stored = self.verified(attempt.user, password).await?.ok_or_else(wrong)?;
        let verified_at = unix_millis();
        // The password may have been changed during the verification.
        let current = accounts::settled_password_hash(&self.pool, attempt.user).await;
        if current.map_err(|e| ApiError::database(&e))?.as_ref() != Some(&stored) {
            return Err(wrong());
        }
        self.limits.succeeded(attempt).await;
        Ok(verified_at)
    }

    /// Changes the password of an account whose owner knows the old one, and revokes its tokens. Returns the time up to which
    /// issued tokens are revoked, in milliseconds since 1970.
    ///
    /// # Errors
    /// 400 for an invalid or common new password, or the old one; 403 if `old` is wrong, 404 without an account, 429, 503.
    pub(crate) async fn change_password(
        &self,
        attempt: Attempt<'_>,
        old: String,
        new: String,
    ) -> Result<i64, ApiError> {
        check_length(&old)?;
        self.rules.check_length(&new)?;
        self.limits.take(attempt).await?;
        let is_same = old == new;
        let wrong = || ApiError::Forbidden("old_password is wrong".to_owned());
        let Some(stored) = self.verified(attempt.user, old).await? else {
            let known = accounts::password_hash(&self.pool, attempt.user).await;
            let is_known = known.map_err(|e| ApiError::database(&e))?.is_some();
            return Err(if is_known { wrong() } else { no_account() });
        };
        self.limits.succeeded(attempt).await;
        if is_same {
            return Err(ApiError::malformed("new_password is the old one: choose another one"));
        }
        let hashed = self.hash_new(attempt.user, new).await?;
        let changed = accounts::set_password(&self.pool, attempt.user, Some(&stored), &hashed).await;
        match changed.map_err(|e| ApiError::database(&e))? {
            PasswordChange::Changed { not_before_ms } => Ok(not_before_ms),
            PasswordChange::Differs => Err(wrong()),
            PasswordChange::NoAccount => Err(no_account()),
        }
    }

    /// Sets the password of an account for the operator, and revokes its tokens. Returns the time up to which issued tokens are
    /// revoked, in milliseconds since 1970.
    ///
    /// # Errors
    /// 400 for an invalid or common password, 404 without an account, 503.
    pub(crate) async fn reset_password(&self, user: &UserId, new: String) -> Result<i64, ApiError> {
        self.rules.check_length(&new)?;
        let hashed = self.hash_new(user, new).await?;
        let changed = accounts::set_password(&self.pool, user, None, &hashed).await;
        match changed.map_err(|e| ApiError::database(&e))? {
            PasswordChange::Changed { not_before_ms } => Ok(not_before_ms),
            PasswordChange::Differs | PasswordChange::NoAccount => Err(no_account()),
        }
    }

    /// The stored hash of the account's password, if it is `password`. An unknown user costs the same work.
    async fn verified(&self, user: &UserId, password: String) -> Result<Option<String>, ApiError> {
        let stored: Result<_, mysql::Error> = accounts::password_hash(&self.pool, user).await;
        let stored = stored.map_err(|e| ApiError::database(&e))?;
        let hash_to_compare = stored.clone().unwrap_or_else(|| self.dummy_hash.clone());
        let is_right = self.work(move || verify(password.as_bytes(), &hash_to_compare)).await?;
        Ok(stored.filter(|_| is_right))
    }

    /// The hash of a new password of `user`.
    async fn hash_new(&self, user: &UserId, password: String) -> Result<String, ApiError> {
        let (rules, user) = (self.rules, user.clone());
        let hashed = self.work(move || {
            rules.check_common(&password, &user)?;
            hash(password.as_bytes()).map_err(|error| {
                tracing::error!(%error, "Cannot hash a password ({error}); it is not stored");
                ApiError::Internal
            })
        });
        hashed.await?
    }

    /// Runs slow work on a blocking thread, within the concurrency limit. Work that has begun keeps its permit even if its
    /// call has ended.
    async fn work<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, ApiError> {
        let permit = tokio::time::timeout(PERMIT_TIMEOUT, Arc::clone(&self.permits).acquire_owned()).await;
        let Ok(Ok(permit)) = permit else {
            let message = "too many logins at the moment: try again";
            return Err(ApiError::unavailable(message, RetryDelay::Overloaded));
        };
        let done = tokio::task::spawn_blocking(move || {
            let done = work();
            drop(permit);
            done
        });
        done.await.map_err(|_| ApiError::Internal)
    }
}

fn no_account() -> ApiError {
    ApiError::NotFound("this user has no account with a password".to_owned())
}

/// Argon2id with the library's default cost (19 MiB, 2 passes, as OWASP recommends) and a random salt.
fn hash(password: &[u8]) -> Result<String, argon2::password_hash::Error> {
    Ok(Argon2::default().hash_password(password)?.to_string())
}

/// Uses the cost parameters of the stored hash.
fn verify(password: &[u8], stored: &str) -> bool {
    match PasswordHash::new(stored) {
        Ok(stored) => Argon2::default().verify_password(password, &stored).is_ok(),
        Err(error) => {
            tracing::error!(%error, "a password hash in user_account is malformed: its user cannot log in");
            false
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_is_salted_and_verifies_its_password() {
        let (one, other) = (hash(b"correct horse").unwrap(), hash(b"correct horse").unwrap());
        assert_ne!(one, other);
        assert!(one.starts_with("$argon2id$v=19$m=19456,t=2,p=1$") && one.len() <= 255, "{one}");
        assert!(verify(b"correct horse", &one) && !verify(b"correct hors", &one));
        assert!(!verify(b"", "nonsense"));
    }
}
