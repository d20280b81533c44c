//! The configuration and the stores of a command. Stores are connected when a command needs them, with short timeouts.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use shared::amqp::{Inspector, Topology};
use shared::mysql::{self, Ping, Pool, settings};
use shared::shard::ShardLayout;
use shared::shard_state::ShardState;
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
    pub(crate) async fn rabbitmq(&self, shards: ShardLayout) -> anyhow::Result<Inspector> {
        Ok(Inspector::open(&self.config.amqp, self.topology(shards), "imctl").await?)
    }

    /// The names of exchanges and queues.
    pub(crate) fn topology(&self, shards: ShardLayout) -> Topology {
        Topology::new(&self.config.amqp.prefix, shards)
    }

    /// The layout of the shards of this deployment: the stored one; before the first start, with the configured number or the
    /// default.
    ///
    /// # Errors
    /// MySQL fails.
    pub(crate) async fn shards(&self, pool: &Pool) -> anyhow::Result<ShardLayout> {
        Ok(self.shard_state(pool).await?.main())
    }

    /// The same with a change that is in progress.
    ///
    /// # Errors
    /// As [`shards`](Self::shards).
    pub(crate) async fn shard_state(&self, pool: &Pool) -> anyhow::Result<ShardState> {
        let configured = self.config.shards.checked()?;
        let stored = settings::shard_state(pool).await.context(NO_TABLES)?;
        Ok(stored.unwrap_or(ShardState::stable(configured.unwrap_or(ShardLayout::DEFAULT))))
    }
}

const NO_TABLES: &str =
    "the number of shards cannot be read (is this the schema of the deployment? run `imctl migrate`)";
