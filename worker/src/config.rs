//! The worker's settings. Each key has a default for a single machine.

pub(crate) mod live;

use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde::Deserialize;
use shared::amqp::PolicyWatch;
use shared::concurrency_limit::ConcurrencyLimit;
use shared::config::{
    Amqp, ConfigError, Feed, Files, Log, Mysql, Ops, Program, Redis, Shards, Start, Threads,
};
use shared::pace::Pacer;
use shared::shutdown::Shutdown;
use shared::traces::TraceSettings;

/// All sections. Unknown keys are refused; keys that only a gateway has are ignored.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The database.
    pub mysql: Mysql,
    /// Sequence numbers, inboxes and the liveness registry.
    pub redis: Redis,
    /// The broker.
    pub amqp: Amqp,
    /// The number of work queues.
    pub shards: Shards,
    /// Format and level of log lines.
    pub log: Log,
    /// Where traces are exported to.
    pub traces: Traces,
    /// How long to wait for a dependency at the start.
    pub start: Start,
    /// Threads of the process.
    pub runtime: Threads,
    /// Address of health checks and metrics.
    pub ops: Ops<OPS_PORT>,
    /// How messages are committed.
    pub commit: Commit,
    /// How events get to gateways.
    pub events: Events,
    /// The change feed.
    pub feed: Feed,
    /// Pictures and files.
    pub files: Files,
    /// Inboxes of users.
    pub inbox: Inbox,
    /// How to stop the worker.
    pub drain: Drain,
}

/// The default port of `ops.address`.
const OPS_PORT: u16 = 9090;

/// `[commit]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Commit {
    /// How long a missing sequence number is waited for before it is skipped. Longer than a gateway takes between
    /// numbering and publishing a message; if a gateway dies in between, the conversation stops for this long.
    pub hole_timeout_ms: u64,
    /// A transaction with this many messages takes no further body (a body has up to 256 and is never divided).
    pub batch_messages_max: usize,
    /// Most unacknowledged bodies per shard. They should suffice for the next batch to gather during a commit; more take
    /// more memory, and are processed again after a crash.
    pub prefetch_bodies: u16,
    /// Most transactions that run at once. Under load, waiting shards gather messages for fewer and larger transactions.
    pub transactions_at_once: usize,
    /// Milliseconds between two rounds of transactions at a medium or high rate, and 0.1 more for each message in them, up to 5.
    /// 0: none.
    pub interval_ms: u64,
}

impl Default for Commit {
    fn default() -> Self {
        Self {
            hole_timeout_ms: 2_000,
            batch_messages_max: 1_000,
            prefetch_bodies: 128,
            transactions_at_once: 1,
            interval_ms: 1,
        }
    }
}

/// How transactions are made, which can change while the worker runs.
#[derive(Debug)]
pub(crate) struct TransactionLimits {
    at_once: ConcurrencyLimit,
    pacer: Pacer,
    messages_max: AtomicUsize,
}

impl TransactionLimits {
    /// The checked values of [`Commit`].
    pub(crate) fn new(commit: &Commit) -> Self {
        Self {
            at_once: ConcurrencyLimit::new(commit.transactions_at_once),
            pacer: Pacer::new(Duration::from_millis(commit.interval_ms)),
            messages_max: AtomicUsize::new(commit.batch_messages_max),
        }
    }

    /// Applies the checked values of `commit` from the next transaction on.
    pub(crate) fn set(&self, commit: &Commit, tasks: &Shutdown) {
        self.at_once.resize(commit.transactions_at_once, tasks);
        self.pacer.set_interval(Duration::from_millis(commit.interval_ms));
        self.messages_max.store(commit.batch_messages_max, Ordering::Relaxed);
    }

    /// The transactions that run at once; the queues of waiting shards gather larger batches meanwhile.
    pub(crate) fn at_once(&self) -> &ConcurrencyLimit {
        &self.at_once
    }

    /// The rounds in which transactions begin.
    pub(crate) fn pacer(&self) -> &Pacer {
        &self.pacer
    }

    /// A batch with this many messages takes no further body.
    pub(crate) fn messages_max(&self) -> NonZeroUsize {
        NonZeroUsize::new(self.messages_max.load(Ordering::Relaxed)).unwrap_or(NonZeroUsize::MIN)
    }
}

/// Settings of all shard tasks; the checked values of [`Commit`].
#[derive(Debug, Clone, Copy)]
pub struct ShardSettings {
    /// Most unacknowledged bodies per shard.
    pub prefetch_bodies: u16,
    /// How long a missing sequence number is waited for.
    pub hole_timeout: Duration,
}

/// `[traces]`. Which messages have a trace is decided by the gateways.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Traces {
    /// Where traces are exported to by OTLP over HTTP, without the path; empty: this worker adds nothing to traces.
    pub otlp_endpoint: String,
    /// The name of the service in traces; empty: `im-worker`, and `im-gateway` for a gateway.
    pub service_name: String,
}

