//! Which workers are alive: how they share the shards out among themselves.

use std::sync::LazyLock;
use std::time::Duration;

use fred::interfaces::SortedSetsInterface as _;
use fred::types::scripts::Script;

use super::client::{Client, RedisError};
use super::keys;

static ALIVE: LazyLock<Script> = LazyLock::new(|| Script::from_lua(include_str!("lua/worker_alive.lua")));

/// The list of live workers. Cheap to clone.
#[derive(Debug, Clone)]
pub struct WorkerBoard {
    client: Client,
    expiry: Duration,
}

impl WorkerBoard {
    /// A worker counts as dead after `expiry` without a sign of life.
    #[must_use]
    pub fn new(client: Client, expiry: Duration) -> Self {
        Self { client, expiry }
    }

    /// Says that `worker` is alive, and returns all that are, sorted.
    ///
    /// # Errors
    /// As Redis says: keep what you knew.
    pub async fn beat(&self, worker: &str) -> Result<Vec<String>, RedisError> {
        let arguments = vec![worker.to_owned(), self.expiry.as_secs_f64().to_string()];
        self.client.script(&ALIVE, vec![keys::WORKERS.to_owned()], arguments).await
    }

    /// Takes `worker` off at once, so that others need not wait for the expiry.
    ///
    /// # Errors
    /// As Redis says; the expiry does it then.
    pub async fn leave(&self, worker: &str) -> Result<(), RedisError> {
        Ok(self.client.raw().zrem::<(), _, _>(keys::WORKERS, worker).await?)
    }
}
