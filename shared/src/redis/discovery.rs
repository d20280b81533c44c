//! Several servers: a Redis Cluster, or a master behind Sentinel. Each server has a connection of its own.
//!
//! fred's own client of clusters is not used: it sends no command at all while it connects to a server that is lost, and it
//! takes the answer to an earlier command for that to `ASKING`, which shifts all later answers of the connection. Its client
//! of Sentinel waits for the first Sentinel only, and keeps an old master that is silent. See decision 0017.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use fred::clients::Client;
use fred::error::{Error, ErrorKind};
use fred::prelude::{Config, ServerConfig};
use fred::types::Value;
use futures_util::future::join_all;
use parking_lot::RwLock;
use tokio::sync::Notify;

use super::error::RedisError;
use super::fault::is_wrong_server;
use super::node::{Node, Waiting};
use super::redirect::{Address, Redirect};
use super::routes::{SLOTS, SlotRange, newest_master};

/// Most times that one command is sent elsewhere.
const REDIRECTS_MAX: u32 = 5;
/// Longest that a command is repeated while the keys of its slot are being moved.
const TRY_AGAIN_MAX: Duration = Duration::from_millis(300);
const TRY_AGAIN_PAUSE: Duration = Duration::from_millis(10);
/// How often a cluster is asked for its slots: a server that lost some says so at the next command.
const CLUSTER_INTERVAL: Duration = Duration::from_secs(30);
/// How often Sentinels are asked for the master: an old one may be silent.
const SENTINEL_INTERVAL: Duration = Duration::from_secs(1);
/// The same while a server is lost.
const LOST_INTERVAL: Duration = Duration::from_millis(250);
/// The same while commands fail.
const INTERVAL_MIN: Duration = Duration::from_millis(100);
/// Stands for no server.
const NONE: u16 = u16::MAX;

/// Who knows which server to use.
enum Source {
    /// The servers themselves, at first these.
    Cluster(Vec<Address>),
    /// Sentinels, those of them that are connected.
    Sentinel {
        name: String,
        addresses: Vec<Address>,
        nodes: tokio::sync::Mutex<Vec<Arc<Node>>>,
        config: Box<Config>,
    },
}

/// The servers that are used. Those of an earlier state are closed when their last command has ended.
#[derive(Default)]
struct Routes {
    nodes: Vec<Arc<Node>>,
    /// The index of the server of each slot; empty behind Sentinel, where the only server has all.
    slots: Vec<u16>,
}

/// The connections to several servers.
pub(super) struct Discovery {
    source: Source,
    /// How to connect to each server.
    template: Config,
    timeout: Duration,
    routes: RwLock<Routes>,
    /// The routes may be wrong, or are not needed any more.
    stale: Arc<Notify>,
    /// Which server is asked next.
    turn: AtomicUsize,
}

impl Discovery {
    /// Connects to the servers that `config` leads to; `None` if it names a single server.
    ///
    /// # Errors
    /// If none of them can be reached.
    pub(super) async fn start(config: &Config, timeout: Duration) -> Result<Option<Arc<Self>>, Error> {
        let addresses = |hosts: Vec<fred::types::config::Server>| -> Vec<Address> {
            hosts.into_iter().map(|host| Address { host: host.host.to_string(), port: host.port }).collect()
        };
        let source = match &config.server {
            ServerConfig::Clustered { hosts, .. } => Source::Cluster(addresses(hosts.clone())),
            ServerConfig::Sentinel { hosts, service_name, username, password } => {
                // Sentinels have no databases.
                let (username, password) = (username.clone(), password.clone());
                let config = Box::new(Config { username, password, database: None, ..config.clone() });
                let (name, addresses) = (service_name.clone(), addresses(hosts.clone()));
                Source::Sentinel { name, addresses, nodes: tokio::sync::Mutex::default(), config }
            }
            _ => return Ok(None),
        };
        let discovery = Arc::new(Self {
            source,
            template: config.clone(),
            timeout,
            routes: RwLock::default(),
            stale: Arc::default(),
            turn: AtomicUsize::new(rand::random_range(0..SLOTS)),
        });
        discovery.refresh().await?;
        let kept_up = keep_up(Arc::downgrade(&discovery), Arc::clone(&discovery.stale));
        #[expect(clippy::disallowed_methods, reason = "the task ends with the last client")]
        tokio::spawn(kept_up);
        Ok(Some(discovery))
    }

