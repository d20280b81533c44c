//! Which processes are alive: how workers share the shards out among themselves, and how gateways know of each other.

use std::sync::LazyLock;
use std::time::Duration;

use fred::interfaces::SortedSetsInterface as _;
use fred::types::scripts::Script;

use super::client::{Client, RedisError};
use super::keys;

static ALIVE: LazyLock<Script> = LazyLock::new(|| Script::from_lua(include_str!("lua/alive.lua")));

/// The list of live processes of one kind. Cheap to clone.
#[derive(Debug, Clone)]
pub struct LiveBoard {
    client: Client,
    key: &'static str,
    expiry: Duration,
}

impl LiveBoard {
    /// The workers: one counts as dead after `expiry` without a sign of life.
    #[must_use]
    pub fn of_workers(client: Client, expiry: Duration) -> Self {
        Self { client, key: keys::WORKERS, expiry }
    }

    /// The gateways, likewise.
    #[must_use]
    pub fn of_gateways(client: Client, expiry: Duration) -> Self {
        Self { client, key: keys::GATEWAYS, expiry }
    }

    /// Says that `process` is alive, and returns all that are, sorted.
    ///
    /// # Errors
    /// As Redis says: keep what you knew.
    pub async fn beat(&self, process: &str) -> Result<Vec<String>, RedisError> {
        let arguments = vec![process.to_owned(), self.expiry.as_secs_f64().to_string()];
        self.client.script(&ALIVE, vec![self.key.to_owned()], arguments).await
    }

    /// Takes `process` off at once, so that others need not wait for the expiry.
    ///
    /// # Errors
    /// As Redis says; the expiry does it then.
    pub async fn leave(&self, process: &str) -> Result<(), RedisError> {
        Ok(self.client.raw().zrem::<(), _, _>(self.key, process).await?)
    }
}
