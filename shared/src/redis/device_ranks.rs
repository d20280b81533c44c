//! The order of the connections of a device, over all gateways.

use std::sync::LazyLock;

use fred::interfaces::KeysInterface as _;
use fred::types::scripts::Script;
use futures_util::future::try_join_all;

use super::client::Client;
use super::error::RedisError;
use super::keys;
use crate::ids::{DeviceId, UserId};

static NEXT: LazyLock<Script> = LazyLock::new(|| Script::from_lua(include_str!("lua/next_device_rank.lua")));

/// The time for which the last rank of a device is kept. Later ranks are higher anyway, unless the clock of the server was set
/// back by more than this.
const TTL_S: u32 = 86_400;

/// Gives ranks to connections: of two connections of a device, the newer one has the higher rank. Cheap to clone.
#[derive(Debug, Clone)]
pub struct DeviceRanks {
    client: Client,
}

impl DeviceRanks {
    /// Ranks from this server.
    #[must_use]
    pub fn new(client: Client) -> Self {
        Self { client }
    }

    /// The rank of a new connection, in microseconds since 1970.
    ///
    /// # Errors
    /// Redis's.
    pub async fn next(&self, user: &UserId, device: &DeviceId) -> Result<u64, RedisError> {
        self.client.script(&NEXT, vec![keys::device_rank(user, device)], vec![TTL_S.to_string()]).await
    }

    /// The last rank that each device was given within a day.
    ///
    /// # Errors
    /// Redis's.
    pub async fn last(&self, devices: &[(UserId, DeviceId)]) -> Result<Vec<Option<u64>>, RedisError> {
        let asked = devices.iter().map(|(user, device)| async move {
            let key = &keys::device_rank(user, device);
            self.client.at(key, |redis| async move { redis.get(key).await }).await
        });
        try_join_all(asked).await
    }
}
