//! Which processes are alive. Workers share the shards among the live workers; gateways know each other from it.

use std::sync::LazyLock;
use std::time::Duration;

use fred::interfaces::SortedSetsInterface as _;
use fred::types::scripts::Script;

use super::client::Client;
use super::error::RedisError;
use super::keys;

/// A gateway without a heartbeat for this long is considered dead, and its users offline.
pub const GATEWAY_EXPIRY: Duration = Duration::from_secs(6);

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

    /// The processes in the registry, each with the time of its last heartbeat by the clock of Redis, in seconds since 1970:
    /// the live ones, and dead ones that no other process has removed yet.
    ///
    /// # Errors
    /// Redis cannot be reached.
    pub async fn heartbeats(&self) -> Result<Vec<(String, f64)>, RedisError> {
        let all = |redis: fred::clients::Client| async move {
            redis.zrange(self.key, 0, -1, None, false, None, true).await
        };
        self.client.at(self.key, all).await
    }

    /// Removes `process`, so that the others need not wait for its expiry.
    ///
    /// # Errors
    /// Redis cannot be reached: `process` is considered dead after the expiry.
    pub async fn leave(&self, process: &str) -> Result<(), RedisError> {
        self.client.at(self.key, |redis| async move { redis.zrem(self.key, process).await }).await
    }
}

/// How much longer a worker is known to know shares than to be alive.
const SHARES_EXTRA: Duration = Duration::from_secs(60);

/// The live workers.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LiveWorkers {
    /// Their ids, sorted.
    pub ids: Vec<String>,
    /// All of them know the rule that gives each worker an equal share of the shards; workers of earlier versions do not.
    pub know_shares: bool,
}

/// The registry of workers, with the rule for shards that each of them knows. Cheap to clone.
#[derive(Debug, Clone)]
pub struct WorkerRegistry {
    all: LivenessRegistry,
    with_shares: LivenessRegistry,
}

impl WorkerRegistry {
    /// One without a heartbeat for `expiry` is considered dead.
    #[must_use]
    pub fn new(client: Client, expiry: Duration) -> Self {
        let with_shares = LivenessRegistry {
            client: client.clone(),
            key: keys::WORKERS_WITH_SHARES,
            expiry: expiry + SHARES_EXTRA,
        };
        Self { all: LivenessRegistry::workers(client, expiry), with_shares }
    }

    /// Records a heartbeat of `worker` (which is not empty), which knows shares, and returns all live workers.
    ///
    /// # Errors
    /// Redis cannot be reached: go on with the workers of the last call.
    pub async fn beat(&self, worker: &str) -> Result<LiveWorkers, RedisError> {
        // In this order no worker is ever seen alive without the rule that it knows.
        self.with_shares.beat(worker).await?;
        let ids = self.all.beat(worker).await?;
        let with_shares = self.with_shares.live().await?;
        let know_shares = ids.iter().all(|id| with_shares.binary_search(id).is_ok());
        Ok(LiveWorkers { ids, know_shares })
    }

    /// All live workers, without a heartbeat.
    ///
    /// # Errors
    /// Redis cannot be reached.
    pub async fn live(&self) -> Result<LiveWorkers, RedisError> {
        self.beat("").await
    }

    /// Removes `worker`, so that the others need not wait for its expiry.
    ///
    /// # Errors
    /// Redis cannot be reached: `worker` is considered dead after the expiry.
    pub async fn leave(&self, worker: &str) -> Result<(), RedisError> {
        self.all.leave(worker).await?;
        self.with_shares.leave(worker).await
    }
}
