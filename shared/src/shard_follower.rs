//! How a process follows a change of the number of shards: it polls the state in MySQL, applies it, and records that it has.
//!
//! Who takes the next step looks at these records: a live process that has not applied the state stops the change, one that is
//! dead does not.

use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use tokio::sync::watch;

use crate::mysql::Pool;
use crate::mysql::settings::{self, ShardCountError, ShardProcess};
use crate::shard::ShardLayout;
use crate::shard_state::{Change, Phase, ShardState};
use crate::shutdown::Shutdown;

/// How often the state is read.
const INTERVAL: Duration = Duration::from_secs(1);
/// The same during a change: senders wait for this long, a few times.
const INTERVAL_DURING_CHANGE: Duration = Duration::from_millis(100);
/// A reading that takes longer has failed.
const READ_TIMEOUT: Duration = Duration::from_secs(2);
/// How often a process records that it is there, during a change and otherwise.
const SEEN_INTERVALS: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(600)];
/// A pause that lasts longer is ended by the gateways: whoever began it is dead or slow.
pub const PAUSE_MAX: Duration = Duration::from_millis(2_000);
/// A process that is not in the liveness registry and has recorded nothing for this long is dead.
pub const DEAD_AFTER_S: i64 = 10;

/// What follows the state in a process.
pub trait Follow: Send + 'static {
    /// Applies a state. Returns when everything that it gives up has ended.
    fn apply(&mut self, state: ShardState) -> BoxFuture<'_, ()>;

    /// The state was read, or could not be read.
    fn looked(&mut self, is_read: bool);
}

/// A process that follows the state.
#[derive(Debug)]
pub struct ShardFollower {
    pool: Pool,
    id: String,
    role: &'static str,
    state: watch::Sender<ShardState>,
}

impl ShardFollower {
    /// Registers this process, and reads the state, which is stored with `configured` if this is the first start of the
    /// deployment.
    ///
    /// In this order: a change that begins later waits for this process, and one that began before is seen.
    ///
    /// # Errors
    /// [`ShardCountError`]
    pub async fn join(
        pool: Pool,
        id: String,
        role: &'static str,
        configured: Option<ShardLayout>,
    ) -> Result<Self, ShardCountError> {
        settings::record_applied(&pool, &id, role, "").await?;
        let state = settings::first_shard_state(&pool, configured).await?;
        metrics::gauge!(crate::metrics::SHARDS).set(f64::from(state.main().get()));
        Ok(Self { pool, id, role, state: watch::Sender::new(state) })
    }

    /// The state that was read last.
    #[must_use]
    pub fn state(&self) -> watch::Receiver<ShardState> {
        self.state.subscribe()
    }

    /// Follows the state until the stop.
    pub async fn run(self, mut follow: impl Follow, stop: Shutdown) {
        let mut applied: Option<(ShardState, Instant)> = None;
        let (mut recorded, mut is_failing) = (None, false);
        loop {
            let read = self.read().await;
            follow.looked(read.is_ok());
            match read {
                Ok(state) => {
                    if applied.is_none_or(|(known, _)| known != state) {
                        follow.apply(state).await;
                        self.announce(state);
                        applied = Some((state, Instant::now()));
                    }
                    is_failing = false;
                }
                Err(error) => {
                    if !std::mem::replace(&mut is_failing, true) {
                        tracing::warn!(
                            %error,
                            "Cannot read the layout of the shards; this process goes on with the one that it knows"
                        );
                    }
                }
            }
            if let Some((state, since)) = applied {
                self.record(state, &mut recorded).await;
                self.end_pause(state, since).await;
            }
            let is_changing = self.state.borrow().change.is_some();
            if !stop.sleep(if is_changing { INTERVAL_DURING_CHANGE } else { INTERVAL }).await {
                break;
            }
        }
        // What it published must not be forgotten before it is confirmed.
        if let Some((ShardState { current, .. }, _)) = applied {
            let nothing = Change { to: current, phase: Phase::Paused(0) };
            follow.apply(ShardState { current, change: Some(nothing) }).await;
        }
        let leaving = settings::forget_shard_process(&self.pool, &self.id);
        // Otherwise it is considered dead after a while.
        let _ = tokio::time::timeout(READ_TIMEOUT, leaving).await;
    }

    async fn read(&self) -> Result<ShardState, String> {
        let read = tokio::time::timeout(READ_TIMEOUT, settings::shard_state(&self.pool)).await;
        match read {
            Ok(Ok(Some(state))) => Ok(state),
            Ok(Ok(None)) => Err("the table `setting` has no shards.count".to_owned()),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err(format!("MySQL did not answer within {} s", READ_TIMEOUT.as_secs())),
        }
    }

