//! Attempts to log in, counted for all gateways together.
//!
//! Each limit is a token bucket: some attempts at once after a pause, and as many again within its period. An attempt is
//! counted before the password is verified, so that concurrent attempts cannot exceed a limit, and given back if the password
//! is right.
//!
//! An attempt at an account counts for the account *and* the address it comes from, so that nobody keeps the owner of the
//! account out from another address. Attempts from addresses that the account does not know count together, too, in a much
//! larger bucket, which slows an attack that comes from many addresses. An address is known for 30 days after a success.

use std::net::IpAddr;
use std::sync::LazyLock;
use std::time::Duration;

use fred::types::scripts::Script;

use super::client::Client;
use super::error::RedisError;
use super::keys;
use crate::ids::UserId;

static TAKE: LazyLock<Script> = LazyLock::new(|| Script::from_lua(include_str!("lua/take_attempt.lua")));
static SUCCEEDED: LazyLock<Script> =
    LazyLock::new(|| Script::from_lua(include_str!("lua/attempt_succeeded.lua")));

/// The period of every bucket.
const PERIOD: Duration = Duration::from_secs(60);
/// The time for which an account knows an address after a success.
const KNOWN_FOR: Duration = Duration::from_secs(30 * 86_400);
/// Most addresses that an account knows.
const KNOWN_MAX: usize = 32;

/// The limits of attempts at one account, per minute; 0 for no limit.
#[derive(Debug, Clone, Copy)]
pub struct AccountLimits {
    /// From one address.
    pub per_address: u32,
    /// From all addresses that the account does not know.
    pub unknown_addresses: u32,
}

/// Counts attempts. Cheap to clone.
#[derive(Debug, Clone)]
pub struct LoginAttempts {
    client: Client,
}

impl LoginAttempts {
    /// Attempts that are counted on this server.
    #[must_use]
    pub fn new(client: Client) -> Self {
        Self { client }
    }

    /// Counts an attempt from `address`, of which `per_minute` (0: no limit) are possible. `address` is that of an IPv6
    /// network, or an IPv4 address. Returns the time until the next attempt is possible, if this one is not.
    ///
    /// # Errors
    /// Redis's; the attempt may have been counted.
    pub async fn take_from(
        &self,
        address: IpAddr,
        per_minute: u32,
    ) -> Result<Result<(), Duration>, RedisError> {
        let arguments = vec![per_minute.to_string(), PERIOD.as_millis().to_string()];
        self.take(vec![keys::login_address(address)], arguments).await
    }

    /// Counts an attempt at the account `user` from `address`. Returns the time until the next attempt is possible, if this one
    /// is not.
    ///
    /// # Errors
    /// Redis's; the attempt may have been counted.
    pub async fn take_at(
        &self,
        user: &UserId,
        address: IpAddr,
        limits: AccountLimits,
    ) -> Result<Result<(), Duration>, RedisError> {
        self.take(account_keys(user, address), account_arguments(address, limits)).await
    }

    /// Records that an attempt that [`take_at`](Self::take_at) counted had the right password: it is given back, and the
    /// account knows `address` from now on.
    ///
    /// # Errors
    /// Redis's.
    pub async fn succeeded(
        &self,
        user: &UserId,
        address: IpAddr,
        limits: AccountLimits,
    ) -> Result<(), RedisError> {
        let mut arguments = account_arguments(address, limits);
        arguments.push(KNOWN_MAX.to_string());
        self.client.script::<i64>(&SUCCEEDED, account_keys(user, address), arguments).await.map(drop)
    }

    async fn take(
        &self,
        keys: Vec<String>,
        arguments: Vec<String>,
    ) -> Result<Result<(), Duration>, RedisError> {
        let wait_ms: u64 = self.client.script(&TAKE, keys, arguments).await?;
        Ok(if wait_ms == 0 { Ok(()) } else { Err(Duration::from_millis(wait_ms)) })
    }
}

fn account_keys(user: &UserId, address: IpAddr) -> Vec<String> {
    vec![
        keys::login_account_address(user, address),
        keys::login_account(user),
        keys::login_known_addresses(user),
    ]
}

fn account_arguments(address: IpAddr, limits: AccountLimits) -> Vec<String> {
    let period_ms = PERIOD.as_millis().to_string();
    vec![
        limits.per_address.to_string(),
        period_ms.clone(),
        limits.unknown_addresses.to_string(),
        period_ms,
        address.to_string(),
        KNOWN_FOR.as_millis().to_string(),
    ]
}
