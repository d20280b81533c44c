//! Which shards this worker has: a sign of life every second, and the list of who else gave one.
//!
//! While Redis is away, everyone keeps what they have. That leaves a dead worker's shards unserved for so long, but
//! never moves a shard for no reason.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use shared::health::{Check, Health};
use shared::redis::live_board::LiveBoard;
use shared::shard::{ShardCount, ShardId};
use shared::shutdown::Shutdown;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;

use super::assignment::shards_of;
use super::shard_task::{Parts, ShardTask};
use super::standby::Standby;

/// Time between two signs of life.
pub const INTERVAL: Duration = Duration::from_secs(1);
/// A worker that was silent for so long is dead. A few signs may be late or lost.
pub const EXPIRY: Duration = Duration::from_secs(4);

/// Starts and stops the tasks of this worker's shards.
#[derive(Debug)]
pub struct Heartbeat {
    me: String,
    board: LiveBoard,
    shards: ShardCount,
    parts: Arc<Parts>,
    health: Health,
    /// Passes while the last sign of life reached Redis.
    redis: Check,
    /// Passes once it is known which shards are this worker's.
    assigned: Check,
    running: BTreeMap<ShardId, Running>,
    standby: Standby,
    /// The keys of `running`, for others.
    owned: watch::Sender<Vec<ShardId>>,
}

#[derive(Debug)]
struct Running {
    stop: Shutdown,
    task: JoinHandle<()>,
}

impl Heartbeat {
    /// Nothing runs yet.
    #[must_use]
    pub fn new(me: String, board: LiveBoard, shards: ShardCount, parts: Arc<Parts>, health: Health) -> Self {
        let (redis, assigned) = (health.check("redis"), health.check("shards"));
        let (running, (owned, _)) = (BTreeMap::new(), watch::channel(Vec::new()));
        let standby = Standby::default();
        Self { me, board, shards, parts, health, redis, assigned, running, standby, owned }
    }

    /// The shards that this worker has, rising; changes can be awaited.
    #[must_use]
    pub fn owned(&self) -> watch::Receiver<Vec<ShardId>> {
        self.owned.subscribe()
    }

    /// Beats until `stop`; then leaves the board, so that others take over at once, and waits until all shards are given
    /// up.
    pub async fn run(mut self, stop: Shutdown) {
        let mut ticks = tokio::time::interval(INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while stop.run_until_stopped(ticks.tick()).await.is_some() {
            match self.board.beat(&self.me).await {
                Ok(workers) => {
                    self.redis.pass();
                    self.assign(&shards_of(&self.me, &workers, self.shards), &stop);
                    self.assigned.pass();
                    if let Some(owners) = self.standby.update(&self.me, &workers, self.shards) {
                        tracing::info!(
                            shards = self.shards.get(), %owners,
                            "standing by: other workers own all shards (shards.count is fixed at the first start); \
                             this worker takes shards over when one of them stops"
                        );
                    }
                }
                Err(error) => self.redis.fail(error.to_string()),
            }
        }
        for running in self.running.values() {
            running.stop.stop();
        }
        if let Err(error) = self.board.leave(&self.me).await {
            tracing::warn!(%error, "could not leave the board: others take over when this worker's sign expires");
        }
        for (shard, running) in self.running {
            if let Err(error) = running.task.await {
                tracing::error!(%shard, %error, "shard task ended badly");
            }
        }
        metrics::gauge!(shared::metrics::WORKER_SHARDS).set(0.0);
    }

    /// Gives up shards that are another worker's now and takes those that have become this one's.
    fn assign(&mut self, mine: &[ShardId], stop: &Shutdown) {
        self.running.retain(|shard, running| {
            let keep = mine.contains(shard) && !running.task.is_finished();
            if !keep {
                tracing::info!(%shard, "shard given up");
                running.stop.stop();
            }
            keep
        });
        for shard in mine {
            if !self.running.contains_key(shard) {
                tracing::info!(%shard, "shard taken");
                let check = self.health.check(format!("shard {shard}"));
                let task = ShardTask::new(*shard, Arc::clone(&self.parts), check);
                let stop = stop.child();
                let task = stop.spawn(task.run(stop.clone()));
                self.running.insert(*shard, Running { stop, task });
            }
        }
        metrics::gauge!(shared::metrics::WORKER_SHARDS).set(self.running.len() as f64);
        self.owned.send_replace(self.running.keys().copied().collect());
    }
}
