//! Who is online: tells Redis who is connected here, and asks it who is connected anywhere.
//!
//! What is told is always the state at that moment, never a change, so that it does not matter in which order, or how
//! often, connections came and went meanwhile.

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
use crate::membership::LiveGateways;

/// Users that may wait to be noted; if more come and go, everybody is noted again.
const WAITING_MAX: usize = 16_384;
/// Users noted in one round trip.
const NOTED_AT_ONCE: usize = 500;
/// How often Redis is asked whether it still knows what it was told.
const CHECK_INTERVAL: Duration = Duration::from_secs(2);
/// How often everybody is noted again, so that no entry expires.
const RENEW_INTERVAL: Duration = Duration::from_secs(ENTRY_TTL_S.unsigned_abs() / 4);

/// The entrance. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Online {
    queue: mpsc::Sender<UserId>,
    overflowed: Arc<AtomicBool>,
    presence: Presence,
    live: Arc<LiveGateways>,
}

impl Online {
    /// A connection of `user` came or went.
    pub fn changed(&self, user: &UserId) {
        if self.queue.try_send(user.clone()).is_err() {
            self.overflowed.store(true, Ordering::Relaxed);
        }
    }

    /// For each of `users` whether it is connected to a live gateway.
    ///
    /// # Errors
    /// As Redis says.
    pub async fn among(&self, users: &[UserId]) -> Result<Vec<bool>, RedisError> {
        let gateways = self.presence.gateways_of(users).await?;
        let live = self.live.all();
        Ok(gateways.iter().map(|of_user| of_user.iter().any(|gateway| live.contains(gateway))).collect())
    }
}

/// Returns the entrance and the task that keeps Redis informed until the stop.
pub fn online(
    presence: Presence,
    hub: Arc<Hub>,
    live: Arc<LiveGateways>,
    shutdown: Shutdown,
) -> (Online, impl Future<Output = ()> + Send + 'static) {
    let (queue, waiting) = mpsc::channel(WAITING_MAX);
    let overflowed = Arc::new(AtomicBool::new(false));
    let online = Online { queue, overflowed: Arc::clone(&overflowed), presence: presence.clone(), live };
    let teller =
        Teller { presence, hub, waiting, overflowed, revision: 0, checked: Instant::now(), all_noted: None };
    (online, teller.run(shutdown))
}

struct Teller {
    presence: Presence,
    hub: Arc<Hub>,
    waiting: mpsc::Receiver<UserId>,
    overflowed: Arc<AtomicBool>,
    /// What Redis should say if it has forgotten nothing.
    revision: u64,
    checked: Instant,
    /// When everybody was noted last; `None` if that has to be done.
    all_noted: Option<Instant>,
}

impl Teller {
    async fn run(mut self, shutdown: Shutdown) {
        let mut users = Vec::new();
        loop {
            let idle =
                tokio::time::timeout(CHECK_INTERVAL, self.waiting.recv_many(&mut users, NOTED_AT_ONCE));
            let Some(taken) = shutdown.run_until_stopped(idle).await else { return };
            let done = match taken {
                Ok(0) => return,
                Ok(_) => self.note(users.drain(..).collect::<AHashSet<_>>().into_iter().collect()).await,
                Err(_) => Ok(()),
            };
            let done = match done {
                Ok(()) if self.checked.elapsed() >= CHECK_INTERVAL => self.check().await,
                done => done,
            };
            if let Err(error) = done {
                tracing::warn!(%error, "who is online could not be told");
                self.all_noted = None;
                if !shutdown.sleep(CHECK_INTERVAL).await {
                    return;
                }
            }
        }
    }

    async fn note(&mut self, users: Vec<UserId>) -> Result<(), RedisError> {
        let states: Vec<(UserId, bool)> =
            users.into_iter().map(|user| (user.clone(), self.hub.is_here(user.as_str()))).collect();
        let before = self.revision;
        self.revision += 1;
        if self.presence.note(&states, self.revision).await? != Some(before) {
            // Redis has forgotten something, or this is the first time.
            self.all_noted = None;
        }
        Ok(())
    }

    async fn check(&mut self) -> Result<(), RedisError> {
        self.checked = Instant::now();
        // Also where nobody came or went: only so a loss is noticed.
        self.note(Vec::new()).await?;
        let is_due = self.all_noted.is_none_or(|noted| noted.elapsed() > RENEW_INTERVAL);
        if !(is_due || self.overflowed.swap(false, Ordering::Relaxed)) {
            return Ok(());
        }
        // What is forgotten from here on is noticed at the next check.
        self.all_noted = Some(Instant::now());
        for users in self.hub.users().chunks(NOTED_AT_ONCE) {
            self.note(users.to_vec()).await?;
        }
        Ok(())
    }
}
