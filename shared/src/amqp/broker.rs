//! One connection to RabbitMQ that is restored after it is lost: by [`keep_up`](Broker::keep_up), whether it is used or not.
//!
//! lapin's own recovery is off: it restores only a part of a channel's state. The user of a channel requests a new one here
//! after any error, and declares or consumes again. Publishing and consuming use a [`Broker`] each, because the server
//! stops reading from a blocked connection, including acknowledgements.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use lapin::{Channel, Connection, Event};
use tokio::sync::{Mutex, Notify, watch};

use super::Topology;
use super::addresses::{Addresses, ConnectError};
use super::topology::is_not_found;
use crate::backoff::Backoff;
use crate::config::{Amqp, ConfigError};
use crate::health::Check;
use crate::tls::TlsProblem;

/// The timeout of connecting and of opening a channel.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// The shortest time between two times that a connection is given up although it is open.
const GIVE_UP_INTERVAL: Duration = Duration::from_secs(10);
/// Longest that the server may take to close a connection.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// The pause after quorum queues were declared. RabbitMQ (at least 3.10) confirms a declaration before the name of the
/// queue's log is on disk: it saves its table of names half a second after the last change. If it is killed before, it
/// restarts the queue empty and without a leader, and confirmed bodies are lost.
const DECLARATION_SETTLE_TIME: Duration = Duration::from_secs(1);

/// The reason why there is no channel. Every one is worth a retry.
#[derive(Debug, thiserror::Error)]
pub enum BrokerError {
    /// A file of TLS cannot be read.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// An error of lapin.
    #[error(transparent)]
    Lapin(#[from] lapin::Error),
    /// The server was not reachable within the wait at the start.
    #[error("RabbitMQ at {url} (amqp.url): {source}")]
    Unreachable {
        /// Its address, without credentials.
        url: String,
        /// The last failure.
        source: Box<BrokerError>,
    },
    /// The TLS handshake fails for a reason that a retry at the start does not remove.
    #[error(transparent)]
    Tls(#[from] TlsProblem),
    /// The server did not answer within the timeout.
    #[error("RabbitMQ did not answer in time")]
    Timeout,
}

impl From<ConnectError> for BrokerError {
    fn from(error: ConnectError) -> Self {
        match error {
            ConnectError::Lapin(error) => Self::Lapin(error),
            ConnectError::Tls(problem) => Self::Tls(problem),
            ConnectError::Config(error) => Self::Config(error),
            ConnectError::Timeout => Self::Timeout,
        }
    }
}

impl BrokerError {
    /// Whether an exchange or a queue does not exist.
    #[must_use]
    pub(super) fn is_not_found(&self) -> bool {
        matches!(self, Self::Lapin(error) if is_not_found(error))
    }
}

/// The state of the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Link {
    /// Not connected.
    Down,
    /// Connected.
    Up,
    /// Connected, but the broker accepts no publishes (memory or disk alarm).
    Blocked,
}

/// A connection for one purpose, shared by several channels.
#[derive(Debug)]
pub struct Broker {
    addresses: Addresses,
    /// The addresses without credentials.
    url: String,
    name: String,
    topology: Topology,
    connection: Mutex<Option<Connection>>,
    given_up: parking_lot::Mutex<Option<Instant>>,
    state: Arc<State>,
}

/// The state that the watcher of the current connection reports; reports about earlier connections are ignored.
#[derive(Debug)]
struct State {
    link: watch::Sender<Link>,
    epoch: AtomicU64,
    check: Check,
    /// 1 while the broker blocks publishers.
    blocked: metrics::Gauge,
    /// An exchange or a queue seems to be missing.
    suspected: Notify,
    /// How many times missing exchanges and queues were declared again.
    declared: watch::Sender<u64>,
}

impl State {
    /// Ignores further reports about the connection, which is closed.
    fn closed(&self) {
        self.epoch.fetch_add(1, Ordering::Relaxed);
        self.link.send_replace(Link::Down);
        self.blocked.set(0.0);
    }

