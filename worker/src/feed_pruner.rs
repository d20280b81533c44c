//! Removes old rows of the change feed.
//!
//! Each worker does it, in small steps: a step that runs twice removes nothing more.

use std::time::Duration;

use shared::config::Feed;
use shared::feed::FeedShards;
use shared::ids::unix_millis;
use shared::metrics::WORKER_FEED_PRUNED;
use shared::mysql::{self, Pool};
use shared::shutdown::Shutdown;

/// Pause after a round over all shards that left nothing to do.
const PAUSE: Duration = Duration::from_secs(30);
/// Pause between two steps that removed as many rows as they may.
const STEP_PAUSE: Duration = Duration::from_millis(20);
/// Rows of one step.
const STEP: u32 = 500;

/// Starts it, if the feed is on.
pub(crate) fn start(config: &Feed, feed: Option<FeedShards>, pool: &Pool, working: &Shutdown) {
    let Some(shards) = feed else { return };
    let pruner = Pruner { pool: pool.clone(), shards, keep_ms: i64::from(config.keep_s) * 1_000 };
    working.spawn_essential("removal of old rows of the feed", pruner.run(working.clone()));
}

struct Pruner {
    pool: Pool,
    shards: FeedShards,
    keep_ms: i64,
}

impl Pruner {
    async fn run(self, stop: Shutdown) {
        loop {
            let removed_all = self.round().await.unwrap_or_else(|error| {
                tracing::warn!(%error, "Old rows of the change feed cannot be removed now");
                true
            });
            if !stop.sleep(if removed_all { PAUSE } else { STEP_PAUSE }).await {
                return;
            }
        }
    }

    /// One step in each shard. False if there is more to do.
    async fn round(&self) -> Result<bool, mysql::Error> {
        let before = unix_millis() - self.keep_ms;
        let mut removed_all = true;
        for shard in self.shards.all() {
            let removed = mysql::feed::prune(&self.pool, shard, before, STEP).await?;
            metrics::counter!(WORKER_FEED_PRUNED).increment(removed);
            removed_all &= removed < u64::from(STEP);
        }
        Ok(removed_all)
    }
}
