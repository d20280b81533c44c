//! Starts a gateway and drains it.

mod feed_parts;
mod feed_readers;
mod gauges;
mod group_changes;
mod logins;
mod parts;
mod readiness;
mod stores;

use std::net::SocketAddr;
use std::pin::Pin;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use shared::advertised_address;
use shared::health::Health;
use shared::live::Live;
use shared::ops_listener;
use shared::ops_routes::ops_routes;
use shared::process::{self, Service};
use shared::redis::process_addresses::ProcessAddresses;
use shared::reload::{Load, Reload};
use shared::shutdown::Shutdown;
use shared::traces::TraceExport;

use crate::auth::revocations::Revoked;
use crate::auth::token::Tokens;
use crate::budget::{BudgetSettings, Budgets};
use crate::config::{self, Config};
use crate::http;
use crate::hub::Hub;
use crate::listen::{self, Capacity, ListenSettings};
use crate::tls::{Certificate, Handshake};
use crate::wire::close::Close;
use crate::wire::retry_delay::RetryDelay;
use parts::Builder;
use stores::Stores;

/// How long the replies in progress may take after the last connection was asked to close.
const FINISH_GRACE: Duration = Duration::from_secs(5);

/// Files that a gateway needs beside the connections of clients: its connections to the stores, logs, the operator's own
/// listener.
const OWN_FILES: usize = 512;
/// Fewer than this part of `limits.connections_max` is worth a warning.
const FEW_CONNECTIONS_PART: usize = 10;

/// Runs a gateway until SIGTERM or SIGINT, and returns the exit code of the process. `commit`: the commit that the program
/// was built from, which clients are told.
///
/// The future is a trait object: its code is then compiled with this library, and not once more with the program.
#[must_use]
pub fn run(load: Load<Config>, commit: &'static str) -> Pin<Box<dyn Future<Output = ExitCode>>> {
    Box::pin(process::run("gateway", load(), async move |config: Config| {
        let live = Arc::new(Live::new(Arc::new(config)));
        let reload = Reload::new(Arc::clone(&live), config::live::KEYS, |config| &config.log, load);
        process::serve(reload, Box::pin(App::start(live, commit))).await
    }))
}

/// A running gateway.
#[derive(Debug)]
pub struct App {
    address: SocketAddr,
    live: Arc<Live<Config>>,
    health: Health,
    hub: Arc<Hub>,
    /// Stops the listener, connections and calls.
    listening: Shutdown,
    /// Stops all other tasks.
    working: Shutdown,
    stores: Stores,
    traces: Option<TraceExport>,
}

impl App {
    /// Connects to the stores, waiting up to `start.wait_s` for each, builds the parts, and listens.
    ///
    /// # Errors
    /// A key file is unusable ([`ConfigError`]), a store is unavailable, or the address is
    /// in use.
    pub async fn start(live: Arc<Live<Config>>, commit: &'static str) -> anyhow::Result<Self> {
        let config = live.now();
        // First, since it needs no store: an unusable key file is an error of the configuration.
        let revoked = Arc::new(Revoked::default());
        let tokens = Arc::new(Tokens::new(&config.auth, Arc::clone(&revoked))?);
        let metrics = shared::telemetry::init_metrics()?;
        shared::metrics::built_from(commit);

        let gateway = rand::random_range(1..=u64::MAX);
        let traces = TraceExport::start(&config.traces.export(&format!("{gateway:016x}")))?;
        let health = Health::new();
        let starting = health.check("start");
        let listening = Shutdown::new();
        let working = listening.sibling();
        let tls = tls(&config, &working)?;
        let operations = ops_routes(health.clone(), metrics);
        let operations = ops_listener::start(config.ops.address, operations, &working)?;
        tracing::info!(%operations, "Health checks and metrics are at http://{operations}/readyz");
        let (stores, follower) = Stores::connect(&config, gateway, &health).await?;
        let hub = Arc::new(Hub::new());
        let builder = Builder {
            gateway,
            commit,
            config: Arc::clone(&config),
            live: Arc::clone(&live),
            stores: stores.clone(),
            hub: Arc::clone(&hub),
            budgets: Arc::new(Budgets::new(BudgetSettings::of(&config.limits))),
            health: health.clone(),
            tasks: working.clone(),
        };
        let deps = builder.build(tokens, revoked, follower, &listening).await?;

        let routes = http::routes(deps, health.clone());
        let limits = &config.limits;
        let capacity = Capacity::new(limits.connections_max, limits.address_pending_connections_max);
        let capacity = Arc::new(capacity);
        live.follow(&capacity, |capacity, config, tasks| {
            let limits = &config.limits;
            let connections_max = open_files(limits.connections_max);
            capacity.set(connections_max, limits.address_pending_connections_max, tasks);
        });
        let settings = ListenSettings::of(&config, capacity).with_tls(tls);
        let address = listen::start(settings, routes, &listening)?;
        advertise(gateway, &config.ops.advertise, operations, &stores, &working).await;
        drop(starting);
        tracing::info!(%address, gateway = format!("{gateway:016x}"), "gateway started");
        Ok(Self { address, live, health, hub, listening, working, stores, traces })
    }

