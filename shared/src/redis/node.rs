//! One connection to one server.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use fred::clients::Client;
use fred::error::{Error, ErrorKind};
use fred::prelude::*;
use fred::types::config::{Server, UnresponsiveConfig};
use fred::types::{ClusterHash, CustomCommand, Value};
use parking_lot::Mutex;
use socket2::TcpKeepalive;
use tokio::sync::Notify;
use tokio::task::AbortHandle;

use super::redirect::Address;
use super::routes::{NamedMaster, SlotRange, slot_ranges};

/// Most commands that wait for one server in one process; further ones fail at once.
const COMMANDS_MAX: usize = 10_000;
/// The time to connect to one of several servers.
const NEW_NODE_TIMEOUT: Duration = Duration::from_secs(2);
/// The time for a server to answer whether it is there.
const PROBE_TIMEOUT: Duration = Duration::from_secs(1);
/// A server that has not answered for this time, when the caller no longer waits, is asked whether it is there.
const SUSPECT_AFTER: Duration = Duration::from_millis(100);
/// The shortest time between two times that the connection is given up because of the server's answers.
const RECONNECT_INTERVAL: Duration = Duration::from_secs(1);
/// How often that is logged.
const LOG_INTERVAL: Duration = Duration::from_secs(60);

/// Connects, once, within `wait`; `timeout` is that of a command. The connection is restored until it is dropped.
pub(super) async fn connect(
    config: Config,
    timeout: Duration,
    wait: Duration,
) -> Result<(Client, Connecting), Error> {
    let client = built(config, timeout)?;
    let mut failures = client.error_rx();
    let connecting = Connecting(client.connect().abort_handle());
    let connected = async {
        // With a reconnect policy this never ends while the server is unreachable.
        tokio::time::timeout(wait, client.wait_for_connect())
            .await
            .map_err(|_| Error::new(ErrorKind::Timeout, "no connection in time"))??;
        client.ping::<()>(None).await
    };
    match connected.await {
        Ok(()) => Ok((client, connecting)),
        Err(error) => {
            // Why an attempt failed says more than that it took too long.
            let failure = failures.try_recv().ok().map(|(failure, _)| failure);
            Err(failure.filter(|_| *error.kind() == ErrorKind::Timeout).unwrap_or(error))
        }
    }
}

/// The value of a field in the text that INFO answers.
pub(super) fn info_field<'t>(text: &'t str, name: &str) -> Option<&'t str> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
}

/// The task that keeps a client connected. Dropping it ends the task, and open commands fail.
#[derive(Debug)]
pub(super) struct Connecting(AbortHandle);

impl Drop for Connecting {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn built(config: Config, timeout: Duration) -> Result<Client, Error> {
    Builder::from_config(config)
        .with_performance_config(|p| p.default_command_timeout = timeout)
        .with_connection_config(|c| {
            c.connection_timeout = timeout;
            c.internal_command_timeout = timeout;
            c.tcp.nodelay = Some(true);
            // A host that vanishes resets nothing.
            c.tcp.keepalive = Some(TcpKeepalive::new().with_time(timeout * 2).with_interval(timeout));
            c.tcp.user_timeout = Some(timeout * 2);
            // fred repeats a command if the connection breaks: all scripts here are idempotent.
            c.max_command_attempts = 2;
            c.max_command_buffer_len = COMMANDS_MAX;
            c.unresponsive = UnresponsiveConfig { max_timeout: Some(timeout * 2), interval: timeout };
        })
        .set_policy(ReconnectPolicy::new_exponential(0, 50, 2_000, 2))
        .build()
}

/// Gives connections up that lead to the wrong server.
#[derive(Debug, Default)]
pub(super) struct GivenUp {
    at: Option<Instant>,
    logged: Option<Instant>,
}

impl GivenUp {
    /// Closes the connection of `client`, which is opened again, at most once per second.
    pub(super) fn give_up(this: &Mutex<Self>, client: &Client, error: &Error) {
        let now = Instant::now();
        let is_past =
            |then: Option<Instant>, interval| then.is_none_or(|then| now.duration_since(then) > interval);
        let mut given_up = this.lock();
        if !is_past(given_up.at, RECONNECT_INTERVAL) {
            return;
        }
        given_up.at = Some(now);
        metrics::counter!(crate::metrics::STORE_RECONNECTS, "store" => "redis").increment(1);
        if is_past(given_up.logged, LOG_INTERVAL) {
            given_up.logged = Some(now);
            tracing::warn!(%error, "Redis cannot serve ({error}); the connection to it is closed and opened again");
        }
        // The request is queued at once; its result is of no interest.
        let _ = futures_util::FutureExt::now_or_never(client.force_reconnection());
    }
}

/// One server of several.
pub(super) struct Node {
    pub(super) address: Address,
    client: Client,
    connecting: Connecting,
    config: Config,
    timeout: Duration,
    /// It let a command time out, and has not answered since.
    is_silent: AtomicBool,
    /// It may be silent.
    is_suspect: AtomicBool,
    /// A connection for commands after `ASKING`, which no other command may come between.
    asking: tokio::sync::Mutex<Option<(Client, Connecting)>>,
    given_up: Mutex<GivenUp>,
}

impl Node {
    /// Connects to the server at `address` as `template` says.
    pub(super) async fn connect(
        template: &Config,
        address: Address,
        timeout: Duration,
    ) -> Result<Self, Error> {
        let server = Server::new(address.host.as_str(), address.port);
        let config = Config { server: ServerConfig::Centralized { server }, ..template.clone() };
        let (client, connecting) = connect(config.clone(), timeout, NEW_NODE_TIMEOUT.min(timeout)).await?;
        Ok(Self {
            address,
            client,
            connecting,
            config,
            timeout,
            is_silent: AtomicBool::new(false),
            is_suspect: AtomicBool::new(false),
            asking: tokio::sync::Mutex::default(),
            given_up: Mutex::default(),
        })
    }

    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    /// Whether it is connected, and answers.
    pub(super) fn is_usable(&self) -> bool {
        self.client.is_connected() && !self.is_silent.load(Ordering::Relaxed)
    }

