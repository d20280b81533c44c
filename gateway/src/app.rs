//! Builds every part of a gateway, joins them, and takes them apart again.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use futures_util::FutureExt as _;
use shared::amqp::{Broker, Topology};
use shared::health::Health;
use shared::ids::UserId;
use shared::mysql::groups::GroupSizes;
use shared::mysql::{self, Ping};
use shared::redis::inbox::Inboxes;
use shared::redis::live_board::LiveBoard;
use shared::redis::presence::Presence;
use shared::redis::sequence::Sequence;
use shared::shutdown::Shutdown;

use crate::announce::announcer;
use crate::auth::accounts::Accounts;
use crate::auth::revocations::{Revocations, Revoked};
use crate::auth::token::Tokens;
use crate::config::Config;
use crate::connection::Services;
use crate::connection::logins::Logins;
use crate::hub::Hub;
use crate::membership::{Fences, GATEWAY_EXPIRY, GroupChanges, LiveGateways, Memberships, follow};
use crate::presence::online;
use crate::push::fanout::Fanout;
use crate::push::listener::Listener;
use crate::read::{ReadSettings, Reads};
use crate::send::{InFlight, Numbering, Pipeline, PipelineContext, Sends, ShardPublisher};
use crate::typing::Typing;
use crate::wire::close::Close;
use crate::wire::retry_delay::RetryDelay;

/// How often the connection to Redis is looked at, and the gauges are set.
const WATCH_INTERVAL: Duration = Duration::from_millis(500);
/// How long queued answers may take after the last client was told to go.
const FINISH_GRACE: Duration = Duration::from_secs(5);

/// The least time that is waited for something that is nearly there.
const MOMENT: Duration = Duration::from_secs(5);

/// A running gateway.
#[derive(Debug)]
pub struct App {
    address: SocketAddr,
    config: Arc<Config>,
    health: Health,
    hub: Arc<Hub>,
    listening: Shutdown,
    working: Shutdown,
    brokers: [Arc<Broker>; 2],
}

