//! The gauges of a shard.

use shared::metrics::{WORKER_HELD, WORKER_OLDEST_BODY, WORKER_UNACKED_BODIES};
use shared::shard::ShardId;

use crate::settle::Deliveries;

/// The gauges of one shard, looked up once.
pub(super) struct Gauges {
    held: metrics::Gauge,
    unacked: metrics::Gauge,
    oldest: metrics::Gauge,
}

impl Gauges {
    pub(super) fn new(shard: ShardId) -> Self {
        let gauge = |name| metrics::gauge!(name, "shard" => shard.to_string());
        Self {
            held: gauge(WORKER_HELD),
            unacked: gauge(WORKER_UNACKED_BODIES),
            oldest: gauge(WORKER_OLDEST_BODY),
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "bounded by the prefetch window")]
    pub(super) fn set(&self, held: usize, deliveries: &Deliveries) {
        self.held.set(held as f64);
        self.unacked.set(deliveries.unacknowledged() as f64);
        self.oldest(deliveries);
    }

    #[expect(clippy::cast_precision_loss, reason = "seconds since the Unix epoch are far below 2^52")]
    pub(super) fn oldest(&self, deliveries: &Deliveries) {
        self.oldest.set(deliveries.oldest_published_s().unwrap_or(0) as f64);
    }
}
