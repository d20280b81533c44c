//! Presence: records the users of this gateway in Redis, and looks up whether users are connected to any gateway.
//!
//! A login is answered once its user is recorded: workers find the gateways of events by these entries. What that needs is in
//! [`targeted_push`](shared::targeted_push).

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use shared::backoff::Backoff;
use shared::ids::UserId;
use shared::redis::RedisError;
use shared::redis::presence::{ENTRY_TTL_S, Presence};
use shared::shutdown::Shutdown;
use shared::targeted_push::{Complete, Records, Written};
use tokio::sync::{mpsc, oneshot, watch};

use crate::hub::Hub;
use crate::membership::{Live as _, LiveGateways};
use crate::outbox::Outbox;

/// Users that wait to be recorded. If more change, all users are recorded again, and the entries of those who have gone expire;
/// logins wait.
const QUEUED_USERS_MAX: usize = 16_384;
/// Users recorded in one round trip.
const BATCH_USERS_MAX: usize = 500;
/// How often the gateway checks that Redis still has its records.
const CHECK_INTERVAL: Duration = Duration::from_secs(2);
/// How often all users are recorded again, so that no entry expires.
const RENEW_INTERVAL: Duration = Duration::from_secs(ENTRY_TTL_S.unsigned_abs() / 4);
/// Longest that a login waits until its user is recorded. One that was answered before gets a resync afterwards.
const LOGIN_WAIT: Duration = Duration::from_secs(1);

/// A user whose connections changed.
#[derive(Debug)]
struct Changed {
    user: UserId,
    /// Told when that is recorded.
    recorded: Option<oneshot::Sender<()>>,
}

/// Handle to presence. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Online {
    queue: mpsc::Sender<Changed>,
    overflowed: Arc<AtomicBool>,
    presence: Presence,
    live: Arc<LiveGateways>,
    tasks: Shutdown,
}

impl Online {
    /// A connection of `user` was closed.
    pub(crate) fn gone(&self, user: &UserId) {
        if self.queue.try_send(Changed { user: user.clone(), recorded: None }).is_err() {
            self.overflowed.store(true, Ordering::Relaxed);
        }
    }