    fn announce(&self, state: ShardState) {
        if *self.state.borrow() != state {
            tracing::info!(shards.state = %state, "The layout of the shards is {state}");
        }
        metrics::gauge!(crate::metrics::SHARDS).set(f64::from(state.main().get()));
        self.state.send_replace(state);
    }

    /// Records that `state` is applied, if it is not recorded, and now and then.
    async fn record(&self, state: ShardState, recorded: &mut Option<(ShardState, Instant)>) {
        let [often, seldom] = SEEN_INTERVALS;
        let interval = if state.change.is_some() { often } else { seldom };
        if recorded.is_some_and(|(known, at)| known == state && at.elapsed() < interval) {
            return;
        }
        let text = state.to_string();
        let recording = settings::record_applied(&self.pool, &self.id, self.role, &text);
        if matches!(tokio::time::timeout(READ_TIMEOUT, recording).await, Ok(Ok(()))) {
            *recorded = Some((state, Instant::now()));
        }
    }

    /// Ends a pause that lasts for too long. Only gateways hold messages.
    async fn end_pause(&self, state: ShardState, since: Instant) {
        let is_late = self.role == "gateway" && since.elapsed() > PAUSE_MAX;
        let Some(resumed) = state.resume().filter(|_| is_late) else { return };
        let resuming = settings::replace_shard_state(&self.pool, state, resumed);
        if let Ok(Ok(true)) = tokio::time::timeout(READ_TIMEOUT, resuming).await {
            tracing::warn!(
                shards.state = %resumed,
                "A pause of the change of shards lasted for too long; messages go on to the earlier layout"
            );
        }
    }
}

/// A process that a change waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Straggler {
    /// It has not applied the state.
    Late {
        /// `gateway` or `worker`.
        role: String,
        /// Its id.
        id: String,
    },
    /// It is alive and follows no state: it is of an earlier version.
    Earlier {
        /// `gateway` or `worker`.
        role: &'static str,
        /// Its id.
        id: String,
    },
}

/// The processes for which a step has to wait: live ones that have not applied `state`. `live`: the ids in the liveness
/// registries of gateways and workers.
#[must_use]
pub fn stragglers(
    state: ShardState,
    processes: &[ShardProcess],
    live: &[(&'static str, Vec<String>)],
) -> Vec<Straggler> {
    let state = state.to_string();
    let mut all = Vec::new();
    for (role, ids) in live {
        for id in ids {
            if !processes.iter().any(|process| process.id == *id) {
                all.push(Straggler::Earlier { role, id: id.clone() });
            }
        }
    }
    for process in processes.iter().filter(|process| process.applied != state) {
        let is_live = live.iter().any(|(_, ids)| ids.contains(&process.id));
        if is_live || process.seen_before_s < DEAD_AFTER_S {
            all.push(Straggler::Late { role: process.role.clone(), id: process.id.clone() });
        }
    }
    all
}

impl std::fmt::Display for Straggler {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Late { role, id } => write!(f, "{role} {id} has not followed yet"),
            Self::Earlier { role, id } => {
                write!(f, "{role} {id} is of a version that cannot follow a change: upgrade it first")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(id: &str, applied: &str, seen_before_s: i64) -> ShardProcess {
        ShardProcess {
            id: id.to_owned(),
            role: "gateway".to_owned(),
            applied: applied.to_owned(),
            seen_before_s,
        }
    }

    #[test]
    fn a_step_waits_for_live_processes_and_not_for_dead_ones() {
        let state = "2>5@2 paused 0".parse().unwrap();
        let live = |ids: &[&str]| [("gateway", ids.iter().map(|&id| id.to_owned()).collect::<Vec<_>>())];
        let processes = [
            process("applied", "2>5@2 paused 0", 500),
            process("late", "2>5@2 announced 0", 500),
            process("starting", "", 3),
            process("dead", "2", 11),
        ];
        let names = |ids: &[&str]| -> Vec<String> {
            stragglers(state, &processes, &live(ids)).iter().map(ToString::to_string).collect()
        };
        assert_eq!(
            names(&["applied", "late", "old"]),
            [
                "gateway old is of a version that cannot follow a change: upgrade it first",
                "gateway late has not followed yet",
                "gateway starting has not followed yet"
            ]
        );
        assert_eq!(names(&["applied", "dead"])[0], "gateway starting has not followed yet");
        assert_eq!(names(&[]), ["gateway starting has not followed yet"]);
    }
}