/// `[events]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Events {
    /// The events of private chats and small groups go only to the gateways to which a member is connected if at least this
    /// many gateways are alive. 0: all events go to all gateways.
    pub targeted_from_gateways: usize,
}

impl Default for Events {
    fn default() -> Self {
        Self { targeted_from_gateways: 4 }
    }
}

/// `[inbox]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Inbox {
    /// Lifetime in seconds of an inbox that is not read; must be the same as that of the gateways.
    pub ttl_s: u32,
}

impl Default for Inbox {
    fn default() -> Self {
        Self { ttl_s: shared::redis::inbox::TTL_S_DEFAULT }
    }
}

/// `[drain]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Drain {
    /// How long the current batches may take after SIGTERM. Those that take longer are left to other workers.
    pub grace_ms: u64,
}

impl Default for Drain {
    fn default() -> Self {
        Self { grace_ms: 10_000 }
    }
}

impl Drain {
    /// [`grace_ms`](Self::grace_ms) as a duration.
    #[must_use]
    pub fn grace(&self) -> Duration {
        Duration::from_millis(self.grace_ms)
    }
}

impl Config {
    /// Reads `file`, if there is one, and the environment.
    ///
    /// # Errors
    /// Names the invalid key.
    pub fn load(file: Option<&Path>) -> Result<Self, ConfigError> {
        shared::config::load(Program::Worker, file, |mut config: Self| {
            config.shard_settings()?;
            config.shards.checked()?;
            config.runtime.check()?;
            config.mysql.check()?;
            config.redis.check()?;
            config.amqp.check()?;
            TraceSettings::check(&config.traces.otlp_endpoint)?;
            PolicyWatch::check(&config.amqp)?;
            config.feed.check()?;
            config.files = config.files.validated()?;
            shared::advertised_address::check("ops.advertise", &config.ops.advertise)?;
            Ok(config)
        })
    }

    /// The checked values of `[commit]`.
    ///
    /// # Errors
    /// Names the key with an invalid value.
    pub fn shard_settings(&self) -> Result<ShardSettings, ConfigError> {
        let Commit {
            hole_timeout_ms,
            batch_messages_max,
            prefetch_bodies,
            transactions_at_once,
            interval_ms,
        } = self.commit;
        if !(100..=60_000).contains(&hole_timeout_ms) {
            return Err(ConfigError::key("commit.hole_timeout_ms", "is not in 100..=60000"));
        }
        if !(1..=10_000).contains(&batch_messages_max) {
            return Err(ConfigError::key("commit.batch_messages_max", "is not in 1..=10000"));
        }
        // 0 means no limit for the broker.
        if !(1..=10_000).contains(&prefetch_bodies) {
            return Err(ConfigError::key("commit.prefetch_bodies", "is not in 1..=10000"));
        }
        if !(1..=4_096).contains(&transactions_at_once) {
            return Err(ConfigError::key("commit.transactions_at_once", "is not in 1..=4096"));
        }
        if interval_ms > 100 {
            return Err(ConfigError::key("commit.interval_ms", "is above 100"));
        }
        let hole_timeout = Duration::from_millis(hole_timeout_ms);
        Ok(ShardSettings { prefetch_bodies, hole_timeout })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_valid() {
        let settings = Config::default().shard_settings().unwrap();
        assert_eq!(settings.hole_timeout, Duration::from_secs(2));
        assert_eq!(TransactionLimits::new(&Config::default().commit).messages_max().get(), 1_000);
    }

    #[test]
    fn the_sample_file_equals_the_defaults() {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/config/worker.toml");
        let sample: Config =
            shared::config::load_from(Program::Worker, Some(&file), Default::default()).unwrap();
        assert_eq!(format!("{sample:?}"), format!("{:?}", Config::default()));
        let text = std::fs::read_to_string(file).unwrap();
        assert_eq!(shared::config::sample::differing_keys(&Config::default(), &text), [""; 0]);
    }

    #[test]
    fn an_invalid_value_is_reported_with_its_key() {
        for (commit, key) in [
            (Commit { hole_timeout_ms: 0, ..Commit::default() }, "commit.hole_timeout_ms"),
            (Commit { batch_messages_max: 0, ..Commit::default() }, "commit.batch_messages_max"),
            (Commit { prefetch_bodies: 0, ..Commit::default() }, "commit.prefetch_bodies"),
            (Commit { transactions_at_once: 0, ..Commit::default() }, "commit.transactions_at_once"),
        ] {
            let error = Config { commit, ..Config::default() }.shard_settings().unwrap_err();
            assert!(error.to_string().contains(key), "{error}");
        }
    }
}
