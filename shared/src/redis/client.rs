//! The connection to Redis.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fred::prelude::*;
use fred::types::InfoKind;
use fred::types::scripts::Script;
use parking_lot::Mutex;

use super::discovery::Discovery;
use super::error::RedisError;
use super::fault::is_wrong_server;
use super::node::{self, Connecting, GivenUp};
use crate::backoff::Backoff;
use crate::config::{self, ConfigError};
use crate::tls::TlsProblem;

/// A pipelined, shared connection to each server. Cheap to clone. It reconnects by itself; in the meantime commands fail after
/// their timeout.
#[derive(Clone)]
pub struct Client {
    servers: Servers,
    /// Host and port of each configured server.
    configured: Arc<Vec<(String, u16)>>,
}

#[derive(Clone)]
enum Servers {
    One(Arc<One>),
    /// A cluster, or those behind Sentinel.
    Many(Arc<Discovery>),
}

struct One {
    client: fred::clients::Client,
    _connecting: Connecting,
    given_up: Mutex<GivenUp>,
}

impl Servers {
    async fn connect(config: Config, timeout: Duration) -> Result<Self, fred::error::Error> {
        if let Some(discovery) = Discovery::start(&config, timeout).await? {
            return Ok(Self::Many(discovery));
        }
        let (client, connecting) = node::connect(config, timeout, timeout).await?;
        Ok(Self::One(Arc::new(One { client, _connecting: connecting, given_up: Mutex::default() })))
    }
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
    let configured = parsed.server.hosts().into_iter().map(|server| (server.host.to_string(), server.port));
    let configured = Arc::new(configured.collect());
    let (deadline, mut backoff, mut is_logged) = (Instant::now() + wait, Backoff::dependency(), false);
    loop {
        match Servers::connect(parsed.clone(), timeout).await {
            Ok(servers) => {
                let client = Client { servers, configured };
                client.refuse_eviction().await?;
                return Ok(client);
            }
            Err(error) => {
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

/// fred knows `valkey://` only with a feature; the protocol is the same.
fn to_redis_scheme(url: &str) -> String {
    url.strip_prefix("valkey").map_or_else(|| url.to_owned(), |rest| format!("redis{rest}"))
}

impl Client {
    /// Counters have no expiry: the `volatile-*` policies never evict them, the `allkeys-*` policies may.
    async fn refuse_eviction(&self) -> Result<(), RedisError> {
        for client in self.each() {
            Self::refuse_eviction_of(&client).await?;
        }
        Ok(())
    }

    async fn refuse_eviction_of(client: &fred::clients::Client) -> Result<(), RedisError> {
        let asked: Result<std::collections::HashMap<String, String>, _> =
            client.config_get("maxmemory-policy").await;
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

    /// The runs of all servers, each another one after a restart of its server; without those of servers that may evict keys
    /// with an expiry.
    ///
    /// # Errors
    /// A server does not answer.
    pub(super) async fn runs(&self) -> Result<BTreeSet<String>, RedisError> {
        let mut runs = BTreeSet::new();
        for client in self.each() {
            let info: String = client.info(Some(InfoKind::Server)).await?;
            let memory: String = client.info(Some(InfoKind::Memory)).await?;
            let run = node::info_field(&info, "run_id").unwrap_or_default();
            let policy = node::info_field(&memory, "maxmemory_policy").unwrap_or_default();
            let is_limited = node::info_field(&memory, "maxmemory").is_some_and(|bytes| bytes != "0");
            if !is_limited || policy == "noeviction" {
                runs.insert(run.to_owned());
            }
        }
        Ok(runs)
    }

    /// Whether there is a connection, to at least one of several servers.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        match &self.servers {
            Servers::One(one) => one.client.is_connected(),
            Servers::Many(discovery) => !discovery.usable().is_empty(),
        }
    }

    /// Closes the connections.
    pub async fn close(&self) {
        for client in self.each() {
            let _ = client.quit().await;
        }
    }

    /// Host and port of each configured server.
    #[must_use]
    pub fn servers(&self) -> Vec<(String, u16)> {
        self.configured.to_vec()
    }

    /// The number of objects that one script call may concern if their keys have no common hash tag: `most`, or 1 in a
    /// cluster, where they may be on different servers.
    pub(super) fn keys_together(&self, most: usize) -> usize {
        match &self.servers {
            Servers::Many(discovery) if discovery.is_cluster() => 1,
            Servers::One(_) | Servers::Many(_) => most,
        }
    }

    pub(super) async fn script<R: FromValue>(
        &self,
        script: &Script,
        keys: Vec<String>,
        arguments: Vec<String>,
    ) -> Result<R, RedisError> {
        let discovery = match &self.servers {
            Servers::One(one) => {
                let answer = script.evalsha_with_reload(&one.client, keys, arguments).await;
                return answer.map_err(|error| one.failed(error));
            }
            Servers::Many(discovery) => discovery,
        };
        let key = keys.first().cloned().unwrap_or_default();
        let call = |client: fred::clients::Client, asking| {
            let (keys, arguments) = (keys.clone(), arguments.clone());
            async move {
                match script.lua().filter(|_| asking) {
                    // One command: another one would need another ASKING.
                    Some(lua) => client.eval(lua.clone(), keys, arguments).await,
                    None => script.evalsha_with_reload(&client, keys, arguments).await,
                }
            }
        };
        // A single server must not pay for the size of this one.
        Box::pin(discovery.at(&key, call)).await
    }

    /// Makes `call`, a single command for `key`, at the server of the key.
    pub(super) async fn at<T, F>(
        &self,
        key: &str,
        call: impl Fn(fred::clients::Client) -> F,
    ) -> Result<T, RedisError>
    where
        F: Future<Output = Result<T, fred::error::Error>>,
    {
        match &self.servers {
            Servers::One(one) => call(one.client.clone()).await.map_err(|error| one.failed(error)),
            Servers::Many(discovery) => Box::pin(discovery.at(key, |client, _| call(client))).await,
        }
    }

    /// A client of each server, of which some may be lost.
    pub(super) fn each(&self) -> Vec<fred::clients::Client> {
        match &self.servers {
            Servers::One(one) => vec![one.client.clone()],
            Servers::Many(discovery) => discovery.clients(),
        }
    }
}

impl One {
    /// Gives the connection up if `error` says that it leads to the wrong server. Each process calls a script that writes at
    /// least every two seconds, for its heartbeat.
    fn failed(&self, error: fred::error::Error) -> RedisError {
        if is_wrong_server(error.details()) {
            GivenUp::give_up(&self.given_up, &self.client, &error);
        }
        error.into()
    }
}
