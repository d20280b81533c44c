//! The worker's settings. Every key has a default that suits one machine.

use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroUsize;
use std::path::Path;
use std::time::Duration;

use serde::Deserialize;
use shared::config::{Amqp, ConfigError, Log, Mysql, Redis, Shards, Start};

use crate::shards::shard_task::ShardSettings;

/// All sections. An unknown one is refused.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The database.
    pub mysql: Mysql,
    /// Numbers and the board of workers.
    pub redis: Redis,
    /// The queue.
    pub amqp: Amqp,
    /// How many work queues there are.
    pub shards: Shards,
    /// Log lines.
    pub log: Log,
    /// What to do while a dependency is missing.
    pub start: Start,
    /// Health and metrics.
    pub ops: Ops,
    /// How messages are committed.
    pub commit: Commit,
    /// What is kept for users who come back.
    pub inbox: Inbox,
    /// How to stop.
    pub drain: Drain,
}

/// `[ops]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Ops {
    /// Where `/healthz`, `/readyz` and `/metrics` are served. Not for the public.
    pub address: SocketAddr,
}

impl Default for Ops {
    fn default() -> Self {
        Self { address: SocketAddr::from((Ipv4Addr::UNSPECIFIED, 9090)) }
    }
}

/// `[commit]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Commit {
    /// How long a missing number is waited for before it is given up. Longer than a gateway needs from numbering a
    /// message to its place in the queue; readers of that conversation wait for so long when a gateway dies in between.
    pub hole_timeout_ms: u64,
    /// About how many messages one transaction stores (a body of up to 256 is never divided).
    pub batch_messages_max: usize,
    /// Bodies that one shard may have in hand. Enough for the next batch to gather while one commits; more means more
    /// memory and more to do again after a crash.
    pub prefetch_bodies: u16,
    /// Transactions of all shards that run at once. Under load the other shards gather meanwhile: fewer, larger
    /// transactions.
    pub transactions_at_once: usize,
}

impl Default for Commit {
    fn default() -> Self {
        Self {
            hole_timeout_ms: 2_000,
            batch_messages_max: 1_000,
            prefetch_bodies: 128,
            transactions_at_once: 1,
        }
    }
}

/// `[inbox]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Inbox {
    /// How long an inbox is kept that nobody asks for; the same as the gateways'.
    pub ttl_s: u32,
}

impl Default for Inbox {
    fn default() -> Self {
        Self { ttl_s: shared::redis::inbox::TTL_S_DEFAULT }
    }
}

/// `[drain]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Drain {
    /// How long batches at hand may take to finish after SIGTERM; what is not finished is done by another worker.
    pub grace_ms: u64,
}

impl Default for Drain {
    fn default() -> Self {
        Self { grace_ms: 10_000 }
    }
}

impl Drain {
    /// The same as a duration.
    #[must_use]
    pub fn grace(&self) -> Duration {
        Duration::from_millis(self.grace_ms)
    }
}

impl Config {
    /// Reads `file` (none: defaults only) and the environment.
    ///
    /// # Errors
    /// One line that names the key.
    pub fn load(file: Option<&Path>) -> Result<Self, ConfigError> {
        let config: Self = shared::config::load(file)?;
        config.shard_settings()?;
        config.shards.checked()?;
        Ok(config)
    }

    /// The checked values of `[commit]`.
    ///
    /// # Errors
    /// Names the key whose value cannot be used.
    pub fn shard_settings(&self) -> Result<ShardSettings, ConfigError> {
        let Commit { hole_timeout_ms, batch_messages_max, prefetch_bodies, transactions_at_once } =
            self.commit;
        if !(100..=60_000).contains(&hole_timeout_ms) {
            return Err(ConfigError::key("commit.hole_timeout_ms", "is not in 100..=60000"));
        }
        let size = NonZeroUsize::new(batch_messages_max).filter(|size| size.get() <= 10_000);
        let Some(batch_messages_max) = size else {
            return Err(ConfigError::key("commit.batch_messages_max", "is not in 1..=10000"));
        };
        // 0 would mean no limit, and no bound on memory.
        if !(1..=10_000).contains(&prefetch_bodies) {
            return Err(ConfigError::key("commit.prefetch_bodies", "is not in 1..=10000"));
        }
        if !(1..=4_096).contains(&transactions_at_once) {
            return Err(ConfigError::key("commit.transactions_at_once", "is not in 1..=4096"));
        }
        let hole_timeout = Duration::from_millis(hole_timeout_ms);
        Ok(ShardSettings { prefetch_bodies, batch_messages_max, hole_timeout })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_can_be_used() {
        let settings = Config::default().shard_settings().unwrap();
        assert_eq!(settings.hole_timeout, Duration::from_secs(2));
        assert_eq!(settings.batch_messages_max.get(), 1_000);
    }

    #[test]
    fn the_sample_file_names_the_defaults() {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/config/worker.toml");
        let sample: Config = shared::config::load_from(Some(&file), Default::default()).unwrap();
        assert_eq!(format!("{sample:?}"), format!("{:?}", Config::default()));
        let text = std::fs::read_to_string(file).unwrap();
        assert_eq!(shared::config::sample::differing_keys(&Config::default(), &text), [""; 0]);
    }

    #[test]
    fn values_out_of_bounds_are_named() {
        for (commit, key) in [
            (Commit { hole_timeout_ms: 0, ..Commit::default() }, "commit.hole_timeout_ms"),
            (Commit { batch_messages_max: 0, ..Commit::default() }, "commit.batch_messages_max"),
            (Commit { prefetch_bodies: 0, ..Commit::default() }, "commit.prefetch_bodies"),
            (Commit { transactions_at_once: 0, ..Commit::default() }, "commit.transactions_at_once"),
        ] {
            let error = Config { commit, ..Config::default() }.shard_settings().unwrap_err();
            assert!(error.to_string().contains(key), "{error}");
        }
    }
}
