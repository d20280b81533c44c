//! The sections that gateways and workers share. Every key has a default for a deployment on one machine.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use super::load::ConfigError;
use super::store_tls::StoreTls;
use crate::shard::ShardLayout;

/// An address that may contain a password, which is never printed.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Url(String);

impl Url {
    /// The whole address, with its credentials, for the client library.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// The addresses of a list with commas between them, with their credentials. A comma that no scheme follows belongs to
    /// an address.
    pub(crate) fn each(&self) -> impl Iterator<Item = &str> {
        let is_list = self.0.contains(',') && self.0.split(',').all(|part| part.contains("://"));
        self.0.split(move |c| is_list && c == ',').map(str::trim)
    }
}

impl From<&str> for Url {
    fn from(url: &str) -> Self {
        Self(url.to_owned())
    }
}

/// The address without its credentials and parameters.
impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, url) in self.each().enumerate() {
            let Some((scheme, rest)) = url.split_once("://") else { return f.write_str("(no scheme)") };
            let host = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
            let comma = if n > 0 { "," } else { "" };
            write!(f, "{comma}{scheme}://{}", host.split('?').next().unwrap_or_default())?;
        }
        Ok(())
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
    /// Most connections at the same time.
    pub connections_max: u32,
    /// Longest that a statement, or a whole transaction, may take; then its connection is closed, and it has failed.
    pub timeout_ms: u64,
    /// A PEM file with certificates of authorities that sign the server's certificate, trusted beside the public ones. Empty:
    /// public authorities only.
    pub tls_ca: PathBuf,
    /// A PEM file with the certificate by which the process logs in to the server, and its intermediate ones.
    pub tls_cert: PathBuf,
    /// A PEM file with the private key of `tls_cert`, without a passphrase.
    pub tls_key: PathBuf,
}

impl Mysql {
    /// The files of TLS.
    #[must_use]
    pub fn tls(&self) -> StoreTls<'_> {
        let (ca, cert, key) = (&self.tls_ca, &self.tls_cert, &self.tls_key);
        StoreTls { section: "mysql", ca, cert, key }
    }

    /// [`timeout_ms`](Self::timeout_ms) as a duration.
    #[must_use]
    pub fn timeout(&self) -> Duration {
        Duration::from_millis(self.timeout_ms)
    }

    /// Checks the ranges of all keys.
    ///
    /// # Errors
    /// Names the key.
    pub fn check(&self) -> Result<(), ConfigError> {
        if !(1_000..=600_000).contains(&self.timeout_ms) {
            return Err(ConfigError::key("mysql.timeout_ms", "is not in 1000..=600000"));
        }
        let url = self.url.expose();
        let mode = url.split_once("ssl-mode=").or(url.split_once("sslmode=")).map(|(_, mode)| mode);
        let verifies = mode.is_none_or(|mode| mode.to_ascii_uppercase().starts_with("VERIFY_"));
        self.tls()
            .check(verifies, "has an ssl-mode that checks no certificate: write VERIFY_IDENTITY, or none")
    }
}

impl Default for Mysql {
    fn default() -> Self {
        Self {
            url: "mysql://root@127.0.0.1:3306/im".into(),
            connections_max: 10,
            timeout_ms: 10_000,
            tls_ca: PathBuf::new(),
            tls_cert: PathBuf::new(),
            tls_key: PathBuf::new(),
        }
    }
}

/// `[redis]`: Redis 6.2 or newer, or Valkey; append-only file on, no eviction.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Redis {
    /// `redis://`, `rediss://` (TLS), `valkey://`; `redis-cluster://host:port?node=host2:port2`;
    /// `redis-sentinel://host:port?sentinelServiceName=NAME&node=host2:port2` with the addresses of Sentinels.
    pub url: Url,
    /// The timeout of a command.
    pub command_timeout_ms: u64,
    /// The time for which the id of a message is remembered. A later retry is found in MySQL, and its new sequence number is
    /// voided.
    pub sent_ttl_s: u32,
    /// A PEM file with certificates of authorities that sign the server's certificate, trusted beside the public ones. Empty:
    /// public authorities only.
    pub tls_ca: PathBuf,
    /// A PEM file with the certificate by which the process logs in to the server, and its intermediate ones.
    pub tls_cert: PathBuf,
    /// A PEM file with the private key of `tls_cert`, without a passphrase.
    pub tls_key: PathBuf,
}

impl Redis {
    /// The files of TLS.
    #[must_use]
    pub fn tls(&self) -> StoreTls<'_> {
        let (ca, cert, key) = (&self.tls_ca, &self.tls_cert, &self.tls_key);
        StoreTls { section: "redis", ca, cert, key }
    }

    /// Checks the files of TLS.
    ///
    /// # Errors
    /// Names the key.
    pub fn check(&self) -> Result<(), ConfigError> {
        let scheme = self.url.expose().split(['-', ':']).next().unwrap_or_default();
        self.tls()
            .check(matches!(scheme, "rediss" | "valkeys"), "has no TLS: write rediss:// (rediss-cluster://)")
    }
}

impl Default for Redis {
    fn default() -> Self {
        // 15 minutes: longer than a client's longest delay between retries; about 1 GB at 10,000 messages per second.
        Self {
            url: "redis://127.0.0.1:6379".into(),
            command_timeout_ms: 3_000,
            sent_ttl_s: 900,
            tls_ca: PathBuf::new(),
            tls_cert: PathBuf::new(),
            tls_key: PathBuf::new(),
        }
    }
}

