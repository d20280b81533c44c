//! The sections that gateways and workers share. Every key has a default that suits one machine.

use std::fmt;
use std::time::Duration;

use serde::Deserialize;

use super::ConfigError;
use crate::shard::ShardCount;

/// An address that may contain a password: shown without it.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Url(String);

impl Url {
    /// The whole address, for the client library only.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl From<&str> for Url {
    fn from(url: &str) -> Self {
        Self(url.to_owned())
    }
}

/// What stands before the credentials and after them.
impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some((scheme, rest)) = self.0.split_once("://") else { return f.write_str("(no scheme)") };
        let host = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
        write!(f, "{scheme}://{}", host.split('?').next().unwrap_or_default())
    }
}

impl fmt::Debug for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// `[mysql]`: MySQL 8 or newer, or MariaDB 10.6 or newer.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Mysql {
    /// `mysql://user:password@host:port/schema`; the schema must exist. `?ssl-mode=VERIFY_IDENTITY` for production
    /// across a network.
    pub url: Url,
    /// Most connections at once.
    pub connections_max: u32,
}

impl Default for Mysql {
    fn default() -> Self {
        Self { url: "mysql://root@127.0.0.1:3306/im".into(), connections_max: 10 }
    }
}

/// `[redis]`: Redis 6.2 or newer, or Valkey; append-only file on, no eviction.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Redis {
    /// `redis://`, `rediss://` (TLS), `redis-cluster://`, `valkey://`.
    pub url: Url,
    /// A command that takes longer fails.
    pub command_timeout_ms: u64,
    /// How long a message's id is remembered. Later retries are found in MySQL, after a new number was taken in vain.
    pub sent_ttl_s: u32,
}

impl Default for Redis {
    fn default() -> Self {
        // 15 minutes: longer than any client's backed-off retry; at 10,000 messages a second about 1 GB.
        Self { url: "redis://127.0.0.1:6379".into(), command_timeout_ms: 3_000, sent_ttl_s: 900 }
    }
}

/// `[amqp]`: RabbitMQ 3.10 or newer.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Amqp {
    /// `amqp://user:password@host:port/vhost`, the root vhost written as `%2f`.
    pub url: Url,
    /// Begins every exchange and queue name, so that several deployments can share a broker.
    pub prefix: String,
    /// Both sides close a connection that was silent for twice as long.
    pub heartbeat_s: u16,
}

impl Default for Amqp {
    fn default() -> Self {
        Self { url: "amqp://guest:guest@127.0.0.1:5672/%2f".into(), prefix: "im".to_owned(), heartbeat_s: 10 }
    }
}

/// `[shards]`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Shards {
    /// Number of work queues. Stored at the first start; afterwards another value is refused. Not given: as stored, and
    /// [`ShardCount::DEFAULT`] at the first start.
    pub count: Option<u16>,
}

impl Shards {
    /// The checked number, if one is given.
    ///
    /// # Errors
    /// Names `shards.count`.
    pub fn checked(&self) -> Result<Option<ShardCount>, ConfigError> {
        let checked = |count| {
            ShardCount::new(count).ok_or_else(|| {
                ConfigError::key("shards.count", format!("{count} is not in 1..={}", ShardCount::MAX))
            })
        };
        self.count.map(checked).transpose()
    }
}

/// Shape of the log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For eyes.
    Human,
    /// One JSON object a line.
    Json,
}

/// `[log]`: always to standard output.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Log {
    /// `human` or `json`.
    pub format: LogFormat,
    /// As `RUST_LOG`: `info`, or `info,gateway::send=debug`.
    pub filter: String,
}

impl Default for Log {
    fn default() -> Self {
        Self { format: LogFormat::Human, filter: "info".to_owned() }
    }
}

/// `[start]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Start {
    /// How long to wait for MySQL, Redis and RabbitMQ before giving up with exit code 1.
    pub wait_s: u64,
}

impl Default for Start {
    fn default() -> Self {
        Self { wait_s: 60 }
    }
}

impl Start {
    /// The same as a duration.
    #[must_use]
    pub fn wait(&self) -> Duration {
        Duration::from_secs(self.wait_s)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_shown_without_credentials() {
        assert_eq!(Url::from("mysql://u:p@ss@host:1/db?x=secret").to_string(), "mysql://host:1/db");
        assert_eq!(format!("{:?}", Url::from("no-scheme-secret")), "(no scheme)");
    }
}
