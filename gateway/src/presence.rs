//! Presence: records the users of this gateway in Redis, and looks up whether users are connected to any gateway.
//!
//! A record is always the present state of a user, never a change, so the order and number of the changes before it do
//! not matter.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ahash::AHashSet;
use shared::ids::UserId;
use shared::redis::RedisError;
use shared::redis::presence::{ENTRY_TTL_S, Presence};
use shared::shutdown::Shutdown;
use tokio::sync::mpsc;

use crate::hub::Hub;
use crate::membership::{Live as _, LiveGateways};

/// Users that wait to be recorded; if more change, all users are recorded again, and the entries of those who have gone
/// expire.
const QUEUED_USERS_MAX: usize = 16_384;
/// Users recorded in one round trip.
const BATCH_USERS_MAX: usize = 500;
/// How often the gateway checks that Redis still has its records, and the pause after a failure.
const CHECK_INTERVAL: Duration = Duration::from_secs(2);
/// How often all users are recorded again, so that no entry expires.
const RENEW_INTERVAL: Duration = Duration::from_secs(ENTRY_TTL_S.unsigned_abs() / 4);

/// Handle to presence. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Online {
    queue: mpsc::Sender<UserId>,
    overflowed: Arc<AtomicBool>,
    presence: Presence,
    live: Arc<LiveGateways>,
}

impl Online {
    /// A connection of `user` was opened or closed.
    pub(crate) fn changed(&self, user: &UserId) {
        if self.queue.try_send(user.clone()).is_err() {
            self.overflowed.store(true, Ordering::Relaxed);
        }
    }

    /// Whether each of `users` has a connection to a live gateway, in the order of `users`.
    ///
    /// # Errors
    /// Redis is unavailable.
    pub(crate) async fn among(&self, users: &[UserId]) -> Result<Vec<bool>, RedisError> {
        let gateways = self.presence.gateways_of(users).await?;
        let live = self.live.all();
        Ok(gateways.iter().map(|of_user| of_user.iter().any(|gateway| live.contains(gateway))).collect())
    }
}

/// Returns the handle and the task that keeps the records up to date until the stop.
pub(crate) fn online(
    presence: Presence,
    hub: Arc<Hub>,
    live: Arc<LiveGateways>,
    shutdown: Shutdown,
) -> (Online, impl Future<Output = ()> + Send + 'static) {
    let (queue, queued) = mpsc::channel(QUEUED_USERS_MAX);
    let overflowed = Arc::new(AtomicBool::new(false));
    let online = Online { queue, overflowed: Arc::clone(&overflowed), presence: presence.clone(), live };
    let recorder = Recorder {
        presence,
        hub,
        queued,
        overflowed,
        unrecorded: AHashSet::new(),
        revision: 0,
        checked: Instant::now(),
        all_recorded: None,
    };
    (online, recorder.run(shutdown))
}

struct Recorder {
    presence: Presence,
    hub: Arc<Hub>,
    queued: mpsc::Receiver<UserId>,
    overflowed: Arc<AtomicBool>,
    /// Users whose change is not recorded yet, also those who have gone: nothing else would remove their entries.
    unrecorded: AHashSet<UserId>,
    /// The revision that Redis has if it lost nothing.
    revision: u64,
    checked: Instant,
    /// When all users were recorded last; `None` if that has to be done.
    all_recorded: Option<Instant>,
}

impl Recorder {
    async fn run(mut self, shutdown: Shutdown) {
        let mut users = Vec::new();
        loop {
            let idle =
                tokio::time::timeout(CHECK_INTERVAL, self.queued.recv_many(&mut users, BATCH_USERS_MAX));
            let Some(changed) = shutdown.run_until_stopped(idle).await else { return };
            let done = match changed {
                Ok(0) => return,
                Ok(_) => {
                    self.unrecorded.extend(users.drain(..));
                    self.record_changes().await
                }
                Err(_) => self.record_changes().await,
            };
            let done = match done {
                Ok(()) if self.checked.elapsed() >= CHECK_INTERVAL => self.check().await,
                done => done,
            };
            if let Err(error) = done {
                tracing::warn!(%error, "presence was not recorded in Redis: all users are recorded again after a pause");
                self.all_recorded = None;
                if self.unrecorded.len() > QUEUED_USERS_MAX {
                    self.unrecorded.clear();
                }
                if !shutdown.sleep(CHECK_INTERVAL).await {
                    return;
                }
            }
        }
    }

    async fn record_changes(&mut self) -> Result<(), RedisError> {
        if self.unrecorded.is_empty() {
            return Ok(());
        }
        let users: Vec<UserId> = self.unrecorded.iter().cloned().collect();
        for users in users.chunks(BATCH_USERS_MAX) {
            self.record(users.to_vec()).await?;
        }
        self.unrecorded.clear();
        Ok(())
    }

    async fn record(&mut self, users: Vec<UserId>) -> Result<(), RedisError> {
        let states: Vec<(UserId, bool)> =
            users.into_iter().map(|user| (user.clone(), self.hub.is_here(user.as_str()))).collect();
        let before = self.revision;
        self.revision += 1;
        if self.presence.record(&states, self.revision).await? != Some(before) {
            // Redis lost records, or this is the first one.
            self.all_recorded = None;
        }
        Ok(())
    }

    async fn check(&mut self) -> Result<(), RedisError> {
        self.checked = Instant::now();
        // Even without changes: this detects that Redis lost the records.
        self.record(Vec::new()).await?;
        let is_due = self.all_recorded.is_none_or(|recorded| recorded.elapsed() > RENEW_INTERVAL);
        if !(is_due || self.overflowed.swap(false, Ordering::Relaxed)) {
            return Ok(());
        }
        // Records that Redis loses from here on are detected by the next check.
        self.all_recorded = Some(Instant::now());
        for users in self.hub.users().chunks(BATCH_USERS_MAX) {
            self.record(users.to_vec()).await?;
        }
        Ok(())
    }
}
