//! Which processes are alive. Workers share the shards among the live workers; gateways know each other from it.

use std::sync::LazyLock;
use std::time::Duration;

use fred::interfaces::SortedSetsInterface as _;
use fred::types::scripts::Script;

use super::client::{Client, RedisError};
use super::keys;

static ALIVE: LazyLock<Script> = LazyLock::new(|| Script::from_lua(include_str!("lua/alive.lua")));

/// The live processes of one kind. Cheap to clone.
#[derive(Debug, Clone)]
pub struct LivenessRegistry {
    client: Client,
    key: &'static str,
    expiry: Duration,
}

impl LivenessRegistry {
    /// The workers. One without a heartbeat for `expiry` is considered dead.
    #[must_use]
    pub fn workers(client: Client, expiry: Duration) -> Self {
        Self { client, key: keys::WORKERS, expiry }
    }

    /// The gateways. One without a heartbeat for `expiry` is considered dead.
    #[must_use]
    pub fn gateways(client: Client, expiry: Duration) -> Self {
        Self { client, key: keys::GATEWAYS, expiry }
    }

    /// Records a heartbeat of `process` (which is not empty), and returns the ids of all live processes, sorted.
    ///
    /// # Errors
    /// Redis cannot be reached: go on with the processes of the last call.
    pub async fn beat(&self, process: &str) -> Result<Vec<String>, RedisError> {
        let arguments = vec![process.to_owned(), self.expiry.as_secs_f64().to_string()];
        self.client.script(&ALIVE, vec![self.key.to_owned()], arguments).await
    }

    /// The ids of all live processes, sorted, without a heartbeat.
    ///
    /// # Errors
    /// Redis cannot be reached.
    pub async fn live(&self) -> Result<Vec<String>, RedisError> {
        self.beat("").await
    }

    /// Removes `process`, so that the others need not wait for its expiry.
    ///
    /// # Errors
    /// Redis cannot be reached: `process` is considered dead after the expiry.
    pub async fn leave(&self, process: &str) -> Result<(), RedisError> {
        Ok(self.client.raw().zrem::<(), _, _>(self.key, process).await?)
    }
}
