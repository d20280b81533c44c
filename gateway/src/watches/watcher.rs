//! Reads the presence of the watched users from Redis once per second, and tells those who watch them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ahash::AHashSet;
use parking_lot::Mutex;
use proto::v1;
use shared::ids::{UserId, unix_millis};
use shared::mysql::{Pool, partners};
use shared::redis::RedisError;
use shared::redis::liveness_registry::LivenessRegistry;
use shared::redis::presence::Presence;
use shared::shutdown::Shutdown;
use tokio::time::timeout;

use super::heartbeats::Heartbeats;
use super::table::{Reading, Table, Told};
use crate::budget::{Budgets, Payer, cost};
use crate::features::{Feature, Features};
use crate::hub::Hub;
use crate::identity::Identity;
use crate::outbox::ReplyTo;
use crate::presence::Online;
use crate::wire::api_error::ApiError;
use crate::wire::context::RequestContext;
use crate::wire::reply::{self, Event};
use crate::wire::request::Cmd;
use crate::wire::retry_delay::RetryDelay;

/// How often the watched users are read.
const INTERVAL: Duration = Duration::from_secs(1);
/// A reading that takes longer has failed.
const READ_TIMEOUT: Duration = Duration::from_secs(2);
/// After a longer time without a reading, heartbeats may have been missed.
const SILENCE_MAX: Duration = Duration::from_secs(3);
/// Users that are read in one round trip: commands of other users wait behind them on the same connection.
const USERS_AT_ONCE: usize = 500;

/// The parts that watching uses.
#[derive(Debug)]
pub(crate) struct WatchDeps {
    pub(crate) pool: Pool,
    pub(crate) hub: Arc<Hub>,
    /// Of the users who watch.
    pub(crate) budgets: Arc<Budgets>,
    pub(crate) online: Online,
    pub(crate) presence: Presence,
    pub(crate) registry: LivenessRegistry,
    pub(crate) features: Features,
    /// Different users that are watched here.
    pub(crate) users_max: usize,
    /// Every request is answered within this time.
    pub(crate) deadline: Duration,
}

/// Who watches whom at this gateway.
#[derive(Debug)]
pub(crate) struct Watches {
    deps: WatchDeps,
    /// Locked while something is told, so that an answer and an event reach a connection in their order.
    table: Mutex<Table>,
}

impl Watches {
    /// Nobody watches anybody.
    #[must_use]
    pub(crate) fn new(deps: WatchDeps) -> Self {
        Self { deps, table: Mutex::default() }
    }

    /// Answers cmd 9: the connection watches `users`, and nobody else, from now on.
    pub(crate) async fn watch(
        self: Arc<Self>,
        context: RequestContext,
        users: Vec<UserId>,
        reply_to: ReplyTo,
    ) {
        let late = |_| {
            let message = "presence could not be read in time: try again";
            Err(ApiError::unavailable(message, RetryDelay::StoreUnavailable))
        };
        let found = timeout(self.deps.deadline, self.find(&context.by, users)).await.unwrap_or_else(late);
        if let Err((refusal, reply_to)) = self.start(&context.by, found, reply_to) {
            reply_to.send(context.refuse(&refusal, Cmd::WATCH, None));
        }
    }

    /// Those of `users` that `by` may see, and those of them that nobody watches yet and that are connected.
    async fn find(
        &self,
        by: &Identity,
        mut users: Vec<UserId>,
    ) -> Result<(Vec<UserId>, AHashSet<UserId>), ApiError> {
        self.deps.features.require(Feature::PresenceEvents)?;
        if users.is_empty() {
            return Ok((users, AHashSet::new()));
        }
        let payer = Payer::User(self.deps.budgets.of(&by.user));
        let _permit = payer.begin_read(cost::POSITIONS).await;
        payer.spend(cost::of_count(users.len()));
        users.sort_unstable();
        users.dedup();
        let partners = partners::among(&self.deps.pool, &by.user, &users).await;
        let partners = partners.map_err(|e| ApiError::database(&e))?;
        let unknown: Vec<UserId> = self.table.lock().unknown(&partners).into_iter().cloned().collect();
        let online = self.deps.online.among(&unknown).await.map_err(|error| {
            tracing::warn!(%error, "Cannot read presence from Redis; a request to watch users is refused with 503");
            ApiError::unavailable("presence is unavailable: try again", RetryDelay::StoreUnavailable)
        })?;
        let online = unknown.into_iter().zip(online).filter_map(|(user, online)| online.then_some(user));
        Ok((partners, online.collect()))
    }

