//! Which gateways each user is connected to.
//!
//! A gateway says so for its own users. One that dies leaves its entries behind: they count only while the gateway is on
//! the board of live ones.

use fred::interfaces::{HashesInterface as _, KeysInterface as _};
use futures_util::future::try_join_all;

use super::client::{Client, RedisError};
use super::keys;
use crate::ids::UserId;

/// Entries of a gateway that died are forgotten after this; a live one renews its own well before.
pub const ENTRY_TTL_S: i64 = 86_400;

/// The entries of one gateway. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Presence {
    client: Client,
    gateway: String,
}

impl Presence {
    /// Of the gateway with this number, as it is on the board.
    #[must_use]
    pub fn new(client: Client, gateway: u64) -> Self {
        Self { client, gateway: format!("{gateway:016x}") }
    }

    /// Notes for each user whether it is connected here, and under `revision` that this was done. Returns the revision
    /// before: another one than the last that was noted means that Redis has forgotten something.
    ///
    /// # Errors
    /// Some may have been noted: do it again.
    pub async fn note(&self, users: &[(UserId, bool)], revision: u64) -> Result<Option<u64>, RedisError> {
        let noted = users.iter().map(|(user, is_here)| async move {
            let (redis, key) = (self.client.raw(), keys::online(user));
            if *is_here {
                redis.hset::<(), _, _>(&key, (self.gateway.as_str(), 1)).await?;
                redis.expire::<(), _>(&key, ENTRY_TTL_S, None).await
            } else {
                redis.hdel::<(), _, _>(&key, self.gateway.as_str()).await
            }
        });
        try_join_all(noted).await?;
        let key = keys::presence_revision(&self.gateway);
        let expiry = Some(fred::types::Expiration::EX(ENTRY_TTL_S));
        Ok(self.client.raw().set(key, revision.to_string(), expiry, None, true).await?)
    }

    /// The gateways, by their number, that each of `users` was connected to when they last said so.
    ///
    /// # Errors
    /// As Redis says.
    pub async fn gateways_of(&self, users: &[UserId]) -> Result<Vec<Vec<u64>>, RedisError> {
        let asked = users.iter().map(|user| async move {
            let names: Vec<String> = self.client.raw().hkeys(keys::online(user)).await?;
            Ok(names.iter().filter_map(|name| u64::from_str_radix(name, 16).ok()).collect())
        });
        try_join_all(asked).await
    }
}