    /// The servers that can be used now.
    pub(super) fn usable(&self) -> Vec<Arc<Node>> {
        self.routes.read().nodes.iter().filter(|node| node.is_usable()).map(Arc::clone).collect()
    }

    /// All servers, of which some may be lost.
    pub(super) fn clients(&self) -> Vec<Client> {
        self.routes.read().nodes.iter().map(|node| node.client().clone()).collect()
    }

    /// Whether keys are on different servers.
    pub(super) fn is_cluster(&self) -> bool {
        matches!(self.source, Source::Cluster(_))
    }

    /// Makes `call` at the server of `key`. It is repeated at another one if the slot has moved; then the second argument
    /// says whether it follows an `ASKING`, which counts for one command only.
    ///
    /// # Errors
    /// [`RedisError::Lost`] at once while the server of `key` does not answer; those of other keys can be used meanwhile.
    pub(super) async fn at<T, F>(&self, key: &str, call: impl Fn(Client, bool) -> F) -> Result<T, RedisError>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let begin = Instant::now();
        let (mut node, mut asks, mut redirects) = (self.node_of(key)?, false, 0);
        loop {
            let waiting = Waiting::new(&node, &self.stale);
            let answer = match asks {
                true => node.after_asking(|client| call(client, true)).await,
                false => call(node.client().clone(), false).await,
            };
            waiting.ended();
            let Err(error) = answer else { return Ok(answer?) };
            let redirect = Redirect::of(error.details(), &node.address);
            if redirect.is_none() || redirects == REDIRECTS_MAX || begin.elapsed() > self.timeout {
                self.failed(&node, &error);
                return Err(error.into());
            }
            match redirect {
                Some(Redirect::Moved(slot, address)) => {
                    node = self.moved(slot, address).await?;
                    (asks, redirects) = (false, redirects + 1);
                }
                Some(Redirect::Ask(address)) => {
                    node = self.node_at(address).await?;
                    (asks, redirects) = (true, redirects + 1);
                }
                _ if begin.elapsed() < TRY_AGAIN_MAX => {
                    tokio::time::sleep(TRY_AGAIN_PAUSE).await;
                    (node, asks) = (self.node_of(key)?, false);
                }
                _ => return Err(error.into()),
            }
        }
    }

    fn node_of(&self, key: &str) -> Result<Arc<Node>, RedisError> {
        let routes = self.routes.read();
        let index = match routes.slots.get(usize::from(fred::util::redis_keyslot(key.as_bytes()))) {
            Some(index) => usize::from(*index),
            None => 0,
        };
        let Some(node) = routes.nodes.get(index) else { return Err(RedisError::NoServer) };
        if !node.is_usable() {
            self.stale.notify_one();
            return Err(RedisError::Lost(node.address.to_string()));
        }
        Ok(Arc::clone(node))
    }

    fn failed(&self, node: &Node, error: &Error) {
        if is_wrong_server(error.details()) {
            node.give_up(error);
        } else if *error.kind() == ErrorKind::Timeout {
            node.is_silent_now();
        } else if !matches!(error.kind(), ErrorKind::IO | ErrorKind::Canceled) {
            return;
        }
        self.stale.notify_one();
    }

    /// The server at `address`, which has `slot` now.
    async fn moved(&self, slot: u16, address: Address) -> Result<Arc<Node>, Error> {
        let node = self.node_at(address).await?;
        let mut routes = self.routes.write();
        let known = routes.nodes.iter().position(|known| Arc::ptr_eq(known, &node));
        let index = known.unwrap_or_else(|| {
            routes.nodes.push(Arc::clone(&node));
            routes.nodes.len() - 1
        });
        if let (Some(slot), Ok(index)) = (routes.slots.get_mut(usize::from(slot)), u16::try_from(index)) {
            *slot = index;
        }
        drop(routes);
        // Others have moved too, probably.
        self.stale.notify_one();
        Ok(node)
    }

    /// The server at `address`.
    async fn node_at(&self, address: Address) -> Result<Arc<Node>, Error> {
        if let Some(node) = self.known(&address) {
            return Ok(node);
        }
        let node = Arc::new(self.connect(address.clone()).await?);
        // Another command may have connected meanwhile.
        let mut routes = self.routes.write();
        if let Some(known) = routes.nodes.iter().find(|known| known.address == address) {
            return Ok(Arc::clone(known));
        }
        routes.nodes.push(Arc::clone(&node));
        Ok(node)
    }

    fn known(&self, address: &Address) -> Option<Arc<Node>> {
        self.routes.read().nodes.iter().find(|node| node.address == *address).map(Arc::clone)
    }

    async fn connect(&self, address: Address) -> Result<Node, Error> {
        Node::connect(&self.template, address, self.timeout).await
    }

    /// Learns which servers to use, and connects to new ones.
    async fn refresh(&self) -> Result<(), Error> {
        let nodes = self.routes.read().nodes.clone();
        let probes = join_all(nodes.iter().filter(|node| node.is_doubtful()).map(|node| node.probe()));
        let learned = async {
            match &self.source {
                Source::Cluster(seeds) => self.refresh_cluster(seeds).await,
                Source::Sentinel { name, addresses, nodes, config } => {
                    let mut nodes = nodes.lock().await;
                    self.connect_sentinels(&mut nodes, addresses, config).await?;
                    self.refresh_master(name, &nodes).await
                }
            }
        };
        // A lost server must not delay the look for its successor.
        tokio::join!(learned, probes).0
    }

    /// Uses other servers from now on. Commands that wait for a lost one fail at once.
    fn replace(&self, routes: Routes) {
        let before = std::mem::replace(&mut *self.routes.write(), routes);
        let now = self.routes.read();
        let is_used = |node: &Arc<Node>| now.nodes.iter().any(|used| Arc::ptr_eq(used, node));
        before.nodes.iter().filter(|node| !is_used(node) && !node.is_usable()).for_each(|node| node.close());
    }

    async fn refresh_cluster(&self, seeds: &[Address]) -> Result<(), Error> {
        let ranges = self.slot_ranges(seeds).await?;
        let mut masters: Vec<Address> = ranges.iter().map(|range| range.master.clone()).collect();
        masters.sort_unstable();
        masters.dedup();
        let found = join_all(masters.into_iter().map(|address| async move {
            match self.known(&address) {
                Some(node) => Ok(node),
                None => self.connect(address).await.map(Arc::new),
            }
        }));
        let (nodes, failures): (Vec<_>, Vec<_>) = found.await.into_iter().partition(Result::is_ok);
        let nodes: Vec<Arc<Node>> = nodes.into_iter().flatten().collect();
        if let (true, Some(Err(failure))) = (nodes.is_empty(), failures.into_iter().next()) {
            return Err(failure);
        }
        let mut slots = vec![NONE; SLOTS];
        for SlotRange { first, last, master } in ranges {
            let index = nodes.iter().position(|node| node.address == master);
            let index = index.and_then(|index| u16::try_from(index).ok()).unwrap_or(NONE);
            slots[usize::from(first)..=usize::from(last)].fill(index);
        }
        self.replace(Routes { nodes, slots });
        Ok(())
    }

    /// Asks a server that answers; a different one each time, in case its view is an old one.
    async fn slot_ranges(&self, seeds: &[Address]) -> Result<Vec<SlotRange>, Error> {
        let mut usable = self.usable();
        if !usable.is_empty() {
            let turn = self.turn.fetch_add(1, Ordering::Relaxed) % usable.len();
            usable.rotate_left(turn);
        }
        for node in usable {
            if let Ok(ranges) = node.slots().await {
                return Ok(ranges);
            }
        }
        let mut failure = Error::new(ErrorKind::Cluster, "no server answers");
        for address in seeds {
            let asked = async { self.connect(address.clone()).await?.slots().await };
            match asked.await {
                Ok(ranges) => return Ok(ranges),
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }

    async fn connect_sentinels(
        &self,
        nodes: &mut Vec<Arc<Node>>,
        addresses: &[Address],
        config: &Config,
    ) -> Result<(), Error> {
        let missing = addresses.iter().filter(|address| !nodes.iter().any(|node| node.address == **address));
        let connecting = missing.map(|address| Node::connect(config, address.clone(), self.timeout));
        let mut failure = Error::new(ErrorKind::Sentinel, "no Sentinel answers");
        for connected in join_all(connecting).await {
            match connected {
                Ok(node) => nodes.push(Arc::new(node)),
                Err(error) => failure = error,
            }
        }
        if nodes.is_empty() { Err(failure) } else { Ok(()) }
    }

    async fn refresh_master(&self, name: &str, sentinels: &[Arc<Node>]) -> Result<(), Error> {
        let named = join_all(sentinels.iter().map(|sentinel| sentinel.named_master(name))).await;
        let master = newest_master(named.into_iter().flatten()).ok_or_else(|| {
            Error::new(
                ErrorKind::Sentinel,
                format!("no Sentinel names a master for sentinelServiceName={name}"),
            )
        })?;
        if self.known(&master).is_some() {
            return Ok(());
        }
        let node = self.connect(master).await?;
        // A Sentinel that was away may name one that is a replica by now.
        let role = node.ask("ROLE", Vec::new()).await?;
        let is_master = matches!(&role, Value::Array(parts) if parts.first().and_then(Value::as_str).as_deref() == Some("master"));
        if !is_master {
            return Err(Error::new(ErrorKind::Sentinel, format!("{} is no master (yet)", node.address)));
        }
        tracing::info!(server = %node.address, "Redis' master is {}", node.address);
        self.replace(Routes { nodes: vec![Arc::new(node)], slots: Vec::new() });
        Ok(())
    }

    /// How long to wait before the next look.
    fn interval(&self) -> Duration {
        let routes = self.routes.read();
        let is_complete = !routes.nodes.is_empty()
            && routes.nodes.iter().all(|node| node.is_usable())
            && !routes.slots.contains(&NONE);
        match &self.source {
            _ if !is_complete => LOST_INTERVAL,
            Source::Cluster(_) => CLUSTER_INTERVAL,
            Source::Sentinel { .. } => SENTINEL_INTERVAL,
        }
    }
}

/// Keeps the routes right until the last client is dropped.
async fn keep_up(discovery: Weak<Discovery>, stale: Arc<Notify>) {
    let mut is_logged = false;
    loop {
        let Some(interval) = discovery.upgrade().map(|discovery| discovery.interval()) else { return };
        // Told, or after the interval.
        let _ = tokio::time::timeout(interval, stale.notified()).await;
        let Some(discovery) = discovery.upgrade() else { return };
        match discovery.refresh().await {
            Ok(()) => is_logged = false,
            Err(error) if !std::mem::replace(&mut is_logged, true) => {
                tracing::warn!(%error, "Cannot learn which servers of Redis to use ({error}); those that are known stay in use");
            }
            Err(_) => {}
        }
        drop(discovery);
        tokio::time::sleep(INTERVAL_MIN).await;
    }
}

impl Drop for Discovery {
    fn drop(&mut self) {
        self.stale.notify_one();
    }
}