impl App {
    /// Connects to everything (waiting `start.wait_s` for what is missing), then listens.
    ///
    /// # Errors
    /// What is missing or cannot be used.
    pub async fn start(config: Config) -> anyhow::Result<Self> {
        let config = Arc::new(config);
        let wait = config.start.wait();
        // Before anything is waited for: a key file that cannot be used is an error of the configuration.
        let revoked = Arc::new(Revoked::default());
        let tokens = Arc::new(Tokens::new(&config.auth, Arc::clone(&revoked))?);
        let metrics = shared::telemetry::init_metrics()?;
        let health = Health::new();

        let pool = mysql::connect(&config.mysql, Ping::BeforeUse, wait).await?;
        mysql::migrate(&pool).await.context("bringing the schema up to date")?;
        let shards = mysql::settings::shard_count(&pool, config.shards.checked()?).await?;
        let redis = shared::redis::connect(&config.redis, wait).await?;
        let sequence = Sequence::new(redis.clone(), config.redis.sent_ttl_s);

        let gateway = rand::random_range(1..=u64::MAX);
        let topology = Topology::new(&config.amqp.prefix, shards);
        let broker = |purpose: &str| {
            let name = format!("gateway {gateway:016x} {purpose}");
            Broker::new(&config.amqp, topology.clone(), &name, health.check(format!("rabbitmq {purpose}")))
                .map(Arc::new)
        };
        let (publishing, pushing) = (broker("publishing")?, broker("pushing")?);
        publishing.wait_until_up(wait).await?;

        let (listening, working) = (Shutdown::new(), Shutdown::new());
        let hub = Arc::new(Hub::new());
        let (announcer, announcing) = announcer(Arc::clone(&pushing));
        working.spawn(announcing);
        let sizes =
            GroupSizes { large_above: config.groups.large_above, members_max: config.groups.members_max };
        let inboxes = Inboxes::new(redis.clone(), config.inbox.ttl_s);
        let memberships = Arc::new(Memberships::new(
            pool.clone(),
            Arc::clone(&hub),
            announcer.clone(),
            inboxes.clone(),
            config.groups.auto_create,
            sizes,
            working.clone(),
        ));
        working.spawn(follow(Arc::clone(&memberships), working.clone()));
        let board = LiveBoard::of_gateways(redis.clone(), GATEWAY_EXPIRY);
        let live = LiveGateways::join(board, gateway).await;
        working.spawn(Arc::clone(&live).stay(working.clone()));
        let fences = Arc::new(Fences::new(gateway, announcer.clone(), Arc::clone(&live)));
        let changes = GroupChanges::new(pool.clone(), Arc::clone(&memberships), Arc::clone(&fences), sizes);
        let presence = Presence::new(redis.clone(), gateway);
        let (online, telling) = online(presence, Arc::clone(&hub), live, working.clone());
        working.spawn(telling);
        let deadline = Duration::from_millis(config.limits.request_deadline_ms);
        let in_flight = Arc::new(InFlight::new());
        let (sends, queues) = Sends::new(&config.limits, Arc::clone(&memberships), pool.clone(), shards);
        let numbering = Numbering::new(sequence, pool.clone());
        let context = PipelineContext::new(&config.limits, Arc::clone(&in_flight));
        for (shard, queue) in shards.all().zip(queues) {
            let publisher = ShardPublisher::new(shard, Arc::clone(&publishing));
            let pipeline = Pipeline::new(shard, queue, numbering.clone(), publisher, context.clone());
            working.spawn(pipeline.run());
        }
        working.spawn(Arc::clone(&tokens).follow_files(working.clone()));
        let revocations = Revocations::load(pool.clone(), announcer.clone(), Arc::clone(&hub), revoked).await;
        let revocations = Arc::new(revocations.context("reading revoked tokens")?);
        working.spawn(Arc::clone(&revocations).follow(working.clone()));
        let accounts = Accounts::new(pool.clone(), &config.auth, &config.limits)?.map(Arc::new);
        let reads_at_once = usize::try_from(config.mysql.connections_max.saturating_sub(2).max(1))?;
        let read_settings =
            ReadSettings { concurrent: reads_at_once, deadline, inbox_ttl_s: config.inbox.ttl_s };
        let reads = Reads::new(
            pool.clone(),
            Arc::clone(&hub),
            Arc::clone(&memberships),
            announcer.clone(),
            inboxes,
            read_settings,
        );
        let of_logins = Arc::clone(&memberships);
        let read = move |users: Vec<UserId>| {
            let memberships = Arc::clone(&of_logins);
            async move { memberships.load(&users).await }.boxed()
        };
        let limits = &config.limits;
        let logins = Logins::new(limits.logins_at_once, limits.logins_waiting_max, Box::new(read));
        let services = Services {
            gateway,
            config: Arc::clone(&config),
            hub: Arc::clone(&hub),
            sends: Arc::new(sends),
            reads: Arc::new(reads),
            memberships: Arc::clone(&memberships),
            changes: Arc::new(changes),
            online,
            typing: Arc::new(Typing::new(Arc::clone(&memberships), announcer)),
            pool,
            tokens,
            revocations: Arc::clone(&revocations),
            accounts,
            logins: Arc::new(logins),
            shutdown: listening.clone(),
        };
        let fanout = Fanout::new(
            gateway,
            Arc::clone(&hub),
            memberships,
            Arc::clone(&fences),
            Arc::clone(&in_flight),
            revocations,
            working.clone(),
        );
        let listener = Listener::new(Arc::clone(&pushing), gateway, fanout, health.check("push queue"));
        let mut bound = listener.bound();
        working.spawn(listener.run(working.clone()));
        working.spawn(in_flight.keep_deadlines(working.clone()));
        working.spawn(watch(redis, Arc::clone(&hub), health.check("redis"), working.clone()));

        tokio::time::timeout(wait.max(MOMENT), bound.wait_for(|bound| *bound))
            .await
            .context("binding the push queue")??;
        fences.hello().await;
        let routes = crate::http::routes(services, health.clone(), metrics);
        let address = crate::listen::start(&config, routes, &listening)?;
        tracing::info!(%address, gateway = format!("{gateway:016x}"), "listening");
        Ok(Self { address, config, health, hub, listening, working, brokers: [publishing, pushing] })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Tells clients to come back elsewhere, finishes what is in flight, and stops.
    pub async fn drain(self) {
        tracing::info!(connections = self.hub.connections(), "draining");
        self.health.drain();
        let grace = Duration::from_millis(self.config.drain.spread_ms) + FINISH_GRACE;
        self.listening.stop();
        let drained = async {
            self.send_away().await;
            self.listening.finish(grace).await
        };
        if !tokio::time::timeout(grace, drained).await.unwrap_or(false) {
            tracing::warn!(connections = self.hub.connections(), "some connections did not close in time");
        }
        if !self.working.finish(FINISH_GRACE).await {
            tracing::warn!("some tasks did not end in time");
        }
        for broker in self.brokers {
            broker.close().await;
        }
        tracing::info!("stopped");
    }

    /// Tells one connection after the other to come back, spread over `drain.spread_ms`.
    async fn send_away(&self) {
        let connections = self.hub.all();
        let pause = Duration::from_millis(self.config.drain.spread_ms)
            / u32::try_from(connections.len().max(1)).unwrap_or(u32::MAX);
        let mut due = tokio::time::Instant::now();
        for member in connections {
            // Those who leave first need not come back first.
            let retry_after_ms = RetryDelay::Reconnect.random_ms();
            member.outbox.close(Close::GoingAway { retry_after_ms });
            due += pause;
            tokio::time::sleep_until(due).await;
        }
    }
}

/// MySQL is not part of readiness: without it messages are still accepted, and kept by the broker.
async fn watch(
    redis: shared::redis::Client,
    hub: Arc<Hub>,
    check: shared::health::Check,
    shutdown: Shutdown,
) {
    let connections = metrics::gauge!(shared::metrics::GATEWAY_CONNECTIONS);
    loop {
        if redis.is_connected() {
            check.pass();
        } else {
            check.fail("not connected");
        }
        #[allow(clippy::cast_precision_loss)] // far below 2^52
        connections.set(hub.connections() as f64);
        if !shutdown.sleep(WATCH_INTERVAL).await {
            return;
        }
    }
}
