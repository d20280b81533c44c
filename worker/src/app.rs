//! Builds, connects, starts and stops all parts of a worker.

use std::net::SocketAddr;
use std::pin::Pin;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use filestore::StoreError;
use shared::amqp::broker::BrokerError;
use shared::amqp::{Broker, PolicyWatch, Topology};
use shared::config::ConfigError;
use shared::feed::FeedShards;
use shared::health::{Check, Health};
use shared::live::Live;
use shared::mysql::feed::FeedError;
use shared::mysql::settings::ShardCountError;
use shared::mysql::{self, ConnectError, Ping};
use shared::ops_listener::{self, OpsListenerError};
use shared::ops_routes::ops_routes;
use shared::process::{self, Service};
use shared::redis::inbox::Inboxes;
use shared::redis::liveness_registry::{GATEWAY_EXPIRY, LivenessRegistry, WorkerRegistry};
use shared::redis::presence::AllPresence;
use shared::redis::process_addresses::ProcessAddresses;
use shared::redis::sequence::Sequence;
use shared::redis::{self, RedisError};
use shared::reload::{Load, Reload};
use shared::shard::ShardId;
use shared::shard_follower::ShardFollower;
use shared::shard_state::ShardState;
use shared::shutdown::Shutdown;
use shared::traces::{TraceExport, TraceSettings};
use shared::{advertised_address, telemetry};
use tokio::sync::watch;

use crate::announce::targeting::Targeting;
use crate::commit::mysql_ledger::MysqlLedger;
use crate::config::{self, Config, Traces, TransactionLimits};
use crate::feed_pruner;
use crate::intake::dead_letter_publisher::DeadLetterPublisher;
use crate::shards::backlog::report_backlog;
use crate::shards::drain::Drain;
use crate::shards::heartbeat::{EXPIRY, Heartbeat};
use crate::shards::resharding::{FollowTopology, Resharding};
use crate::shards::shard_task::ShardContext;