    fn set(&self, epoch: u64, link: Link, why: &str) {
        self.link.send_if_modified(|now| {
            if self.epoch.load(Ordering::Relaxed) != epoch {
                return false;
            }
            match link {
                Link::Up => self.check.pass(),
                Link::Down | Link::Blocked => self.check.fail(why),
            }
            self.blocked.set(if link == Link::Blocked { 1.0 } else { 0.0 });
            std::mem::replace(now, link) != link
        });
    }
}

impl Broker {
    /// A broker that connects for the first [`channel`](Self::channel). `name` is shown in RabbitMQ's management;
    /// its last word, the purpose, is a label of metrics.
    ///
    /// # Errors
    /// Names `amqp.url` if it is not an AMQP address.
    pub fn new(settings: &Amqp, topology: Topology, name: &str, check: Check) -> Result<Self, ConfigError> {
        let addresses = Addresses::new(settings)?;
        let purpose = name.rsplit(' ').next().unwrap_or_default().to_owned();
        let state = Arc::new(State {
            link: watch::channel(Link::Down).0,
            epoch: AtomicU64::new(0),
            check,
            blocked: metrics::gauge!(crate::metrics::PUBLISHERS_BLOCKED, "connection" => purpose),
            suspected: Notify::new(),
            declared: watch::channel(0).0,
        });
        Ok(Self {
            addresses,
            url: settings.url.to_string(),
            name: name.to_owned(),
            topology,
            connection: Mutex::new(None),
            given_up: parking_lot::Mutex::default(),
            state,
        })
    }

    /// The names of exchanges and queues.
    #[must_use]
    pub fn topology(&self) -> &Topology {
        &self.topology
    }

    /// The state of the connection, whose changes can be awaited.
    #[must_use]
    pub fn link(&self) -> watch::Receiver<Link> {
        self.state.link.subscribe()
    }

    /// Whether the broker blocks publishers.
    #[must_use]
    pub fn is_blocked(&self) -> bool {
        *self.state.link.borrow() == Link::Blocked
    }

    /// Whether publishes are possible now.
    #[must_use]
    pub(crate) fn is_up(&self) -> bool {
        *self.state.link.borrow() == Link::Up
    }

    /// How many times missing exchanges and queues were declared again; changes can be awaited. Bindings to an exchange
    /// that was missing are gone.
    #[must_use]
    pub fn declared(&self) -> watch::Receiver<u64> {
        self.state.declared.subscribe()
    }

    /// An exchange or a queue seems to be missing: [`keep_up`](Self::keep_up) declares all again, at once.
    pub fn suspect_topology(&self) {
        self.state.suspected.notify_one();
    }

    /// Opens a channel, on a new connection if the old one is lost. The topology is declared on each new connection.
    ///
    /// # Errors
    /// [`BrokerError`]: retry after a delay.
    pub async fn channel(&self) -> Result<Channel, BrokerError> {
        let made =
            tokio::time::timeout(CONNECT_TIMEOUT, self.open()).await.unwrap_or(Err(BrokerError::Timeout));
        if let Err(error) = &made {
            self.state.check.fail(error.to_string());
        }
        made
    }

    /// Closes the connection although it is open, because it does not work; users get errors and open channels on a new
    /// one. Does so at most every ten seconds; returns false otherwise. `why` is for the log.
    pub async fn give_up(&self, why: &str) -> bool {
        let now = Instant::now();
        {
            let mut given_up = self.given_up.lock();
            if given_up.is_some_and(|then| now.duration_since(then) < GIVE_UP_INTERVAL) {
                return false;
            }
            *given_up = Some(now);
        }
        tracing::warn!(%why, "Giving up a connection to RabbitMQ that is open ({why}); a new one is opened");
        metrics::counter!(crate::metrics::STORE_RECONNECTS, "store" => "rabbitmq").increment(1);
        self.state.closed();
        self.state.check.fail(why);
        if let Some(connection) = self.connection.lock().await.take() {
            // A connection that does not work may not answer.
            let _ = tokio::time::timeout(CLOSE_TIMEOUT, connection.close(200, "given up".into())).await;
        }
        true
    }