/// `[amqp]`: RabbitMQ 3.10 or newer.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Amqp {
    /// `amqp://user:password@host:port/vhost`; the root vhost is written as `%2f`. The nodes of a cluster are several
    /// addresses with commas between them: the next one is tried when one does not answer.
    pub url: Url,
    /// The prefix of every exchange and queue name, so that several deployments can share a broker.
    pub prefix: String,
    /// The heartbeat interval; both sides close a connection after twice this time without traffic.
    pub heartbeat_s: u16,
    /// RabbitMQ's management API, `http://` or `https://`, where the policies of queues are looked at: AMQP does not show
    /// them. User and password are those of `url`, unless they are given. Empty: policies are not looked at.
    pub management_url: Url,
    /// What to do about a policy that deletes accepted messages.
    pub on_harmful_policy: OnHarmfulPolicy,
    /// A PEM file with certificates of authorities that sign the server's certificate, trusted beside the public ones. Empty:
    /// public authorities only.
    pub tls_ca: PathBuf,
    /// A PEM file with the certificate by which the process logs in to the server, and its intermediate ones.
    pub tls_cert: PathBuf,
    /// A PEM file with the private key of `tls_cert`, without a passphrase.
    pub tls_key: PathBuf,
}

impl Amqp {
    /// The files of TLS.
    #[must_use]
    pub fn tls(&self) -> StoreTls<'_> {
        let (ca, cert, key) = (&self.tls_ca, &self.tls_cert, &self.tls_key);
        StoreTls { section: "amqp", ca, cert, key }
    }

    /// Checks the files of TLS.
    ///
    /// # Errors
    /// Names the key.
    pub fn check(&self) -> Result<(), ConfigError> {
        let has_tls = self.url.each().all(|url| url.starts_with("amqps://"));
        self.tls().check(has_tls, "has no TLS: write amqps://")
    }
}

/// What to do about a policy that deletes accepted messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnHarmfulPolicy {
    /// An error is logged.
    Warn,
    /// The process is also not ready.
    Refuse,
}

impl Default for Amqp {
    fn default() -> Self {
        Self {
            url: "amqp://guest:guest@127.0.0.1:5672/%2f".into(),
            prefix: "im".to_owned(),
            heartbeat_s: 10,
            management_url: "".into(),
            on_harmful_policy: OnHarmfulPolicy::Warn,
            tls_ca: PathBuf::new(),
            tls_cert: PathBuf::new(),
            tls_key: PathBuf::new(),
        }
    }
}

/// `[shards]`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Shards {
    /// The number of work queues at the first start, which stores it; 1 if not given. Afterwards the stored number counts, which
    /// `imctl shards set` changes, and another value is ignored with a warning.
    pub count: Option<u16>,
}

impl Shards {
    /// The checked number, if it is given.
    ///
    /// # Errors
    /// Names `shards.count`.
    pub fn checked(&self) -> Result<Option<ShardLayout>, ConfigError> {
        let checked = |count| {
            ShardLayout::new(count).ok_or_else(|| {
                ConfigError::key("shards.count", format!("{count} is not in 1..={}", ShardLayout::MAX))
            })
        };
        self.count.map(checked).transpose()
    }
}

/// The format of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Text.
    Human,
    /// One JSON object per line.
    Json,
}

/// `[log]`: logs are written to standard output.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Log {
    /// `human` or `json`.
    pub format: LogFormat,
    /// A filter in the syntax of `RUST_LOG`: `info`, or `info,gateway::send=debug`. lapin logs only if it is named.
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
    /// The time for which the process retries to reach MySQL, Redis and RabbitMQ before it exits with code 1.
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

/// `[runtime]`: the threads that carry connections and statements.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Threads {
    /// Threads of the process, at most 1,024. 0: one for each core, and one in all on machines with one or two cores, where
    /// the process shares them with others.
    pub threads: usize,
}

/// On so few cores several threads mostly wake each other, as measured in docs/performance.md.
const CORES_OF_ONE_THREAD: usize = 2;

impl Threads {
    /// The number of threads on a machine with `cores`.
    #[must_use]
    pub fn on(self, cores: usize) -> usize {
        match self.threads {
            0 if cores <= CORES_OF_ONE_THREAD => 1,
            0 => cores,
            threads => threads,
        }
    }

    /// Checks the range.
    ///
    /// # Errors
    /// Names the key.
    pub fn check(self) -> Result<(), ConfigError> {
        if self.threads > 1_024 {
            return Err(ConfigError::key("runtime.threads", "is above 1024"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_machines_have_one_thread_unless_the_number_is_set() {
        for (threads, cores, expected) in
            [(0, 1, 1), (0, 2, 1), (0, 3, 3), (0, 64, 64), (1, 64, 1), (4, 2, 4)]
        {
            assert_eq!(Threads { threads }.on(cores), expected, "{threads} set, {cores} cores");
        }
        assert!(Threads { threads: 1_024 }.check().is_ok());
        assert!(Threads { threads: 1_025 }.check().is_err());
    }

    #[test]
    fn addresses_are_shown_without_credentials() {
        assert_eq!(Url::from("mysql://u:p@ss@host:1/db?x=secret").to_string(), "mysql://host:1/db");
        assert_eq!(format!("{:?}", Url::from("no-scheme-secret")), "(no scheme)");
        let list = "amqp://u:p@ss@a:1/v?x=y, amqp://u:secret@b/v";
        assert_eq!(Url::from(list).to_string(), "amqp://a:1/v,amqp://b/v");
        assert_eq!(Url::from("mysql://u:pa,ss@a/db").to_string(), "mysql://a/db");
    }
}
