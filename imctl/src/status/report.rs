//! What `imctl status --json` prints.

use serde::Serialize;

/// The state of a deployment.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Status {
    /// What is wrong.
    pub(super) findings: Vec<Finding>,
    /// What could not be looked at, and why.
    pub(super) unknown: Vec<String>,
    pub(super) processes: Vec<Process>,
    /// `None`: unknown.
    pub(super) shards: Option<Vec<Shard>>,
    /// The change of the number of shards that is in progress.
    pub(super) shards_change: Option<ShardsChange>,
    /// Messages, or bodies, in the dead-letter queue; `None`: unknown, or there is no such queue yet.
    pub(super) dead_letters: Option<u32>,
    pub(super) stores: Stores,
    /// Webhooks that have failed for longer than a quarter of an hour.
    pub(super) webhooks_failing: Vec<FailingWebhook>,
    /// Migrations of this version that the schema does not have; `None`: unknown.
    pub(super) migrations_pending: Option<usize>,
}

/// A change of the number of shards.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct ShardsChange {
    pub(super) from: u16,
    pub(super) to: u16,
    /// `announced`, `paused`, `draining`, `retiring` or `removing`.
    pub(super) phase: &'static str,
}

/// A webhook that fails, in one shard of the change feed at least.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct FailingWebhook {
    pub(super) id: String,
    pub(super) failing_since_ms: i64,
    pub(super) last_error: String,
}

/// Something that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Finding {
    /// Stable name of the kind.
    pub(super) code: &'static str,
    /// What is wrong, and what to do.
    pub(super) message: String,
}

/// A live gateway or worker.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Process {
    pub(super) role: &'static str,
    pub(super) id: String,
    /// Where it serves its metrics.
    pub(super) address: Option<String>,
    pub(super) version: Option<String>,
    pub(super) started_at_ms: Option<i64>,
    pub(super) is_ready: Option<bool>,
    /// Of a gateway: open WebSockets.
    pub(super) connections: Option<u64>,
    /// Of a worker: the shards that it consumes.
    pub(super) shards: Option<Vec<u16>>,
    /// Queues with a policy that deletes messages, as the process saw it.
    pub(super) harmful_policies: Option<u64>,
    /// It adds what it commits to the change feed.
    pub(super) is_feeding: Option<bool>,
    /// Why its metrics are missing.
    pub(super) error: Option<String>,
}

/// A work queue.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Shard {
    pub(super) shard: u16,
    /// Ids of the workers that say that they consume it.
    pub(super) owners: Vec<String>,
    /// Consumers of the queue; one of them is active. `None`: there is no such queue, or it is unknown.
    pub(super) consumers: Option<u32>,
    /// Bodies (batches of up to 256 messages) that wait.
    pub(super) ready_bodies: Option<u32>,
    /// Bodies that the owner has not acknowledged.
    pub(super) unacked_bodies: Option<u64>,
    /// How long ago the oldest body was published that its owner has received and not acknowledged, in milliseconds; 0 if
    /// there is none.
    pub(super) oldest_body_ms: Option<i64>,
    /// Messages that wait for a lower sequence number.
    pub(super) held_messages: Option<u64>,
}

/// The versions of the stores.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Stores {
    pub(super) mysql: Store,
    pub(super) redis: Store,
    pub(super) rabbitmq: Store,
}

/// One store.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Store {
    /// Its address, without credentials.
    pub(super) url: String,
    pub(super) is_reachable: bool,
    /// `None`: unknown. RabbitMQ says it only through its management API.
    pub(super) version: Option<String>,
}
