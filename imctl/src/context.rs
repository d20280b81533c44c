//! The configuration and the stores of a command. Stores are connected when a command needs them, with short timeouts.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use shared::amqp::{Inspector, Topology};
use shared::mysql::{self, Ping, Pool, inspection};
use shared::shard::ShardCount;
use worker::config::Config;

/// The file of the connection settings unless another one is given.
const WORKER_FILE: &str = "/etc/im/worker.toml";
/// The same of a gateway.
const GATEWAY_FILE: &str = "/etc/im/gateway.toml";

/// The configuration of a command: that of a worker, which names all stores.
#[derive(Debug)]
pub(crate) struct Context {
    config: Config,
}

/// `given`, or the file of the packages if it exists; otherwise only defaults and environment.
fn file(given: Option<&Path>, of_packages: &str) -> Option<PathBuf> {
    let existing = || Some(PathBuf::from(of_packages)).filter(|file| file.exists());
    given.map(Path::to_owned).or_else(existing)
}

/// The file of the worker's configuration.
pub(crate) fn worker_file(given: Option<&Path>) -> Option<PathBuf> {
    file(given, WORKER_FILE)
}

/// The file of the gateway's configuration.
pub(crate) fn gateway_file(given: Option<&Path>) -> Option<PathBuf> {
    file(given, GATEWAY_FILE)
}

impl Context {
    /// Reads the configuration as a worker does.
    ///
    /// # Errors
    /// Names the wrong key with its file or variable.
    pub(crate) fn load(given: Option<&Path>) -> anyhow::Result<Self> {
        let mut config = Config::load(worker_file(given).as_deref())?;
        // One attempt: an operator wants the reason now.
        config.start.wait_s = 0;
        config.mysql.connections_max = config.mysql.connections_max.min(4);
        shared::tls::init();
        Ok(Self { config })
    }

    /// The settings of the worker.
    pub(crate) fn config(&self) -> &Config {
        &self.config
    }

    /// Connects to MySQL.
    ///
    /// # Errors
    /// Names the server and the reason.
    pub(crate) async fn mysql(&self) -> anyhow::Result<Pool> {
        Ok(mysql::connect(&self.config.mysql, Ping::Never, Duration::ZERO).await?)
    }

    /// Connects to Redis.
    ///
    /// # Errors
    /// Names the server and the reason.
    pub(crate) async fn redis(&self) -> anyhow::Result<shared::redis::Client> {
        Ok(shared::redis::connect(&self.config.redis, Duration::ZERO).await?)
    }

    /// Connects to RabbitMQ, and declares nothing.
    ///
    /// # Errors
    /// Names the server and the reason.
    pub(crate) async fn rabbitmq(&self, shards: ShardCount) -> anyhow::Result<Inspector> {
        Ok(Inspector::open(&self.config.amqp, self.topology(shards), "imctl").await?)
    }

    /// The names of exchanges and queues.
    pub(crate) fn topology(&self, shards: ShardCount) -> Topology {
        Topology::new(&self.config.amqp.prefix, shards)
    }

    /// The number of shards of this deployment: the stored one; before the first start, the configured one or the default.
    ///
    /// # Errors
    /// The configured number differs from the stored one, or MySQL fails.
    pub(crate) async fn shards(&self, pool: &Pool) -> anyhow::Result<ShardCount> {
        let configured = self.config.shards.checked()?;
        let stored = inspection::stored_shard_count(pool).await.context(NO_TABLES)?;
        let Some(stored) = stored else { return Ok(configured.unwrap_or(ShardCount::DEFAULT)) };
        let count = stored.parse().ok().and_then(ShardCount::new).with_context(|| {
            format!("the table `setting` has {stored:?} for shards.count, which is not a number of shards")
        })?;
        match configured {
            Some(configured) if configured != count => anyhow::bail!(
                "shards.count: the configuration has {}, and the deployment was first started with {}: set it to that",
                configured.get(),
                count.get()
            ),
            _ => Ok(count),
        }
    }
}

const NO_TABLES: &str =
    "the number of shards cannot be read (is this the schema of the deployment? run `imctl migrate`)";
