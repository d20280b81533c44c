//! The heartbeat of this worker, and the shards that follow from the heartbeats of all workers.
//!
//! While Redis is unreachable, each worker keeps its shards. The shards of a worker that dies meanwhile are not consumed
//! until Redis is back, but no shard moves without a reason.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use shared::health::{Check, Health};
use shared::redis::liveness_registry::{LiveWorkers, WorkerRegistry};
use shared::shard::ShardId;
use shared::shard_state::ShardState;
use shared::shutdown::Shutdown;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;

use super::assignment::shards_of;
use super::shard_task::{ShardContext, ShardTask};
use super::standby::Standby;

/// Time between two heartbeats.
const INTERVAL: Duration = Duration::from_secs(1);
/// A worker without a heartbeat for this long is considered dead. A few heartbeats may be late or lost.
pub(crate) const EXPIRY: Duration = Duration::from_secs(4);

/// Starts and stops the tasks of this worker's shards.
#[derive(Debug)]
pub(crate) struct Heartbeat {
    me: String,
    registry: WorkerRegistry,
    state: watch::Receiver<ShardState>,
    /// The live workers, as of the last heartbeat that reached Redis.
    workers: Option<LiveWorkers>,
    context: Arc<ShardContext>,
    health: Health,
    /// Passes while the last heartbeat reached Redis.
    redis: Check,
    /// Passes once the shards of this worker are known.
    assigned: Check,
    running: BTreeMap<ShardId, Running>,
    standby: Standby,
    /// The keys of `running`.
    owned: watch::Sender<Vec<ShardId>>,
}

#[derive(Debug)]
struct Running {
    stop: Shutdown,
    task: JoinHandle<()>,
}

impl Heartbeat {
    /// The heartbeat of the worker `me`, not running yet.
    #[must_use]
    pub(crate) fn new(
        me: String,
        registry: WorkerRegistry,
        state: watch::Receiver<ShardState>,
        context: Arc<ShardContext>,
        health: Health,
    ) -> Self {
        let (redis, assigned) = (health.check("redis"), health.check("shards"));
        let (running, (owned, _)) = (BTreeMap::new(), watch::channel(Vec::new()));
        let standby = Standby::default();
        Self { me, registry, state, workers: None, context, health, redis, assigned, running, standby, owned }
    }

    /// The shards of this worker, rising; changes can be awaited.
    #[must_use]
    pub(crate) fn owned(&self) -> watch::Receiver<Vec<ShardId>> {
        self.owned.subscribe()
    }

    /// Sends heartbeats until `stop`; then leaves the registry, so that other workers take over at once, and waits until
    /// all shards are released.
    pub(crate) async fn run(mut self, stop: Shutdown) {
        let mut ticks = tokio::time::interval(INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let beats = tokio::select! {
                () = stop.stopping() => break,
                _ = ticks.tick() => true,
                Ok(()) = self.state.changed() => false,
            };
            if beats {
                self.restart_ended(&stop).await;
                match self.registry.beat(&self.me).await {
                    Ok(workers) => {
                        self.redis.pass();
                        self.workers = Some(workers);
                    }
                    Err(error) => self.redis.fail(error.to_string()),
                }
            }
            self.take_shards(&stop);
        }
        for running in self.running.values() {
            running.stop.stop();
        }
        if let Err(error) = self.registry.leave(&self.me).await {
            tracing::warn!(
                worker.id = %self.me, %error, expiry_s = EXPIRY.as_secs(),
                "Cannot remove worker {} from the liveness registry; its shards move when its entry expires", self.me
            );
        }
        for (shard, running) in self.running {
            report_owner(shard, 0.0);
            if let Err(error) = running.task.await {
                tracing::error!(
                    shard.id = %shard, %error,
                    "The task of shard {shard} panicked; another worker continues the shard"
                );
            }
        }
        metrics::gauge!(shared::metrics::WORKER_SHARDS).set(0.0);
    }

    /// Takes the shards of this worker in all layouts that are consumed, by the workers that are known to live.
    fn take_shards(&mut self, stop: &Shutdown) {
        let Some(workers) = self.workers.take() else { return };
        let state = *self.state.borrow_and_update();
        let mine: Vec<ShardId> =
            state.consumes().into_iter().flat_map(|layout| shards_of(&self.me, &workers, layout)).collect();
        self.assign(&mine, stop);
        self.assigned.pass();
        let layout = state.main();
        if let Some(owners) = self.standby.update(&self.me, &workers, layout) {
            tracing::info!(
                worker.id = %self.me, shards = layout.get(), %owners,
                "Worker {} is standing by: other workers own all shards; it takes over when one of them stops \
                 (`imctl shards set` changes the number of shards)", self.me
            );
        }
        self.workers = Some(workers);
    }

    /// Starts the tasks of shards again that have panicked, whether Redis is reachable or not.
    async fn restart_ended(&mut self, stop: &Shutdown) {
        let is_ended = |_: &ShardId, running: &mut Running| running.task.is_finished();
        let ended: Vec<(ShardId, Running)> = self.running.extract_if(.., is_ended).collect();
        for (shard, running) in ended {
            // It runs until its stop, so a panic is the only end.
            let error = running.task.await.err().map(|error| error.to_string()).unwrap_or_default();
            tracing::error!(shard.id = %shard, %error, "The task of shard {shard} panicked; it is started again");
            self.start(shard, stop);
        }
    }

    /// Releases shards that belong to another worker now, and takes those that belong to this one.
    fn assign(&mut self, mine: &[ShardId], stop: &Shutdown) {
        self.running.retain(|shard, running| {
            let keep = mine.contains(shard);
            if !keep {
                tracing::info!(shard.id = %shard, "Releasing shard {shard}");
                report_owner(*shard, 0.0);
                running.stop.stop();
            }
            keep
        });
        for shard in mine {
            if !self.running.contains_key(shard) {
                tracing::info!(shard.id = %shard, "Acquired shard {shard}");
                self.start(*shard, stop);
            }
        }
        metrics::gauge!(shared::metrics::WORKER_SHARDS).set(self.running.len() as f64);
        self.owned.send_replace(self.running.keys().copied().collect());
    }

    fn start(&mut self, shard: ShardId, stop: &Shutdown) {
        let check = self.health.check(format!("shard {shard}"));
        let task = ShardTask::new(shard, Arc::clone(&self.context), check);
        let stop = stop.child();
        let task = stop.spawn(task.run(stop.clone()));
        self.running.insert(shard, Running { stop, task });
        report_owner(shard, 1.0);
    }
}

fn report_owner(shard: ShardId, is_owner: f64) {
    metrics::gauge!(shared::metrics::WORKER_SHARD_OWNER, "shard" => shard.to_string()).set(is_owner);
}
