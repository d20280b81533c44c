//! The steps of a change of the number of shards that follow from the work of the workers. Every worker tries to take each step
//! as soon as it may be taken; the first one does.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use shared::amqp::topology::Removal;
use shared::amqp::{Broker, Topology};
use shared::mysql::{Pool, settings};
use shared::redis;
use shared::redis::liveness_registry::LivenessRegistry;
use shared::shard::ShardId;
use shared::shard_follower::{Follow, stragglers};
use shared::shard_state::{Change, Phase, ShardState};
use shared::shutdown::Shutdown;
use tokio::sync::watch;

/// How often a step is tried.
const INTERVAL: Duration = Duration::from_millis(250);
/// Longest that one try may take.
const TIMEOUT: Duration = Duration::from_secs(10);
/// How long both layouts are consumed. Longer than a batch of a gateway may be in flight.
const RETIRING_TIME: Duration = Duration::from_secs(10);
/// A gateway or worker without a heartbeat for this long is dead.
const EXPIRY: Duration = Duration::from_secs(6);

/// Follows the layout with the names of the queues.
pub(crate) struct FollowTopology(pub(crate) Topology);

impl Follow for FollowTopology {
    fn apply(&mut self, state: ShardState) -> BoxFuture<'_, ()> {
        self.0.follow(state);
        std::future::ready(()).boxed()
    }

    fn looked(&mut self, _: bool) {}
}

/// The processes that are alive, for who takes a step.
pub async fn live(redis: &redis::Client) -> Result<[(&'static str, Vec<String>); 2], redis::RedisError> {
    let gateways = LivenessRegistry::gateways(redis.clone(), EXPIRY).live().await?;
    let workers = LivenessRegistry::workers(redis.clone(), EXPIRY).live().await?;
    Ok([("gateway", gateways), ("worker", workers)])
}

/// Takes the steps of a worker.
pub(crate) struct Resharding {
    pool: Pool,
    redis: redis::Client,
    broker: Arc<Broker>,
    state: watch::Receiver<ShardState>,
    me: String,
    /// The queues of the present change that are removed.
    removed: BTreeSet<ShardId>,
}

impl Resharding {
    pub(crate) fn new(
        pool: Pool,
        redis: redis::Client,
        broker: Arc<Broker>,
        state: watch::Receiver<ShardState>,
        me: String,
    ) -> Self {
        Self { pool, redis, broker, state, me, removed: BTreeSet::new() }
    }

    /// Takes steps until the stop.
    pub(crate) async fn run(mut self, stop: Shutdown) {
        let mut since = (*self.state.borrow(), Instant::now());
        let mut is_failing = false;
        while stop.sleep(INTERVAL).await {
            let state = *self.state.borrow();
            if since.0 != state {
                since = (state, Instant::now());
                self.removed.clear();
            }
            if state.change.is_none() {
                continue;
            }
            let trying = tokio::time::timeout(TIMEOUT, Box::pin(self.step(state, since.1)));
            let Some(tried) = stop.run_until_stopped(trying).await else { return };
            let failure = match tried {
                Ok(Ok(())) => None,
                Ok(Err(error)) => Some(format!("{error:#}")),
                Err(_) => Some("a store did not answer in time".to_owned()),
            };
            if let Some(error) = &failure
                && !is_failing
            {
                tracing::warn!(shards.state = %state, %error, "Cannot go on with the change of shards; retrying");
            }
            is_failing = failure.is_some();
        }
    }

    async fn step(&mut self, state: ShardState, since: Instant) -> anyhow::Result<()> {
        let Some(Change { to, phase }) = state.change else { return Ok(()) };
        let next = match phase {
            Phase::Announced(_) | Phase::Paused(_) => None,
            Phase::Draining => {
                let drained = settings::drained_shards(&self.pool).await?;
                let is_drained = state.current.all().all(|shard| drained.contains(&shard));
                state.drained().filter(|_| is_drained)
            }
            Phase::Retiring => {
                let may_remove = since.elapsed() >= RETIRING_TIME && self.all_follow(state).await?;
                state.remove().filter(|_| may_remove)
            }
            Phase::Removing if self.is_first().await? && self.all_follow(state).await? => {
                self.remove_queues(state).await?
            }
            Phase::Removing => None,
        };
        if let Some(next) = next
            && settings::replace_shard_state(&self.pool, state, next).await?
        {
            tracing::info!(shards.state = %next, "The change of shards goes on: {next}");
            if next.change.is_none() {
                settings::forget_drained(&self.pool, to).await?;
            }
        }
        Ok(())
    }

    async fn all_follow(&self, state: ShardState) -> anyhow::Result<bool> {
        let processes = settings::shard_processes(&self.pool).await?;
        Ok(stragglers(state, &processes, &live(&self.redis).await?).is_empty())
    }

    /// Whether this worker removes the queues: a second one would find some of them missing.
    async fn is_first(&self) -> anyhow::Result<bool> {
        let [_, (_, workers)] = live(&self.redis).await?;
        Ok(workers.first() == Some(&self.me))
    }

    /// Removes the queues of the earlier layout. Returns the next state, if there is one already.
    async fn remove_queues(&mut self, state: ShardState) -> anyhow::Result<Option<ShardState>> {
        let topology = self.broker.topology().clone();
        let mut is_in_use = false;
        for shard in state.current.all().filter(|shard| !self.removed.contains(shard)).collect::<Vec<_>>() {
            // A queue that does not exist closes the channel.
            let channel = self.broker.channel().await?;
            let removal = topology.remove_shard_queue(&channel, shard).await?;
            let _ = channel.close(200, "asked".into()).await;
            match removal {
                Removal::Gone => {
                    self.removed.insert(shard);
                }
                Removal::NotEmpty => return Ok(state.retire_again()),
                Removal::InUse => is_in_use = true,
            }
        }
        Ok(state.finish().filter(|_| !is_in_use))
    }
}