    /// Connects, and retries for up to `wait`. Call it once, at the start of a process, before anything is published.
    ///
    /// # Errors
    /// The last failure. A certificate that is refused fails at once.
    pub async fn wait_until_up(&self, wait: Duration) -> Result<(), BrokerError> {
        let (deadline, mut backoff, mut is_logged) = (Instant::now() + wait, Backoff::dependency(), false);
        loop {
            let Err(error) = self.channel().await else {
                tokio::time::sleep(DECLARATION_SETTLE_TIME).await;
                return Ok(());
            };
            if matches!(error, BrokerError::Tls(_) | BrokerError::Config(_)) {
                return Err(error);
            }
            if Instant::now() >= deadline {
                return Err(BrokerError::Unreachable { url: self.url.clone(), source: Box::new(error) });
            }
            if !std::mem::replace(&mut is_logged, true) {
                let (url, wait_s) = (&self.url, wait.as_secs());
                tracing::warn!(%url, wait_s, %error, "RabbitMQ is not reachable at {url}; retrying for up to {wait_s} s");
            }
            tokio::time::sleep(backoff.next_delay()).await;
        }
    }

    async fn open(&self) -> Result<Channel, BrokerError> {
        let mut connection = self.connection.lock().await;
        let live = self.live(&mut connection).await?;
        let channel = live.create_channel();
        Ok(channel.await?)
    }

    /// Connects unless there is a connection.
    pub(super) async fn ensure_connected(&self) -> Result<(), BrokerError> {
        let connected = async {
            let mut connection = self.connection.lock().await;
            self.live(&mut connection).await.map(drop)
        };
        let made = tokio::time::timeout(CONNECT_TIMEOUT, connected).await;
        let made = made.unwrap_or(Err(BrokerError::Timeout));
        if let Err(error) = &made {
            self.state.check.fail(error.to_string());
        }
        made
    }

    async fn live<'c>(&self, connection: &'c mut Option<Connection>) -> Result<&'c Connection, BrokerError> {
        let usable = connection.take().filter(|c| c.status().connected());
        let live = match usable {
            Some(live) => live,
            None => self.connect().await?,
        };
        // Stored before the next await: a caller that is cancelled must not drop the connection.
        Ok(connection.insert(live))
    }

    /// Resolves when an exchange or a queue seems to be missing.
    pub(super) async fn suspected(&self) {
        self.state.suspected.notified().await;
    }

    /// Declares the whole topology again.
    pub(super) async fn declare_again(&self) -> Result<(), BrokerError> {
        let declared = async {
            let mut connection = self.connection.lock().await;
            let live = self.live(&mut connection).await?;
            Ok(self.topology.declare(live).await?)
        };
        let declared = tokio::time::timeout(CONNECT_TIMEOUT, declared).await;
        declared.unwrap_or(Err(BrokerError::Timeout))?;
        metrics::counter!(crate::metrics::TOPOLOGY_DECLARED).increment(1);
        self.state.declared.send_modify(|declared| *declared += 1);
        Ok(())
    }

    async fn connect(&self) -> Result<Connection, BrokerError> {
        let connection = self.addresses.connect(&self.name, CONNECT_TIMEOUT).await?;
        let mut events = Box::pin(connection.events_listener());
        self.topology.declare(&connection).await?;
        let epoch = self.state.epoch.fetch_add(1, Ordering::Relaxed) + 1;
        self.state.set(epoch, Link::Up, "");
        let (state, status) = (Arc::clone(&self.state), connection.status().clone());
        #[expect(clippy::disallowed_methods, reason = "the task ends with its connection")]
        tokio::spawn(async move {
            let mut lost = "RabbitMQ connection lost".to_owned();
            while let Some(event) = events.next().await {
                match event {
                    Event::ConnectionBlocked(reason) => {
                        state.set(epoch, Link::Blocked, &format!("RabbitMQ blocks publishers: {reason}"));
                    }
                    Event::ConnectionUnblocked => state.set(epoch, Link::Up, ""),
                    // A closed channel is reported here, too; its user handles that, and opens another one.
                    Event::Error(error) if status.connected() && is_not_found(&error) => {
                        state.suspected.notify_one();
                    }
                    Event::Error(_) if status.connected() => {}
                    Event::Error(error) => {
                        lost = format!("RabbitMQ connection lost: {error}");
                        break;
                    }
                    _ => {}
                }
            }
            state.set(epoch, Link::Down, &lost);
        });
        Ok(connection)
    }

    /// Closes the connection, and waits at most one second for that. That is no failure: the health check does not hear of it.
    pub async fn close(&self) {
        self.state.closed();
        let closed = async {
            if let Some(connection) = self.connection.lock().await.take() {
                let _ = connection.close(200, "bye".into()).await;
            }
        };
        let _ = tokio::time::timeout(CLOSE_TIMEOUT, closed).await;
    }
}
