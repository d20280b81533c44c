//! Limits of attempts to guess a password.
//!
//! All gateways count together, in Redis. While Redis is unavailable, each gateway counts on its own: then an account has
//! its limit per address on each gateway, and no limit for all unknown addresses together.

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::RwLock;
use shared::ids::UserId;
use shared::redis::login_attempts::{AccountLimits, LoginAttempts};
use shared::redis::{self, RedisError};
use tokio::time::timeout;

use crate::config::Limits;
use crate::rates::{Rate, Rates};
use crate::wire::api_error::ApiError;

/// Longest wait for Redis.
const REDIS_TIMEOUT: Duration = Duration::from_millis(500);

/// Who tries to log in, and from where.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Attempt<'a> {
    /// The account.
    pub(crate) user: &'a UserId,
    /// The IPv4 address or IPv6 network; `None` for the operator, who has no limit: its server logs in many users from one
    /// address.
    pub(crate) address: Option<IpAddr>,
}

/// Counts attempts.
#[derive(Debug)]
pub(crate) struct LoginLimits {
    redis: redis::Client,
    attempts: LoginAttempts,
    settings: RwLock<LoginSettings>,
    /// For the time in which Redis is unavailable.
    own_by_address: Rates<IpAddr>,
    own_by_account: Rates<(UserId, IpAddr)>,
    is_failing: AtomicBool,
}

/// Attempts per minute; 0 for no limit.
#[derive(Debug, Clone, Copy)]
struct LoginSettings {
    per_address: u32,
    account: AccountLimits,
}

impl LoginSettings {
    fn of(limits: &Limits) -> Self {
        Self {
            per_address: limits.address_logins_per_minute,
            account: AccountLimits {
                per_address: limits.user_logins_per_minute,
                unknown_addresses: limits.account_logins_per_minute,
            },
        }
    }

    fn rates(self) -> (Rate, Rate) {
        (Rate::per_minute(self.per_address), Rate::per_minute(self.account.per_address))
    }
}

impl LoginLimits {
    /// The limits of `limits`, counted in `redis`.
    pub(crate) fn new(redis: redis::Client, limits: &Limits) -> Self {
        let settings = LoginSettings::of(limits);
        let (by_address, by_account) = settings.rates();
        Self {
            attempts: LoginAttempts::new(redis.clone()),
            redis,
            settings: RwLock::new(settings),
            own_by_address: Rates::new(by_address),
            own_by_account: Rates::new(by_account),
            is_failing: AtomicBool::new(false),
        }
    }

    /// Applies the limits of `limits` from now on.
    pub(crate) fn set(&self, limits: &Limits) {
        let settings = LoginSettings::of(limits);
        let (by_address, by_account) = settings.rates();
        *self.settings.write() = settings;
        self.own_by_address.set(by_address);
        self.own_by_account.set(by_account);
    }

    fn account(&self) -> AccountLimits {
        self.settings.read().account
    }

    /// Counts an attempt to register from `address`.
    ///
    /// # Errors
    /// 429
    pub(crate) async fn take_registration(&self, address: Option<IpAddr>) -> Result<(), ApiError> {
        let Some(address) = address else { return Ok(()) };
        self.take_from(address).await.map_err(too_many)
    }

    /// Counts an attempt to log in. Accounts that do not exist are treated like others.
    ///
    /// # Errors
    /// 429
    pub(crate) async fn take(&self, attempt: Attempt<'_>) -> Result<(), ApiError> {
        let Some(address) = attempt.address else { return Ok(()) };
        self.take_from(address).await.map_err(too_many)?;
        let taken = match self.shared(self.attempts.take_at(attempt.user, address, self.account())).await {
            Some(taken) => taken,
            None => take_own(&self.own_by_account, &(attempt.user.clone(), address)),
        };
        taken.map_err(too_many)
    }

    /// Records that the password of an attempt was right.
    pub(crate) async fn succeeded(&self, attempt: Attempt<'_>) {
        if let Some(address) = attempt.address {
            self.shared(self.attempts.succeeded(attempt.user, address, self.account())).await;
        }
    }

    async fn take_from(&self, address: IpAddr) -> Result<(), Duration> {
        let per_address = self.settings.read().per_address;
        match self.shared(self.attempts.take_from(address, per_address)).await {
            Some(taken) => taken,
            None => take_own(&self.own_by_address, &address),
        }
    }

    /// The answer of Redis; `None` if it is unavailable.
    async fn shared<T>(&self, asked: impl Future<Output = Result<T, RedisError>>) -> Option<T> {
        let answer = if self.redis.is_connected() {
            timeout(REDIS_TIMEOUT, asked).await.map_err(|_| "no answer in time".to_owned())
        } else {
            Err("not connected".to_owned())
        };
        match answer.and_then(|answer| answer.map_err(|error| error.to_string())) {
            Ok(answer) => {
                if self.is_failing.swap(false, Ordering::Relaxed) {
                    tracing::info!("Attempts to log in are counted by all gateways together again");
                }
                Some(answer)
            }
            Err(error) => {
                if !self.is_failing.swap(true, Ordering::Relaxed) {
                    tracing::warn!(
                        %error,
                        "Cannot count attempts to log in in Redis; this gateway counts its own until that works"
                    );
                }
                None
            }
        }
    }
}

fn take_own<K: std::hash::Hash + Eq + Clone>(rates: &Rates<K>, key: &K) -> Result<(), Duration> {
    rates.take(key).map_err(Duration::from_millis)
}

fn too_many(wait: Duration) -> ApiError {
    ApiError::RateLimited {
        message: "too many attempts to log in: wait and try again".to_owned(),
        retry_after_ms: u64::try_from(wait.as_millis()).unwrap_or(u64::MAX).max(1),
    }
}