/// Interval of the check of MySQL.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// Why a worker does not start, as one line that says what to correct.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A setting is invalid.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// MySQL cannot be reached.
    #[error(transparent)]
    Mysql(#[from] ConnectError),
    /// The schema cannot be migrated.
    #[error("migrating the MySQL schema: {0}")]
    Migrate(String),
    /// The layout of the shards is not known.
    #[error(transparent)]
    ShardLayout(#[from] ShardCountError),
    /// The change feed cannot be written.
    #[error(transparent)]
    Feed(#[from] FeedError),
    /// Redis cannot be reached, or is configured to lose data.
    #[error(transparent)]
    Redis(#[from] RedisError),
    /// The store of files is unusable.
    #[error(transparent)]
    Files(#[from] StoreError),
    /// RabbitMQ cannot be reached.
    #[error(transparent)]
    Broker(#[from] BrokerError),
    /// The operator's listener cannot be bound.
    #[error(transparent)]
    Listen(#[from] OpsListenerError),
    /// The metrics recorder cannot be installed.
    #[error("metrics: {0}")]
    Metrics(String),
}

/// Runs a worker until SIGTERM or SIGINT, and returns the exit code of the process. `commit`: the commit that the program
/// was built from, for the metrics.
///
/// The future is a trait object: its code is then compiled with this library, and not once more with the program.
#[must_use]
pub fn run(load: Load<Config>, commit: &'static str) -> Pin<Box<dyn Future<Output = ExitCode>>> {
    Box::pin(process::run("worker", load(), async move |config: Config| {
        let live = Arc::new(Live::new(Arc::new(config)));
        let reload = Reload::new(Arc::clone(&live), config::live::KEYS, |config| &config.log, load);
        let start = async {
            let app = App::follow(live).await?;
            shared::metrics::built_from(commit);
            anyhow::Ok(app)
        };
        process::serve(reload, Box::pin(start)).await
    }))
}

/// A running worker.
#[derive(Debug)]
pub struct App {
    health: Health,
    ops_address: SocketAddr,
    shards: watch::Receiver<Vec<ShardId>>,
    live: Arc<Live<Config>>,
    /// The heartbeat and the shards; stops first.
    working: Shutdown,
    /// Dead letters and the ops server, which are needed until the last shard is released.
    serving: Shutdown,
    redis: redis::Client,
    brokers: [Arc<Broker>; 2],
    traces: Option<TraceExport>,
}

/// Keeps both connections up, and checks that all queues exist.
fn keep_up(consuming: &Arc<Broker>, publishing: &Arc<Broker>, health: &Health, working: &Shutdown) {
    let queues = health.check("rabbitmq queues");
    let keeping = Arc::clone(consuming).keep_up(Some(queues), working.clone());
    working.spawn_essential("consuming connection", keeping);
    let keeping = Arc::clone(publishing).keep_up(None, working.clone());
    working.spawn_essential("publishing connection", keeping);
}

impl App {
    /// Connects to all stores, waiting up to `start.wait_s` for each of them, and starts to work.
    ///
    /// # Errors
    /// [`StartError`].
    pub async fn start(config: Config) -> Result<Self, StartError> {
        Self::follow(Arc::new(Live::new(Arc::new(config)))).await
    }

    /// The same with a configuration whose changes it follows.
    async fn follow(live: Arc<Live<Config>>) -> Result<Self, StartError> {
        let config = live.now();
        let settings = config.shard_settings()?;
        let metrics = telemetry::init_metrics().map_err(|e| StartError::Metrics(e.to_string()))?;
        let me = uuid::Uuid::new_v4().to_string();
        let traces = start_traces(&config, &me)?;
        let health = Health::new();
        let working = Shutdown::new();
        let serving = working.sibling();
        let starting = health.check("start");
        let routes = ops_routes(health.clone(), metrics);
        let ops_address = ops_listener::start(config.ops.address, routes, &serving)?;

        let (pool, follower, feed) = database(&config, &me).await?;
        let state = follower.state();
        let redis = redis::connect(&config.redis, config.start.wait()).await?;
        let topology = topology(&config.amqp.prefix, *state.borrow());
        let (consuming, publishing) = brokers(&config, &topology, &health)?;
        let wait = config.start.wait();
        tokio::try_join!(consuming.wait_until_up(wait), publishing.wait_until_up(wait))?;

        let policies = PolicyWatch::new(&config.amqp, topology.clone(), &health)?;
        working.spawn_essential("look at policies", policies.run(working.clone()));
        keep_up(&consuming, &publishing, &health, &working);
        let commits = health.check("commits");
        commits.pass();
        let resharding =
            Resharding::new(pool.clone(), redis.clone(), Arc::clone(&consuming), state.clone(), me.clone());
        let context = ShardContext {
            consuming: Arc::clone(&consuming),
            publishing: Arc::clone(&publishing),
            drain: Drain::new(pool.clone(), state.clone()),
            ledger: ledger(MysqlLedger::new(pool.clone(), feed), &health, &working),
            sequence: Sequence::new(redis.clone(), config.redis.sent_ttl_s),
            inboxes: Inboxes::new(redis.clone(), config.inbox.ttl_s),
            targeting: targeting(&live, &redis, &working),
            dead_letters: DeadLetterPublisher::start(Arc::clone(&publishing), &serving),
            commits,
            transactions: transactions(&live),
            settings,
        };
        tracing::info!(
            worker.id = %me, %ops_address, shards = %*state.borrow(),
            "Worker {me} started; its health checks are at http://{ops_address}/readyz"
        );
        advertise(&me, &config.ops.advertise, ops_address, &redis, &working).await;
        let registry = WorkerRegistry::new(redis.clone(), EXPIRY);
        let heartbeat = Heartbeat::new(me, registry, state, Arc::new(context), health.clone());
        let shards = heartbeat.owned();
        working.spawn_essential("heartbeat", heartbeat.run(working.clone()));
        crate::files::start(&config.files, &pool, shards.clone(), &working)?;
        feed_pruner::start(&config.feed, feed, &pool, &working);
        change_shards(follower, topology, resharding, &working);
        let reporting = report_backlog(Arc::clone(&consuming), shards.clone(), working.clone());
        working.spawn_essential("backlog of shards", reporting);
        drop(starting);
        let brokers = [consuming, publishing];
        Ok(Self { health, ops_address, shards, live, working, serving, redis, brokers, traces })
    }

    /// Bound address of `/readyz`, `/healthz` and `/metrics`.
    #[must_use]
    pub fn ops_address(&self) -> SocketAddr {
        self.ops_address
    }

    /// The health checks.
    #[must_use]
    pub fn health(&self) -> &Health {
        &self.health
    }

    /// The current shards of this worker, rising.
    #[must_use]
    pub fn shards(&self) -> Vec<ShardId> {
        self.shards.borrow().clone()
    }

    /// Finishes the current batches, releases all shards, and closes all connections. False if that took longer than
    /// `drain.grace_ms`: the rest is left to other workers.
    pub async fn stop(self) -> bool {
        self.health.drain();
        let grace = self.live.now().drain.grace();
        let in_time = self.working.finish(grace).await;
        if !in_time {
            tracing::warn!(
                grace_ms = grace.as_millis(),
                "The current batches did not finish within the drain time; other workers process them again"
            );
        }
        for broker in &self.brokers {
            broker.close().await;
        }
        self.redis.close().await;
        self.serving.finish(Duration::from_secs(1)).await;
        if let Some(traces) = self.traces {
            traces.finish().await;
        }
        in_time
    }
}

impl Service for App {
    fn failed(&self) -> impl Future<Output = String> {
        self.working.failed()
    }

    async fn stop(self) {
        tracing::info!("The worker stops; it finishes its current batches and releases its shards");
        App::stop(self).await;
    }
}

/// Connects to MySQL and brings the schema up to date. The worker `me` follows the layout of the shards, and writes the change
/// feed if it is on.
async fn database(
    config: &Config,
    me: &str,
) -> Result<(mysql::Pool, ShardFollower, Option<FeedShards>), StartError> {
    let pool = mysql::connect(&config.mysql, Ping::Never, config.start.wait()).await?;
    mysql::migrate(&pool).await.map_err(|e| StartError::Migrate(e.to_string()))?;
    let configured = config.shards.checked()?;
    let follower = ShardFollower::join(pool.clone(), me.to_owned(), "worker", configured).await?;
    let layout = follower.state().borrow().main();
    let feed = mysql::feed::open(&pool, &config.feed, layout).await?;
    Ok((pool, follower, feed))
}

/// How transactions are made, as `live` says.
fn transactions(live: &Live<Config>) -> Arc<TransactionLimits> {
    let transactions = Arc::new(TransactionLimits::new(&live.now().commit));
    live.follow(&transactions, |transactions, config, tasks| transactions.set(&config.commit, tasks));
    transactions
}

/// Finds the gateways of events, as `live` says.
fn targeting(live: &Live<Config>, redis: &redis::Client, working: &Shutdown) -> Arc<Targeting> {
    let registry = LivenessRegistry::gateways(redis.clone(), GATEWAY_EXPIRY);
    let targeting = Arc::new(Targeting::new(AllPresence::new(redis.clone()), registry));
    live.follow(&targeting, |targeting, config, _| targeting.set(config.events.targeted_from_gateways));
    working.spawn_essential("live gateways", Arc::clone(&targeting).follow(working.clone()));
    targeting
}

/// Starts the export of traces by the worker with the id `me`, if an endpoint is configured.
fn start_traces(config: &Config, me: &str) -> Result<Option<TraceExport>, ConfigError> {
    let Traces { otlp_endpoint, service_name } = &config.traces;
    TraceExport::start(&TraceSettings {
        endpoint: otlp_endpoint,
        service_name,
        program: "im-worker",
        instance: me,
    })
}

/// The connections to RabbitMQ: one to consume, and one to publish, which may be blocked.
fn brokers(
    config: &Config,
    topology: &Topology,
    health: &Health,
) -> Result<(Arc<Broker>, Arc<Broker>), ConfigError> {
    let broker = |name: &str| {
        let check = health.check(format!("rabbitmq, {name}"));
        Broker::new(&config.amqp, topology.clone(), &format!("worker, {name}"), check).map(Arc::new)
    };
    Ok((broker("consuming")?, broker("publishing")?))
}

/// The names of exchanges and queues, as of `state`.
fn topology(prefix: &str, state: ShardState) -> Topology {
    let topology = Topology::new(prefix, state.current);
    topology.follow(state);
    topology
}

/// Follows changes of the number of shards, and takes the steps of the workers.
fn change_shards(follower: ShardFollower, topology: Topology, resharding: Resharding, working: &Shutdown) {
    let following = follower.run(FollowTopology(topology), working.clone());
    working.spawn_essential("layout of the shards", following);
    working.spawn_essential("change of shards", resharding.run(working.clone()));
}

/// Publishes where the gateways get the metrics of this worker, which are at the address `bound`.
async fn advertise(me: &str, configured: &str, bound: SocketAddr, redis: &redis::Client, stop: &Shutdown) {
    shared::metrics::process_started("worker", me);
    let address = advertised_address::address(configured, bound, redis).await;
    let addresses = ProcessAddresses::new(redis.clone());
    let keeping = advertised_address::keep(addresses, me.to_owned(), address, stop.clone());
    stop.spawn_essential("advertised address", keeping);
}

/// The ledger with its check.
fn ledger(ledger: MysqlLedger, health: &Health, working: &Shutdown) -> MysqlLedger {
    let checking = check_mysql(ledger.clone(), health.check("mysql"), working.clone());
    working.spawn_essential("check of MySQL", checking);
    ledger
}

/// Checks MySQL, whose state a worker without messages would not notice.
async fn check_mysql(ledger: MysqlLedger, check: Check, stop: Shutdown) {
    loop {
        match ledger.check().await {
            Ok(()) => check.pass(),
            Err(error) => check.fail(error.to_string()),
        }
        if !stop.sleep(CHECK_INTERVAL).await {
            return;
        }
    }
}
