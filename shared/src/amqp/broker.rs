//! One connection to RabbitMQ that is made again whenever it is lost.
//!
//! lapin's own recovery is off: it replays only part of what a channel had. Whoever uses a channel gets a new one here
//! after any error, and declares or consumes again. Publishing and consuming use a [`Broker`] each, because the server
//! stops reading from a blocked connection, acknowledgements included.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use lapin::uri::AMQPUri;
use lapin::{Channel, Connection, ConnectionProperties, Event};
use tokio::sync::{Mutex, watch};

use super::Topology;
use crate::backoff::Backoff;
use crate::config::{Amqp, ConfigError};
use crate::health::Check;

/// Longest that connecting, or opening a channel, may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How long newly declared quorum queues are left alone. RabbitMQ (3.10 at least) confirms a declaration before the name
/// of the queue's log is on disk: its table of names is saved when nothing has touched it for half a second. Killed
/// before, it starts the queue anew, empty and without a leader, and what was confirmed is gone.
const QUEUES_SETTLE: Duration = Duration::from_secs(1);

/// Why there is no channel at the moment. All of it is worth another attempt.
#[derive(Debug, thiserror::Error)]
pub enum BrokerError {
    /// As lapin says.
    #[error(transparent)]
    Lapin(#[from] lapin::Error),
    /// It was waited for in vain.
    #[error("RabbitMQ at {url} (amqp.url): {source}")]
    Unreachable {
        /// Without credentials.
        url: String,
        /// The last failure.
        source: Box<BrokerError>,
    },
    /// No answer in time.
    #[error("RabbitMQ did not answer within {} s", CONNECT_TIMEOUT.as_secs())]
    Timeout,
}

/// What is known about the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Link {
    /// Not connected.
    Down,
    /// Connected.
    Up,
    /// Connected, but the broker takes nothing (memory or disk alarm).
    Blocked,
}

/// A connection for one purpose, shared by its users' channels.
#[derive(Debug)]
pub struct Broker {
    uri: AMQPUri,
    /// As shown.
    url: String,
    name: String,
    topology: Topology,
    connection: Mutex<Option<Connection>>,
    state: Arc<State>,
}

/// What the watcher of the current connection says; watchers of earlier ones are not heard.
#[derive(Debug)]
struct State {
    link: watch::Sender<Link>,
    epoch: AtomicU64,
    check: Check,
}

impl State {
    /// Whatever watches the connection is not heard any more.
    fn closed(&self) {
        self.epoch.fetch_add(1, Ordering::Relaxed);
        self.link.send_replace(Link::Down);
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
            std::mem::replace(now, link) != link
        });
    }
}

impl Broker {
    /// Prepares a connection; the first [`channel`](Self::channel) makes it. `name` is shown in RabbitMQ's management.
    ///
    /// # Errors
    /// Names `amqp.url` where it is not an AMQP address.
    pub fn new(settings: &Amqp, topology: Topology, name: &str, check: Check) -> Result<Self, ConfigError> {
        let mut uri: AMQPUri =
            settings.url.expose().parse().map_err(|e: String| ConfigError::key("amqp.url", e))?;
        uri.query.heartbeat.get_or_insert(settings.heartbeat_s);
        let state = Arc::new(State { link: watch::channel(Link::Down).0, epoch: AtomicU64::new(0), check });
        Ok(Self {
            uri,
            url: settings.url.to_string(),
            name: name.to_owned(),
            topology,
            connection: Mutex::new(None),
            state,
        })
    }

    /// The names to use on this connection.
    #[must_use]
    pub fn topology(&self) -> &Topology {
        &self.topology
    }

    /// Up, down or blocked; changes can be awaited.
    #[must_use]
    pub fn link(&self) -> watch::Receiver<Link> {
        self.state.link.subscribe()
    }

    /// Whether the broker has said that it takes nothing now.
    #[must_use]
    pub fn is_blocked(&self) -> bool {
        *self.state.link.borrow() == Link::Blocked
    }

    /// Whether a publish can go out right now.
    #[must_use]
    pub(crate) fn is_up(&self) -> bool {
        *self.state.link.borrow() == Link::Up
    }

    /// A new channel, on a new connection if the old one is gone. The topology is declared on each new connection.
    ///
    /// # Errors
    /// [`BrokerError`]: try again after a while.
    pub async fn channel(&self) -> Result<Channel, BrokerError> {
        let made =
            tokio::time::timeout(CONNECT_TIMEOUT, self.open()).await.unwrap_or(Err(BrokerError::Timeout));
        if let Err(error) = &made {
            self.state.check.fail(error.to_string());
        }
        made
    }

    /// Connects, trying again until `patience` is over. To be called once, at the start of a process, before anything is
    /// published.
    ///
    /// # Errors
    /// The last failure.
    pub async fn wait_until_up(&self, patience: Duration) -> Result<(), BrokerError> {
        let (until, mut backoff, mut told) = (Instant::now() + patience, Backoff::dependency(), false);
        loop {
            let Err(error) = self.channel().await else {
                tokio::time::sleep(QUEUES_SETTLE).await;
                return Ok(());
            };
            if Instant::now() >= until {
                return Err(BrokerError::Unreachable { url: self.url.clone(), source: Box::new(error) });
            }
            if !std::mem::replace(&mut told, true) {
                tracing::warn!(url = %self.url, %error, "waiting for RabbitMQ, up to {} s", patience.as_secs());
            }
            tokio::time::sleep(backoff.next_delay()).await;
        }
    }

    async fn open(&self) -> Result<Channel, BrokerError> {
        let mut connection = self.connection.lock().await;
        let usable = connection.take().filter(|c| c.status().connected());
        let live = match usable {
            Some(live) => live,
            None => self.connect().await?,
        };
        // Put back before the next await: a caller that gives up must not take the connection with it.
        let channel = connection.insert(live).create_channel();
        Ok(channel.await?)
    }

    async fn connect(&self) -> Result<Connection, BrokerError> {
        let properties = ConnectionProperties::default().with_connection_name(self.name.as_str().into());
        let connection = Connection::connect_uri(self.uri.clone(), properties).await?;
        let mut events = Box::pin(connection.events_listener());
        let channel = connection.create_channel().await?;
        self.topology.declare(&channel).await?;
        // A channel that nobody needs any more; an error while closing it changes nothing.
        let _ = channel.close(200, "declared".into()).await;
        let epoch = self.state.epoch.fetch_add(1, Ordering::Relaxed) + 1;
        self.state.set(epoch, Link::Up, "");
        let (state, status) = (Arc::clone(&self.state), connection.status().clone());
        tokio::spawn(async move {
            let mut lost = "RabbitMQ connection lost".to_owned();
            while let Some(event) = events.next().await {
                match event {
                    Event::ConnectionBlocked(reason) => {
                        state.set(epoch, Link::Blocked, &format!("RabbitMQ blocks publishers: {reason}"));
                    }
                    Event::ConnectionUnblocked => state.set(epoch, Link::Up, ""),
                    // A closed channel is told here too; that is its user's concern.
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

    /// Closes the connection in order, at most for a second. That is no failure: the health check does not hear of it.
    pub async fn close(&self) {
        self.state.closed();
        if let Some(connection) = self.connection.lock().await.take() {
            let _ = tokio::time::timeout(Duration::from_secs(1), connection.close(200, "bye".into())).await;
        }
    }
}
