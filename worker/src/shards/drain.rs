//! Whether the queue of a shard, to which nobody publishes any more, is committed to its end.

use std::time::Duration;

use shared::mysql::{Pool, settings};
use shared::shard::ShardId;
use shared::shard_state::ShardState;
use tokio::sync::watch;

/// How often a queue is looked at.
pub(crate) const DRAIN_INTERVAL: Duration = Duration::from_millis(100);
/// Looks in a row that must find nothing. RabbitMQ may answer a look before it sends a delivery that it has counted as
/// delivered, but no two looks.
const LOOKS: u32 = 3;
/// Longest wait for MySQL.
const TIMEOUT: Duration = Duration::from_secs(2);

/// The looks at one queue. Pure.
#[derive(Debug, Default)]
pub(crate) struct Drained {
    in_a_row: u32,
}

impl Drained {
    /// `looked`: ready messages and consumers of the queue, if all deliveries to this consumer are settled. Returns whether the
    /// queue is drained: only the only consumer knows of all deliveries.
    pub(crate) fn look(&mut self, looked: Option<(u32, u32)>) -> bool {
        self.in_a_row = if looked == Some((0, 1)) { self.in_a_row + 1 } else { 0 };
        self.in_a_row >= LOOKS
    }
}

/// Which shards are to be drained, and where it is recorded that they are.
#[derive(Debug, Clone)]
pub(crate) struct Drain {
    pool: Pool,
    state: watch::Receiver<ShardState>,
}

impl Drain {
    /// Follows `state`.
    pub(crate) fn new(pool: Pool, state: watch::Receiver<ShardState>) -> Self {
        Self { pool, state }
    }

    /// Whether nobody publishes to the shard any more.
    pub(crate) fn is_draining(&self, shard: ShardId) -> bool {
        self.state.borrow().drains().is_some_and(|layout| layout.has(shard))
    }

    /// Records that the shard is drained. False if that failed: the next look does it again.
    pub(crate) async fn record(&self, shard: ShardId) -> bool {
        let recording = settings::record_drained(&self.pool, shard);
        let is_recorded = matches!(tokio::time::timeout(TIMEOUT, recording).await, Ok(Ok(())));
        if is_recorded {
            tracing::info!(shard.id = %shard, "The queue of shard {shard} is committed to its end");
        }
        is_recorded
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_is_drained_if_its_only_consumer_sees_nothing_three_times_in_a_row() {
        let mut drained = Drained::default();
        let nothing = Some((0, 1));
        let looks = [nothing, nothing, None, nothing, nothing, Some((1, 1)), nothing, nothing, Some((0, 2))];
        assert!(looks.into_iter().all(|look| !drained.look(look)));
        assert_eq!([nothing; 3].map(|look| drained.look(look)), [false, false, true]);
    }
}
