//! Builds every part, joins them, starts them, stops them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use shared::amqp::broker::BrokerError;
use shared::amqp::{Broker, Topology};
use shared::concurrency_limit::ConcurrencyLimit;
use shared::config::ConfigError;
use shared::health::{Check, Health};
use shared::mysql::settings::ShardCountError;
use shared::mysql::{self, ConnectError, Ping};
use shared::ops_routes::ops_routes;
use shared::redis::inbox::Inboxes;
use shared::redis::live_board::LiveBoard;
use shared::redis::sequence::Sequence;
use shared::redis::{self, RedisError};
use shared::shard::ShardId;
use shared::shutdown::Shutdown;
use shared::telemetry;
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::commit::ledger::MysqlLedger;
use crate::config::Config;
use crate::intake::dead_letters::DeadLetters;
use crate::shards::heartbeat::{EXPIRY, Heartbeat};
use crate::shards::shard_task::Parts;

/// How often MySQL is asked, and how long it may take to answer.
const WATCH_INTERVAL: Duration = Duration::from_secs(2);

/// Why a worker does not start. One line that says what to mend.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A setting.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// MySQL cannot be reached.
    #[error(transparent)]
    Mysql(#[from] ConnectError),
    /// The schema cannot be brought up to date.
    #[error("migrating the MySQL schema: {0}")]
    Migrate(String),
    /// The number of shards differs from the deployment's.
    #[error(transparent)]
    ShardCount(#[from] ShardCountError),
    /// Redis cannot be reached, or may forget.
    #[error(transparent)]
    Redis(#[from] RedisError),
    /// RabbitMQ cannot be reached.
    #[error(transparent)]
    Broker(#[from] BrokerError),
    /// The address is taken, for instance.
    #[error("ops.address {address}: {source}")]
    Listen {
        /// As configured.
        address: SocketAddr,
        /// As the system says.
        source: std::io::Error,
    },
    /// The metrics recorder.
    #[error("metrics: {0}")]
    Metrics(String),
}

/// A running worker.
#[derive(Debug)]
pub struct App {
    health: Health,
    ops_address: SocketAddr,
    shards: watch::Receiver<Vec<ShardId>>,
    grace: Duration,
    /// Owning shards; the first to stop.
    working: Shutdown,
    /// Dead letters and the ops server: needed until the last shard is given up.
    serving: Shutdown,
    redis: redis::Client,
    brokers: [Arc<Broker>; 2],
}

impl App {
    /// Connects to everything, waiting for what is away as long as `start.wait_s` says, and begins to work.
    ///
    /// # Errors
    /// [`StartError`].
    pub async fn start(config: Config) -> Result<Self, StartError> {
        let settings = config.shard_settings()?;
        let metrics = telemetry::init_metrics().map_err(|e| StartError::Metrics(e.to_string()))?;
        shared::metrics::describe();
        let health = Health::new();
        let (working, serving) = (Shutdown::new(), Shutdown::new());
        let ops_address = serve(&serving, config.ops.address, ops_routes(health.clone(), metrics)).await?;

        let pool = mysql::connect(&config.mysql, Ping::Never, config.start.wait()).await?;
        mysql::migrate(&pool).await.map_err(|e| StartError::Migrate(e.to_string()))?;
        let shards = mysql::settings::shard_count(&pool, config.shards.checked()?).await?;
        let redis = redis::connect(&config.redis, config.start.wait()).await?;
        let topology = Topology::new(&config.amqp.prefix, shards);
        let broker = |name: &str| {
            let check = health.check(format!("rabbitmq, {name}"));
            Broker::new(&config.amqp, topology.clone(), &format!("worker, {name}"), check).map(Arc::new)
        };
        let (consuming, publishing) = (broker("consuming")?, broker("publishing")?);
        let wait = config.start.wait();
        tokio::try_join!(consuming.wait_until_up(wait), publishing.wait_until_up(wait))?;

        let commits = health.check("commits");
        commits.pass();
        let ledger = MysqlLedger::new(pool);
        working.spawn(watch(ledger.clone(), health.check("mysql"), working.clone()));
        let parts = Parts {
            consuming: Arc::clone(&consuming),
            publishing: Arc::clone(&publishing),
            ledger,
            sequence: Sequence::new(redis.clone(), config.redis.sent_ttl_s),
            inboxes: Inboxes::new(redis.clone(), config.inbox.ttl_s),
            dead_letters: DeadLetters::start(Arc::clone(&publishing), &serving),
            commits,
            turns: ConcurrencyLimit::new(config.commit.transactions_at_once),
            settings,
        };
        let me = uuid::Uuid::new_v4().to_string();
        tracing::info!(worker.id = %me, %ops_address, shards = shards.get(), "worker started");
        let board = LiveBoard::of_workers(redis.clone(), EXPIRY);
        let heartbeat = Heartbeat::new(me, board, shards, Arc::new(parts), health.clone());
        let shards = heartbeat.owned();
        working.spawn(heartbeat.run(working.clone()));
        let (grace, brokers) = (config.drain.grace(), [consuming, publishing]);
        Ok(Self { health, ops_address, shards, grace, working, serving, redis, brokers })
    }

    /// Where `/readyz` and the others are.
    #[must_use]
    pub fn ops_address(&self) -> SocketAddr {
        self.ops_address
    }

    /// Whether it can serve, and why not.
    #[must_use]
    pub fn health(&self) -> &Health {
        &self.health
    }

    /// The shards that it has at the moment, rising.
    #[must_use]
    pub fn shards(&self) -> Vec<ShardId> {
        self.shards.borrow().clone()
    }

    /// Gives up all shards, finishes the batches at hand, and closes everything. False if it took longer than
    /// `drain.grace_ms`: the rest is left to other workers.
    pub async fn stop(self) -> bool {
        self.health.drain();
        let in_time = self.working.finish(self.grace).await;
        if !in_time {
            tracing::warn!("batches at hand did not finish in time: other workers will do them again");
        }
        for broker in &self.brokers {
            broker.close().await;
        }
        self.redis.close().await;
        self.serving.finish(Duration::from_secs(1)).await;
        in_time
    }
}

/// Serves the ops routes and returns the bound address (the port may have been 0).
async fn serve(
    stop: &Shutdown,
    address: SocketAddr,
    routes: warp::filters::BoxedFilter<(warp::reply::Response,)>,
) -> Result<SocketAddr, StartError> {
    let listen = |source| StartError::Listen { address, source };
    let listener = TcpListener::bind(address).await.map_err(listen)?;
    let bound = listener.local_addr().map_err(listen)?;
    let until = stop.clone();
    let server = warp::serve(routes).incoming(listener).graceful(async move { until.stopping().await });
    stop.spawn(server.run());
    Ok(bound)
}

/// Asks MySQL now and then whether it is there: a worker with nothing to commit would not notice.
async fn watch(ledger: MysqlLedger, check: Check, stop: Shutdown) {
    loop {
        match tokio::time::timeout(WATCH_INTERVAL, ledger.ping()).await {
            Ok(Ok(())) => check.pass(),
            Ok(Err(error)) => check.fail(error.to_string()),
            Err(_) => check.fail("no answer in time"),
        }
        if !stop.sleep(WATCH_INTERVAL).await {
            return;
        }
    }
}