    /// Replaces the list of the connection and answers, unless it must be refused.
    fn start(
        &self,
        by: &Identity,
        found: Result<(Vec<UserId>, AHashSet<UserId>), ApiError>,
        reply_to: ReplyTo,
    ) -> Result<(), (ApiError, ReplyTo)> {
        let (users, online) = match found {
            Ok(found) => found,
            Err(refusal) => return Err((refusal, reply_to)),
        };
        let connection = by.origin.connection;
        let mut table = self.table.lock();
        if table.len_with(connection, &users) > self.deps.users_max {
            let message =
                "the clients of this gateway watch as many users as it can: try again, or watch fewer";
            return Err((ApiError::unavailable(message, RetryDelay::Overloaded), reply_to));
        }
        // A connection that has ended meanwhile is not in the hub any more, and nothing would remove its list.
        let mut is_here = false;
        self.deps.hub.each_of(by.user.as_str(), |member| is_here |= member.connection == connection);
        if is_here {
            let answer = table.watch((connection, &by.user), users, &online);
            reply_to.send(reply::watching(&answer));
        }
        Ok(())
    }

    /// The connection has ended. To be called after it was removed from the hub.
    pub(crate) fn gone(&self, connection: u64) {
        self.table.lock().gone(connection);
    }

    /// A user blocked another one, who is not told about it any more.
    pub(crate) fn block_changed(&self, change: &v1::BlockChanged) {
        if let (true, Ok(user), Ok(other)) =
            (change.blocked, UserId::parse(&change.user_id), UserId::parse(&change.other_id))
        {
            self.table.lock().blocked(&user, &other);
        }
    }

    /// Reads and tells until the stop. While nobody is watched, it reads nothing.
    pub(crate) async fn follow(self: Arc<Self>, shutdown: Shutdown) {
        let mut heartbeats = Heartbeats::default();
        let mut last_read = None;
        while shutdown.sleep(INTERVAL).await {
            let users = {
                let table = self.table.lock();
                if table.is_empty() {
                    continue;
                }
                table.users()
            };
            let read = timeout(READ_TIMEOUT, self.read(users)).await;
            match read.unwrap_or_else(|_| Err(RedisError::Answer("none within two seconds".to_owned()))) {
                Ok((entries, readings)) => {
                    let now = Instant::now();
                    let is_new = last_read.replace(now).is_none_or(|last| now - last > SILENCE_MAX);
                    if is_new {
                        heartbeats.unknown_until(now);
                    }
                    heartbeats.read(&entries, now);
                    self.tell(&readings, &heartbeats, (now, is_new));
                }
                Err(error) => {
                    if last_read.take().is_some() {
                        tracing::warn!(%error, "Cannot read from Redis who is connected; those who watch are told later");
                    }
                }
            }
        }
    }

    /// The heartbeats of all gateways, and the gateways of each of `users`.
    async fn read(&self, users: Vec<UserId>) -> Result<(Vec<(u64, f64)>, Vec<Reading>), RedisError> {
        let entries = self.deps.registry.heartbeats().await?;
        let entries =
            entries.iter().filter_map(|(id, time)| Some((u64::from_str_radix(id, 16).ok()?, *time)));
        let mut readings = Vec::with_capacity(users.len());
        for users in users.chunks(USERS_AT_ONCE) {
            let gateways = self.deps.presence.gateways_of(users).await?;
            readings.extend(users.iter().cloned().zip(gateways));
        }
        Ok((entries.collect(), readings))
    }

    /// `is_new`: nothing was read for a while.
    fn tell(&self, readings: &[Reading], heartbeats: &Heartbeats, (now, is_new): (Instant, bool)) {
        let mut table = self.table.lock();
        if is_new {
            table.unknown_until(now);
        }
        for told in table.read(readings, heartbeats, (now, unix_millis())) {
            let Told { user, online, last_seen_ms, to } = told;
            let event = Event::Presence { user_id: user.as_str(), online, last_seen: last_seen_ms };
            let frame = reply::event(None, event);
            for (connection, by) in to {
                self.deps.hub.each_of(by.as_str(), |member| {
                    if member.connection == connection {
                        member.outbox.notify(frame.clone());
                    }
                });
            }
        }
    }
}