    /// Records that `user` is connected, which it is in the hub already. The future ends within a second. If Redis takes longer,
    /// the connection gets a resync when its user is recorded: events may go past this gateway until then.
    pub(crate) fn connected(
        &self,
        user: &UserId,
        outbox: &Arc<Outbox>,
    ) -> impl Future<Output = ()> + Send + 'static {
        let (online, outbox) = (self.clone(), Arc::clone(outbox));
        let mut recording = Box::pin(recorded(self.queue.clone(), user.clone()));
        async move {
            let wait = if online.live.failure().is_none() { LOGIN_WAIT } else { Duration::ZERO };
            if tokio::time::timeout(wait, &mut recording).await.is_ok() {
                return;
            }
            let stop = online.tasks.clone();
            online.tasks.spawn(async move {
                if stop.run_until_stopped(recording).await.is_some() && online.live.had_others() {
                    outbox.resync();
                }
            });
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

/// Ends when the present state of `user` is recorded, or with the recorder.
async fn recorded(queue: mpsc::Sender<Changed>, user: UserId) {
    let (recorded, done) = oneshot::channel();
    if queue.send(Changed { user, recorded: Some(recorded) }).await.is_ok() {
        let _ = done.await;
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
    let online = Online {
        queue,
        overflowed: Arc::clone(&overflowed),
        presence: presence.clone(),
        live: Arc::clone(&live),
        tasks: shutdown.clone(),
    };
    let (found, runs) = watch::channel(None);
    shutdown.spawn(look_at_runs(presence.clone(), found, shutdown.clone()));
    let now = Instant::now();
    let recorder = Recorder {
        presence,
        hub,
        live,
        queued,
        overflowed,
        runs,
        records: Records::new(RENEW_INTERVAL, now),
        checked: None,
    };
    (online, recorder.run(shutdown))
}

/// Reads the runs of the servers of Redis at each interval until the stop. Beside the recorder, because a server that does not
/// answer must not delay logins.
async fn look_at_runs(presence: Presence, found: watch::Sender<Option<BTreeSet<String>>>, stop: Shutdown) {
    loop {
        let Some(runs) = stop.run_until_stopped(Box::pin(presence.runs())).await else { return };
        found.send_replace(runs.ok());
        if !stop.sleep(CHECK_INTERVAL).await {
            return;
        }
    }
}

struct Recorder {
    presence: Presence,
    hub: Arc<Hub>,
    live: Arc<LiveGateways>,
    queued: mpsc::Receiver<Changed>,
    overflowed: Arc<AtomicBool>,
    /// The runs of the servers of Redis, when they could be read.
    runs: watch::Receiver<Option<BTreeSet<String>>>,
    records: Records<oneshot::Sender<()>>,
    /// When the last check began.
    checked: Option<Instant>,
}

impl Recorder {
    async fn run(mut self, shutdown: Shutdown) {
        let (mut backoff, mut is_failing) = (Backoff::dependency(), false);
        loop {
            if shutdown.run_until_stopped(self.gather()).await != Some(true) {
                return;
            }
            let Err(error) = self.record().await else {
                backoff.reset();
                if std::mem::take(&mut is_failing) {
                    tracing::info!("Presence is recorded in Redis again");
                }
                continue;
            };
            if !std::mem::replace(&mut is_failing, true) {
                tracing::warn!(%error, "Cannot record presence in Redis; trying again until it succeeds");
            }
            if !shutdown.sleep(backoff.next_delay()).await {
                return;
            }
        }
    }

    /// Takes the changes that wait. Without anything to record, waits for one, or until a check is due. False when all handles
    /// are dropped.
    async fn gather(&mut self) -> bool {
        let mut changed = Vec::new();
        let wait = match self.checked {
            Some(checked) if !self.records.is_behind() => CHECK_INTERVAL.saturating_sub(checked.elapsed()),
            _ => Duration::ZERO,
        };
        let gathering = self.queued.recv_many(&mut changed, BATCH_USERS_MAX);
        if let Ok(0) = tokio::time::timeout(wait, gathering).await {
            return false;
        }
        for Changed { user, recorded } in changed {
            self.records.changed(user, recorded);
        }
        true
    }

    /// Records what is to be recorded next, and checks if that is due.
    async fn record(&mut self) -> Result<(), RedisError> {
        let is_due = self.checked.is_none_or(|checked| checked.elapsed() >= CHECK_INTERVAL);
        if !is_due && !self.records.is_behind() {
            return Ok(());
        }
        // Even without changes: this detects that Redis lost the records.
        self.write().await?;
        if is_due {
            self.checked = Some(Instant::now());
            if self.overflowed.swap(false, Ordering::Relaxed) {
                self.records.changes_missed();
            }
            let runs = self.runs.borrow().clone();
            self.records.checked(runs, || self.hub.users(), Instant::now());
        }
        Ok(())
    }

    async fn write(&mut self) -> Result<(), RedisError> {
        let write = self.records.next_write(BATCH_USERS_MAX);
        let is_here: Vec<bool> = write.users.iter().map(|user| self.hub.is_here(user.as_str())).collect();
        let found = match self.presence.record(&write, &is_here).await {
            Ok(found) => found,
            Err(error) => {
                self.records.failed(write);
                return Err(error);
            }
        };
        let Written { done, complete } = self.records.written(write, found, Instant::now());
        for recorded in done {
            // The client may have gone.
            let _ = recorded.send(());
        }
        match complete {
            Some(complete) => self.complete(complete).await,
            None => Ok(()),
        }
    }

    async fn complete(&mut self, Complete { runs, resync }: Complete) -> Result<(), RedisError> {
        if resync && self.live.had_others() {
            tracing::warn!(
                "Redis lost the presence of users; events may have gone past this gateway, and all clients are told to pull"
            );
            self.hub.all().iter().for_each(|member| member.outbox.resync());
        }
        let announced = self.presence.announce_complete(&runs).await;
        if announced.is_err() {
            self.records.changes_missed();
        }
        announced
    }
}