    /// The address that it listens on.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Closes one connection after the other, spread over `drain.spread_ms`, so that the clients do not reconnect all at
    /// once.
    async fn close_connections(&self) {
        let connections = self.hub.all();
        let pause = Duration::from_millis(self.live.now().drain.spread_ms)
            / u32::try_from(connections.len().max(1)).unwrap_or(u32::MAX);
        let mut next = tokio::time::Instant::now();
        for member in connections {
            // A random delay, since clients that disconnect first need not reconnect first.
            let retry_after_ms = RetryDelay::Reconnect.random_ms();
            member.outbox.close(Close::GoingAway { retry_after_ms });
            next += pause;
            tokio::time::sleep_until(next).await;
        }
    }
}

impl Service for App {
    fn failed(&self) -> impl Future<Output = String> {
        self.working.failed()
    }

    /// Closes the connections over `drain.spread_ms`, finishes the requests in progress, and ends all tasks. What
    /// takes longer than the grace period is abandoned.
    async fn stop(self) {
        tracing::info!(connections = self.hub.connections(), "gateway drains");
        self.health.drain();
        let grace = Duration::from_millis(self.live.now().drain.spread_ms) + FINISH_GRACE;
        self.listening.stop();
        let drained = async {
            self.close_connections().await;
            self.listening.finish(grace).await
        };
        if !tokio::time::timeout(grace, drained).await.unwrap_or(false) {
            let connections = self.hub.connections();
            tracing::warn!(connections, "some connections did not close within the grace period");
        }
        if !self.working.finish(FINISH_GRACE).await {
            tracing::warn!("some tasks did not end within the grace period");
        }
        self.stores.close().await;
        if let Some(traces) = self.traces {
            traces.finish().await;
        }
        tracing::info!("gateway stopped");
    }
}

/// Publishes where the other gateways get the metrics of this one, which are at the address `bound`.
async fn advertise(gateway: u64, configured: &str, bound: SocketAddr, stores: &Stores, tasks: &Shutdown) {
    let id = format!("{gateway:016x}");
    shared::metrics::process_started("gateway", &id);
    let address = advertised_address::address(configured, bound, &stores.redis).await;
    let addresses = ProcessAddresses::new(stores.redis.clone());
    let keeping = advertised_address::keep(addresses, id, address, tasks.clone());
    tasks.spawn_essential("advertised address", keeping);
}

/// TLS for clients, if there is a certificate, whose files are followed.
fn tls(config: &Config, tasks: &Shutdown) -> anyhow::Result<Option<Handshake>> {
    let Some(certificate) = Certificate::load(&config.tls)? else { return Ok(None) };
    let following = Arc::clone(&certificate).follow_files(tasks.clone());
    tasks.spawn_essential("certificate files", following);
    Ok(Some(Handshake::new(certificate)?))
}

/// Raises the limit of open files to what `connections_max` needs. Returns the connections that it is enough for.
fn open_files(connections_max: usize) -> usize {
    let wanted = u64::try_from(connections_max.saturating_add(OWN_FILES)).unwrap_or(u64::MAX);
    let files = shared::open_files::raise(wanted).unwrap_or_else(|error| {
        tracing::warn!(%error, "Cannot read the limit of open files; connections may be refused before limits.connections_max");
        wanted
    });
    if files >= wanted {
        return connections_max;
    }
    let files = usize::try_from(files).unwrap_or(usize::MAX);
    let connections = files.saturating_sub(OWN_FILES).max(files / 2).max(1);
    let message = format!(
        "The limit of open files ({files}) is too low for limits.connections_max; at most {connections} connections are \
         accepted. Raise the hard limit (LimitNOFILE= in systemd, --ulimit nofile= in Docker)"
    );
    // A limit that most systems have is no fault of a healthy start, one that is used up by a few clients is.
    if connections < connections_max / FEW_CONNECTIONS_PART {
        tracing::warn!(files, connections, connections_max, "{message}");
    } else {
        tracing::info!(files, connections, connections_max, "{message}");
    }
    connections
}
