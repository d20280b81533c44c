//! Presence: the gateways to which each user is connected.
//!
//! A gateway writes the entries of its own users. The entries of a gateway that died stay behind: they count only while the
//! gateway is in the liveness registry.

use fred::interfaces::{HashesInterface as _, KeysInterface as _};
use futures_util::future::try_join_all;

use super::client::Client;
use super::error::RedisError;
use super::keys;
use crate::ids::UserId;

/// The time after which the entries of a gateway that died expire. A live gateway renews its own well before.
pub const ENTRY_TTL_S: i64 = 86_400;

/// The entries of one gateway. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Presence {
    client: Client,
    gateway: String,
}

impl Presence {
    /// The entries of the gateway with this id, as it is in the liveness registry.
    #[must_use]
    pub fn new(client: Client, gateway: u64) -> Self {
        Self { client, gateway: format!("{gateway:016x}") }
    }

    /// Records for each user whether it is connected here, and then `revision`. Returns the previous revision: one that
    /// differs from the last recorded one means that Redis lost data.
    ///
    /// # Errors
    /// Some entries may be recorded: retry.
    pub async fn record(&self, users: &[(UserId, bool)], revision: u64) -> Result<Option<u64>, RedisError> {
        let recorded = users.iter().map(|(user, is_here)| async move {
            let (key, gateway) = (&keys::online(user), self.gateway.as_str());
            if *is_here {
                let set = |redis: fred::clients::Client| async move { redis.hset(key, (gateway, 1)).await };
                self.client.at::<(), _>(key, set).await?;
                self.client
                    .at::<(), _>(key, |redis| async move { redis.expire(key, ENTRY_TTL_S, None).await })
                    .await
            } else {
                self.client.at::<(), _>(key, |redis| async move { redis.hdel(key, gateway).await }).await
            }
        });
        try_join_all(recorded).await?;
        let key = &keys::presence_revision(&self.gateway);
        let expiry = || Some(fred::types::Expiration::EX(ENTRY_TTL_S));
        let set = |redis: fred::clients::Client| async move {
            redis.set(key, revision.to_string(), expiry(), None, true).await
        };
        self.client.at(key, set).await
    }

    /// The ids of the gateways that recorded a connection of each of `users`.
    ///
    /// # Errors
    /// Redis's.
    pub async fn gateways_of(&self, users: &[UserId]) -> Result<Vec<Vec<u64>>, RedisError> {
        let asked = users.iter().map(|user| async move {
            let key = &keys::online(user);
            let names: Vec<String> =
                self.client.at(key, |redis| async move { redis.hkeys(key).await }).await?;
            Ok(names.iter().filter_map(|name| u64::from_str_radix(name, 16).ok()).collect())
        });
        try_join_all(asked).await
    }
}