    /// Whether a [`probe`](Self::probe) may change what is known of it.
    pub(super) fn is_doubtful(&self) -> bool {
        self.is_suspect.load(Ordering::Relaxed) || !self.is_usable()
    }

    /// It has not answered yet, and the caller no longer waits.
    pub(super) fn suspect(&self) {
        self.is_suspect.store(true, Ordering::Relaxed);
    }

    /// It let a command time out: it gets no more until it answers a [`probe`](Self::probe).
    pub(super) fn is_silent_now(&self) {
        self.is_silent.store(true, Ordering::Relaxed);
    }

    /// Ends the connection for good.
    pub(super) fn close(&self) {
        self.connecting.0.abort();
    }

    /// Its connection leads to the wrong server.
    pub(super) fn give_up(&self, error: &Error) {
        GivenUp::give_up(&self.given_up, &self.client, error);
    }

    /// Asks whether it is there.
    pub(super) async fn probe(&self) {
        self.is_suspect.store(false, Ordering::Relaxed);
        let answered = tokio::time::timeout(PROBE_TIMEOUT, self.client.ping::<()>(None)).await;
        self.is_silent.store(!matches!(answered, Ok(Ok(()))), Ordering::Relaxed);
    }

    /// Sends one command, such as `CLUSTER SLOTS`, in words.
    pub(super) async fn ask(&self, command: &'static str, words: Vec<&str>) -> Result<Value, Error> {
        let command = CustomCommand::new_static(command, ClusterHash::Random, false);
        let words: Vec<Value> = words.into_iter().map(Value::from).collect();
        let answered =
            tokio::time::timeout(PROBE_TIMEOUT, self.client.custom::<Value, _>(command, words)).await;
        answered.unwrap_or_else(|_| {
            self.is_silent_now();
            Err(Error::new(ErrorKind::Timeout, "no answer in time"))
        })
    }

    /// The slots of all servers of its cluster.
    pub(super) async fn slots(&self) -> Result<Vec<SlotRange>, Error> {
        let answer = self.ask("CLUSTER", vec!["SLOTS"]).await?;
        let ranges = slot_ranges(answer, &self.address).filter(|ranges| !ranges.is_empty());
        ranges.ok_or_else(|| {
            Error::new(ErrorKind::Cluster, format!("{} is no server of a cluster", self.address))
        })
    }

    /// The master with this name, as this Sentinel knows it.
    pub(super) async fn named_master(&self, name: &str) -> Option<NamedMaster> {
        let address = self.ask("SENTINEL", vec!["GET-MASTER-ADDR-BY-NAME", name]);
        let (address, details) = tokio::join!(address, self.ask("SENTINEL", vec!["MASTER", name]));
        NamedMaster::of(&address.ok()?, &details.ok()?)
    }

    /// Makes `call` on a connection on which the server answers for a slot that is being moved to it.
    pub(super) async fn after_asking<T, F>(&self, call: impl FnOnce(Client) -> F) -> Result<T, Error>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let mut asking = self.asking.lock().await;
        if asking.is_none() {
            *asking =
                Some(connect(self.config.clone(), self.timeout, NEW_NODE_TIMEOUT.min(self.timeout)).await?);
        }
        let Some((client, _)) = &*asking else { return Err(Error::new(ErrorKind::Unknown, "not connected")) };
        let command = CustomCommand::new_static("ASKING", ClusterHash::Random, false);
        client.custom::<(), Value>(command, Vec::new()).await?;
        call(client.clone()).await
    }
}

/// A command that waits for its answer. Dropped before its end, after a while, it makes the server suspect.
pub(super) struct Waiting<'w> {
    node: &'w Node,
    stale: &'w Notify,
    since: Instant,
}

impl<'w> Waiting<'w> {
    /// It is dropped where the caller stops waiting.
    pub(super) fn new(node: &'w Node, stale: &'w Notify) -> Self {
        Self { node, stale, since: Instant::now() }
    }

    /// The server has answered.
    pub(super) fn ended(self) {
        std::mem::forget(self);
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if self.since.elapsed() > SUSPECT_AFTER {
            self.node.suspect();
            self.stale.notify_one();
        }
    }
}
