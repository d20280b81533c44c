//! The connections to MySQL, Redis and RabbitMQ.

use std::sync::Arc;

use anyhow::Context as _;
use shared::amqp::{Broker, Topology};
use shared::feed::FeedShards;
use shared::health::Health;
use shared::mysql::{self, Ping, Pool};
use shared::shard_follower::ShardFollower;

use crate::config::Config;

/// The stores of a running gateway. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Stores {
    pub(super) pool: Pool,
    /// The change feed in it, if it is on.
    pub(super) feed: Option<FeedShards>,
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
    /// A store is unavailable or unusable.
    pub(super) async fn connect(
        config: &Config,
        gateway: u64,
        health: &Health,
    ) -> anyhow::Result<(Self, ShardFollower)> {
        let wait = config.start.wait();
        let pool = mysql::connect(&config.mysql, Ping::BeforeUse, wait).await?;
        mysql::migrate(&pool).await.context("bringing the schema up to date")?;
        let (id, configured) = (format!("{gateway:016x}"), config.shards.checked()?);
        let follower = ShardFollower::join(pool.clone(), id, "gateway", configured).await?;
        let state = *follower.state().borrow();
        let feed = mysql::feed::open(&pool, &config.feed, state.main()).await?;
        let redis = shared::redis::connect(&config.redis, wait).await?;
        let topology = Topology::new(&config.amqp.prefix, state.current);
        topology.follow(state);
        let broker = |purpose: &str| {
            let name = format!("gateway {gateway:016x} {purpose}");
            let check = health.check(format!("rabbitmq {purpose}"));
            Broker::new(&config.amqp, topology.clone(), &name, check).map(Arc::new)
        };
        let (publishing, events) = (broker("publishing")?, broker("pushing")?);
        publishing.wait_until_up(wait).await?;
        Ok((Self { pool, feed, redis, publishing, events }, follower))
    }

    /// Closes the connections to RabbitMQ.
    pub(super) async fn close(&self) {
        for broker in [&self.publishing, &self.events] {
            broker.close().await;
        }
    }
}
