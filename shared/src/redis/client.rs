//! The connection to Redis.

use std::sync::Arc;
use std::time::{Duration, Instant};

use fred::prelude::*;
use fred::types::config::{ClusterDiscoveryPolicy, UnresponsiveConfig};
use fred::types::scripts::Script;
use futures_util::FutureExt as _;
use parking_lot::Mutex;
use socket2::TcpKeepalive;

use super::fault::is_wrong_server;
use crate::backoff::Backoff;
use crate::config::{self, ConfigError};
use crate::tls::TlsProblem;

/// Most commands that wait for Redis in one process; further ones fail at once.
const COMMANDS_MAX: usize = 10_000;

/// The shortest time between two times that the connection is given up because of the server's answers.
const RECONNECT_INTERVAL: Duration = Duration::from_secs(1);
/// How often that is logged.
const LOG_INTERVAL: Duration = Duration::from_secs(60);

/// The reason why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum RedisError {
    /// The address is malformed, or the server is configured in a way that loses counters.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// An error of the server or the connection.
    #[error("Redis: {0}")]
    Redis(#[from] fred::error::Error),
    /// The server was not reachable within the wait at the start.
    #[error("Redis at {url} (redis.url): {source}")]
    Unreachable {
        /// Its address, without credentials.
        url: String,
        /// The last failure.
        source: fred::error::Error,
    },
    /// The TLS handshake fails for a reason that a retry does not remove.
    #[error(transparent)]
    Tls(#[from] TlsProblem),
    /// An answer that the script never returns.
    #[error("Redis: unexpected answer: {0}")]
    Answer(String),
}

/// A pipelined, shared connection. Cheap to clone. It reconnects by itself; in the meantime commands fail after their
/// timeout.
#[derive(Clone)]
pub struct Client {
    inner: fred::clients::Client,
    given_up: Arc<Mutex<GivenUp>>,
}

/// When the connection was given up last, and when that was logged.
#[derive(Default)]
struct GivenUp {
    at: Option<Instant>,
    logged: Option<Instant>,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Client")
    }
}

/// Connects, and retries for up to `wait`. A server that may evict counters is refused.
///
/// # Errors
/// The last failure. A certificate that is refused fails at once.
pub async fn connect(settings: &config::Redis, wait: Duration) -> Result<Client, RedisError> {
    let timeout = Duration::from_millis(settings.command_timeout_ms.max(1));
    let parsed = Config::from_url(&to_redis_scheme(settings.url.expose()));
    let mut parsed =
        parsed.map_err(|_| ConfigError::key("redis.url", "is not redis://[user:password@]host:port[/db]"))?;
    if settings.tls().is_set() {
        parsed.tls = Some(TlsConnector::from(crate::tls::client(&settings.tls())?).into());
    }
    if parsed.server.is_clustered() {
        // Once connected, every known node tells the topology, so that the one in the address may be lost.
        parsed.server.set_cluster_discovery_policy(ClusterDiscoveryPolicy::UseCache)?;
    }
    let (deadline, mut backoff, mut is_logged) = (Instant::now() + wait, Backoff::dependency(), false);
    loop {
        let inner = built(parsed.clone(), timeout)?;
        let mut failures = inner.error_rx();
        let connected = async {
            // With a reconnect policy `init` never returns while the server is unreachable.
            tokio::time::timeout(timeout, inner.init()).await.map_err(|_| {
                fred::error::Error::new(fred::error::ErrorKind::Timeout, "no connection in time")
            })??;
            inner.ping::<()>(None).await
        };
        match connected.await {
            Ok(()) => {
                let client = Client { inner, given_up: Arc::default() };
                client.refuse_eviction().await?;
                return Ok(client);
            }
            Err(error) => {
                // Why an attempt failed says more than that it took too long.
                let failure = failures.try_recv().ok().map(|(failure, _)| failure);
                let error =
                    failure.filter(|_| *error.kind() == fred::error::ErrorKind::Timeout).unwrap_or(error);
                let _ = inner.quit().await;
                let url = settings.url.to_string();
                if let Some(problem) = TlsProblem::of(&settings.tls(), &url, &error) {
                    return Err(problem.into());
                }
                if Instant::now() >= deadline {
                    return Err(RedisError::Unreachable { url, source: error });
                }
                if !std::mem::replace(&mut is_logged, true) {
                    let wait_s = wait.as_secs();
                    tracing::warn!(%url, wait_s, %error, "Redis is not reachable at {url}; retrying for up to {wait_s} s");
                }
                tokio::time::sleep(backoff.next_delay()).await;
            }
        }
    }
}

/// A client that is not connected yet.
fn built(config: Config, timeout: Duration) -> Result<fred::clients::Client, fred::error::Error> {
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

/// fred knows `valkey://` only with a feature; the protocol is the same.
fn to_redis_scheme(url: &str) -> String {
    url.strip_prefix("valkey").map_or_else(|| url.to_owned(), |rest| format!("redis{rest}"))
}

impl Client {
    /// Counters have no expiry: the `volatile-*` policies never evict them, the `allkeys-*` policies may.
    async fn refuse_eviction(&self) -> Result<(), RedisError> {
        let asked: Result<std::collections::HashMap<String, String>, _> =
            self.inner.config_get("maxmemory-policy").await;
        let policy = match asked {
            Ok(mut answer) => answer.remove("maxmemory-policy").unwrap_or_default(),
            Err(error) => {
                // Managed servers often forbid CONFIG.
                tracing::warn!(%error, "Cannot read maxmemory-policy of Redis; make sure that it is noeviction or volatile-*");
                return Ok(());
            }
        };
        if policy.starts_with("allkeys") {
            let why =
                format!("its maxmemory-policy is {policy}, which may evict message counters: set noeviction");
            return Err(ConfigError::key("redis.url", why).into());
        }
        Ok(())
    }

    /// Whether the connection is established.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.inner.is_connected()
    }

    /// Closes the connection.
    pub async fn close(&self) {
        let _ = self.inner.quit().await;
    }

    /// Host and port of each configured server.
    #[must_use]
    pub fn servers(&self) -> Vec<(String, u16)> {
        let servers = self.inner.client_config().server.hosts();
        servers.into_iter().map(|server| (server.host.to_string(), server.port)).collect()
    }

    /// The number of objects that one script call may concern if their keys have no common hash tag: `most`, or 1 in a
    /// cluster, where they may be on different servers.
    pub(super) fn keys_together(&self, most: usize) -> usize {
        if self.inner.is_clustered() { 1 } else { most }
    }

    pub(super) async fn script<R: FromValue>(
        &self,
        script: &Script,
        keys: Vec<String>,
        arguments: Vec<String>,
    ) -> Result<R, RedisError> {
        let answer = script.evalsha_with_reload(&self.inner, keys, arguments).await;
        if let Err(error) = &answer {
            self.failed(error);
        }
        Ok(answer?)
    }

    /// Gives the connection up if `error` says that it leads to the wrong server, at most once per second. Each process
    /// calls a script that writes at least every two seconds, for its heartbeat.
    fn failed(&self, error: &fred::error::Error) {
        if !is_wrong_server(error.details()) {
            return;
        }
        let now = Instant::now();
        let is_past =
            |then: Option<Instant>, interval| then.is_none_or(|then| now.duration_since(then) > interval);
        let mut given_up = self.given_up.lock();
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
        let _ = self.inner.force_reconnection().now_or_never();
    }

    pub(super) fn raw(&self) -> &fred::clients::Client {
        &self.inner
    }
}
