//! The connection.

use std::time::{Duration, Instant};

use fred::prelude::*;
use fred::types::config::UnresponsiveConfig;
use fred::types::scripts::Script;

use crate::backoff::Backoff;
use crate::config::{self, ConfigError};

/// Commands that may wait for Redis at once in one process; beyond, they fail at once.
const COMMANDS_MAX: usize = 10_000;

/// Why Redis did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum RedisError {
    /// The address is none, or the server is set up in a way that would lose numbers.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// As the server or the connection says.
    #[error("Redis: {0}")]
    Redis(#[from] fred::error::Error),
    /// It was waited for in vain.
    #[error("Redis at {url} (redis.url): {source}")]
    Unreachable {
        /// Without credentials.
        url: String,
        /// The last failure.
        source: fred::error::Error,
    },
    /// An answer that the script cannot give.
    #[error("Redis: unexpected answer: {0}")]
    Answer(String),
}

/// A connection, pipelined and shared. Cheap to clone. It comes back by itself; meanwhile commands fail in time.
#[derive(Clone)]
pub struct Client {
    inner: fred::clients::Client,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Client")
    }
}

/// Connects, trying again until `patience` is over, and refuses a server that may forget counters.
///
/// # Errors
/// The last failure.
pub async fn connect(settings: &config::Redis, patience: Duration) -> Result<Client, RedisError> {
    let timeout = Duration::from_millis(settings.command_timeout_ms.max(1));
    let parsed = Config::from_url(&to_redis_scheme(settings.url.expose()));
    let parsed =
        parsed.map_err(|_| ConfigError::key("redis.url", "is not redis://[user:password@]host:port[/db]"))?;
    let (until, mut backoff, mut told) = (Instant::now() + patience, Backoff::dependency(), false);
    loop {
        let inner = Builder::from_config(parsed.clone())
            .with_performance_config(|p| p.default_command_timeout = timeout)
            .with_connection_config(|c| {
                c.connection_timeout = timeout;
                c.internal_command_timeout = timeout;
                c.tcp.nodelay = Some(true);
                // fred sends a command again when the connection breaks under it; all scripts here bear that.
                c.max_command_attempts = 2;
                c.max_command_buffer_len = COMMANDS_MAX;
                c.unresponsive = UnresponsiveConfig { max_timeout: Some(timeout * 2), interval: timeout };
            })
            .set_policy(ReconnectPolicy::new_exponential(0, 50, 2_000, 2))
            .build()?;
        let connected = async {
            // With a reconnect policy `init` itself would wait for ever.
            tokio::time::timeout(timeout, inner.init()).await.map_err(|_| {
                fred::error::Error::new(fred::error::ErrorKind::Timeout, "no connection in time")
            })??;
            inner.ping::<()>(None).await
        };
        match connected.await {
            Ok(()) => {
                let client = Client { inner };
                client.refuse_eviction().await?;
                return Ok(client);
            }
            Err(error) => {
                let _ = inner.quit().await;
                if Instant::now() >= until {
                    return Err(RedisError::Unreachable { url: settings.url.to_string(), source: error });
                }
                if !std::mem::replace(&mut told, true) {
                    tracing::warn!(url = %settings.url, %error, "waiting for Redis, up to {} s", patience.as_secs());
                }
                tokio::time::sleep(backoff.next_delay()).await;
            }
        }
    }
}

/// fred knows `valkey://`, but only behind a feature; the protocol is the same.
fn to_redis_scheme(url: &str) -> String {
    url.strip_prefix("valkey").map_or_else(|| url.to_owned(), |rest| format!("redis{rest}"))
}

impl Client {
    /// Not connected to anything: no command is ever answered. For tests of what asks Redis nothing.
    #[must_use]
    pub fn unconnected() -> Self {
        Self { inner: fred::clients::Client::default() }
    }

    /// Counters have no expiry, so the `volatile-*` policies spare them; the `allkeys-*` ones do not.
    async fn refuse_eviction(&self) -> Result<(), RedisError> {
        let asked: Result<std::collections::HashMap<String, String>, _> =
            self.inner.config_get("maxmemory-policy").await;
        let policy = match asked {
            Ok(mut answer) => answer.remove("maxmemory-policy").unwrap_or_default(),
            Err(error) => {
                // Managed servers often forbid CONFIG.
                tracing::warn!(%error, "cannot read maxmemory-policy: make sure that it is noeviction or volatile-*");
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

    /// Whether the connection is there.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.inner.is_connected()
    }

    /// Closes the connection.
    pub async fn close(&self) {
        let _ = self.inner.quit().await;
    }

    /// Things that one script call may be about if their keys have no common tag: `most`, or in a cluster one, because
    /// they may be on different servers.
    pub(super) fn keys_together(&self, most: usize) -> usize {
        if self.inner.is_clustered() { 1 } else { most }
    }

    pub(super) async fn script<R: FromValue>(
        &self,
        script: &Script,
        keys: Vec<String>,
        arguments: Vec<String>,
    ) -> Result<R, RedisError> {
        Ok(script.evalsha_with_reload(&self.inner, keys, arguments).await?)
    }

    pub(super) fn raw(&self) -> &fred::clients::Client {
        &self.inner
    }
}
