//! The connections to MySQL, Redis and RabbitMQ.

use std::sync::Arc;

use anyhow::Context as _;
use shared::amqp::{Broker, Topology};
use shared::health::Health;
use shared::mysql::{self, Ping, Pool};
use shared::shard::ShardCount;

use crate::config::Config;

/// The stores of a running gateway. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Stores {
    pub(super) pool: Pool,
    pub(super) shards: ShardCount,
    pub(super) redis: shared::redis::Client,
    /// For chat messages, apart from events: RabbitMQ may block publishers.
    pub(super) publishing: Arc<Broker>,
    /// For events to and from other gateways and workers.
    pub(super) events: Arc<Broker>,
}

impl Stores {
    /// Connects to all stores and brings the schema up to date. Waits up to `start.wait_s` for each store.
    ///
    /// # Errors
    /// A store is unavailable or unusable; the number of shards differs from the stored one.
    pub(super) async fn connect(config: &Config, gateway: u64, health: &Health) -> anyhow::Result<Self> {
        let wait = config.start.wait();
        let pool = mysql::connect(&config.mysql, Ping::BeforeUse, wait).await?;
        mysql::migrate(&pool).await.context("bringing the schema up to date")?;
        let shards = mysql::settings::shard_count(&pool, config.shards.checked()?).await?;
        metrics::gauge!(shared::metrics::SHARDS).set(f64::from(shards.get()));
        let redis = shared::redis::connect(&config.redis, wait).await?;
        let topology = Topology::new(&config.amqp.prefix, shards);
        let broker = |purpose: &str| {
            let name = format!("gateway {gateway:016x} {purpose}");
            let check = health.check(format!("rabbitmq {purpose}"));
            Broker::new(&config.amqp, topology.clone(), &name, check).map(Arc::new)
        };
        let (publishing, events) = (broker("publishing")?, broker("pushing")?);
        publishing.wait_until_up(wait).await?;
        Ok(Self { pool, shards, redis, publishing, events })
    }

    /// Closes the connections to RabbitMQ.
    pub(super) async fn close(&self) {
        for broker in [&self.publishing, &self.events] {
            broker.close().await;
        }
    }
}
