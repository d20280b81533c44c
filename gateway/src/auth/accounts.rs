//! The built-in accounts: user ids with passwords.
//!
//! Hashing a password is slow on purpose. It runs on blocking threads with a concurrency limit; a call that waits too long
//! for a permit gets 503. A login of an unknown user costs the same work and gets the same answer as a wrong password.

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use argon2::Argon2;
use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher as _, PasswordVerifier as _};
use shared::ids::UserId;
use shared::mysql::{Pool, accounts};
use tokio::sync::Semaphore;

use crate::config::Config;
use crate::rates::Rates;
use crate::wire::api_error::ApiError;
use crate::wire::retry_delay::RetryDelay;

/// Longest password in bytes; a longer one would only cost hashing time.
const PASSWORD_BYTES_MAX: usize = 256;
/// Longest nickname, in characters.
const NICKNAME_CHARS_MAX: usize = 64;
/// How long a call waits for a permit to hash.
const PERMIT_TIMEOUT: Duration = Duration::from_secs(2);

/// The settings of accounts.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AccountSettings {
    password_chars_min: usize,
    /// Logins to one account; 0 for no limit.
    user_logins_per_minute: u32,
    /// Logins and registrations from one address; 0 for no limit.
    address_logins_per_minute: u32,
}

impl AccountSettings {
    /// The settings that `config` has; `None` if accounts are disabled.
    pub(crate) fn of(config: &Config) -> Option<Self> {
        config.auth.accounts.then_some(Self {
            password_chars_min: config.auth.password_chars_min,
            user_logins_per_minute: config.limits.user_logins_per_minute,
            address_logins_per_minute: config.limits.address_logins_per_minute,
        })
    }
}

/// Creates accounts and verifies passwords, within rate limits.
#[derive(Debug)]
pub(crate) struct Accounts {
    pool: Pool,
    /// Each permit uses one core and 19 MiB.
    permits: Arc<Semaphore>,
    by_user: Option<Rates<UserId>>,
    by_address: Option<Rates<IpAddr>>,
    password_chars_min: usize,
    /// Compared with the password of an unknown user.
    dummy_hash: String,
}

impl Accounts {
    /// Accounts in `pool`.
    ///
    /// # Errors
    /// The system provides no random numbers.
    pub(crate) fn new(pool: Pool, settings: AccountSettings) -> anyhow::Result<Self> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let salt_and_password: [u8; 32] = rand::random();
        let dummy_hash = hash(&salt_and_password).map_err(|error| anyhow::anyhow!("hashing: {error}"))?;
        Ok(Self {
            pool,
            permits: Arc::new(Semaphore::new(cores.div_ceil(2))),
            by_user: per_minute(settings.user_logins_per_minute),
            by_address: per_minute(settings.address_logins_per_minute),
            password_chars_min: settings.password_chars_min,
            dummy_hash,
        })
    }

    /// Counts an attempt to log in as `user` from `address`.
    ///
    /// # Errors
    /// 429
    pub(crate) fn check_rate(&self, user: &UserId, address: IpAddr) -> Result<(), ApiError> {
        let by_address = self.by_address.as_ref().map_or(Ok(()), |rates| rates.take(&address));
        let both = by_address.and_then(|()| self.by_user.as_ref().map_or(Ok(()), |rates| rates.take(user)));
        both.map_err(|retry_after_ms| ApiError::RateLimited {
            message: "too many attempts to log in: wait and try again".to_owned(),
            retry_after_ms,
        })
    }

    /// Creates an account.
    ///
    /// # Errors
    /// 400 for an invalid password or nickname, 409 if the id is taken, 503.
    pub(crate) async fn register(
        &self,
        user: &UserId,
        password: String,
        nickname: &str,
    ) -> Result<(), ApiError> {
        if password.chars().count() < self.password_chars_min {
            let message =
                format!("password is too short: send at least {} characters", self.password_chars_min);
            return Err(ApiError::Malformed(message));
        }
        check_length(&password)?;
        if nickname.chars().count() > NICKNAME_CHARS_MAX || nickname.chars().any(char::is_control) {
            return Err(ApiError::malformed("nickname must be at most 64 characters, no control characters"));
        }
        let hashed = self.work(move || hash(password.as_bytes())).await?.map_err(|error| {
            tracing::error!(%error, "a password was not hashed: its account is not created");
            ApiError::Internal
        })?;
        let created = accounts::create(&self.pool, user, &hashed, nickname)
            .await
            .map_err(|e| ApiError::database(&e))?;
        if created {
            Ok(())
        } else {
            Err(ApiError::Conflict("this user_id is taken: choose another one".to_owned()))
        }
    }

    /// Verifies a password.
    ///
    /// # Errors
    /// 401 with the same message for an unknown user and a wrong password; 503.
    pub(crate) async fn check(&self, user: &UserId, password: String) -> Result<(), ApiError> {
        check_length(&password)?;
        let stored = accounts::password_hash(&self.pool, user).await.map_err(|e| ApiError::database(&e))?;
        let known = stored.is_some();
        let hash_to_compare = stored.unwrap_or_else(|| self.dummy_hash.clone());
        let is_right = self.work(move || verify(password.as_bytes(), &hash_to_compare)).await?;
        if known && is_right {
            return Ok(());
        }
        Err(ApiError::Unauthenticated("user_id or password is wrong".to_owned()))
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

fn per_minute<K: std::hash::Hash + Eq + Clone>(times: u32) -> Option<Rates<K>> {
    let times = NonZeroU32::new(times)?;
    Rates::every(Duration::from_secs(60) / times.get(), times)
}

fn check_length(password: &str) -> Result<(), ApiError> {
    if password.len() > PASSWORD_BYTES_MAX {
        return Err(ApiError::malformed("password is longer than 256 bytes"));
    }
    Ok(())
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
