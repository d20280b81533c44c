//! The watched users and the connections that watch them. Pure.

use std::time::{Duration, Instant};

use ahash::{AHashMap, AHashSet};
use shared::ids::UserId;

use super::heartbeats::Heartbeats;

/// How long after a user has gone that is told: a client that reconnects in between has not been away for those who watch
/// it. With the seconds until it is noticed, it is told 5 to 10 s after the user has gone.
const TOLD_AFTER: Duration = Duration::from_millis(5_500);
/// The same for the users of a gateway that died, after its last heartbeat: a gateway may die two seconds after one.
const TOLD_AFTER_DEATH: Duration = Duration::from_secs(7);

/// Who watches whom.
#[derive(Debug, Default)]
pub(super) struct Table {
    users: AHashMap<UserId, Watched>,
    connections: AHashMap<u64, Watcher>,
}

/// A connection that watches users.
#[derive(Debug)]
struct Watcher {
    user: UserId,
    watched: Vec<UserId>,
}

/// A user who is watched.
#[derive(Debug)]
struct Watched {
    state: State,
    /// Connections.
    by: AHashSet<u64>,
}

/// What those who watch a user have been told, and whether that is going to change.
#[derive(Debug, PartialEq, Eq)]
enum State {
    Offline,
    Online {
        /// The live gateways to which it was connected.
        via: Vec<u64>,
    },
    /// It is gone, which is told at `tell`, unless it is back by then.
    Leaving {
        tell: Instant,
        last_seen_ms: i64,
    },
}

/// The gateways to which a user is connected, by the records in Redis, some of which may be of gateways that died.
pub(super) type Reading = (UserId, Vec<u64>);

/// What is to be told about one user.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Told {
    pub(super) user: UserId,
    pub(super) online: bool,
    /// When it was last connected, in milliseconds since 1970; `None` while it is.
    pub(super) last_seen_ms: Option<i64>,
    /// The connections, each with its user.
    pub(super) to: Vec<(u64, UserId)>,
}

impl Table {
    pub(super) fn is_empty(&self) -> bool {
        self.connections.is_empty()
    }

    pub(super) fn users(&self) -> Vec<UserId> {
        self.users.keys().cloned().collect()
    }

    /// How many of `users` nobody watches yet.
    pub(super) fn unknown<'u>(&self, users: &'u [UserId]) -> Vec<&'u UserId> {
        users.iter().filter(|user| !self.users.contains_key(*user)).collect()
    }

    /// The number of watched users if `connection` watched `users` instead of its present ones.
    pub(super) fn len_with(&self, connection: u64, users: &[UserId]) -> usize {
        let before = self.connections.get(&connection).map(|watcher| watcher.watched.as_slice());
        let only_here = |user: &&UserId| {
            !users.contains(*user) && self.users.get(*user).is_some_and(|watched| watched.by.len() == 1)
        };
        let released = before.unwrap_or_default().iter().filter(only_here).count();
        self.users.len() + self.unknown(users).len() - released
    }

    /// `connection` of `user` watches `watched`, each given once, and nobody else, from now on. `online`: those of the users
    /// whom nobody watched before that are connected. Returns for each whether it is online, as far as that has been told.
    pub(super) fn watch(
        &mut self,
        (connection, user): (u64, &UserId),
        watched: Vec<UserId>,
        online: &AHashSet<UserId>,
    ) -> Vec<(UserId, bool)> {
        let mut answer = Vec::with_capacity(watched.len());
        for one in &watched {
            let is_online = online.contains(one);
            let state = if is_online { State::Online { via: Vec::new() } } else { State::Offline };
            let entry = self.users.entry(one.clone()).or_insert(Watched { state, by: AHashSet::new() });
            entry.by.insert(connection);
            answer.push((one.clone(), entry.state != State::Offline));
        }
        let before = match watched.is_empty() {
            true => self.connections.remove(&connection),
            false => self.connections.insert(connection, Watcher { user: user.clone(), watched }),
        };
        let still: AHashSet<&UserId> = answer.iter().map(|(one, _)| one).collect();
        for left in before.into_iter().flat_map(|watcher| watcher.watched) {
            if !still.contains(&left) {
                release(&mut self.users, &left, connection);
            }
        }
        answer
    }

    /// `connection` has ended.
    pub(super) fn gone(&mut self, connection: u64) {
        for user in self.connections.remove(&connection).into_iter().flat_map(|watcher| watcher.watched) {
            release(&mut self.users, &user, connection);
        }
    }

    /// `user` has blocked `by`, who sees nothing of it any more.
    pub(super) fn blocked(&mut self, user: &UserId, by: &UserId) {
        let Some(watched) = self.users.get(user) else { return };
        let mut connections: Vec<u64> = watched.by.iter().copied().collect();
        connections.retain(|connection| self.connections.get(connection).is_some_and(|it| it.user == *by));
        for connection in connections {
            if let Some(watcher) = self.connections.get_mut(&connection) {
                watcher.watched.retain(|one| one != user);
                if watcher.watched.is_empty() {
                    self.connections.remove(&connection);
                }
            }
            release(&mut self.users, user, connection);
        }
    }

    /// Nothing could be read for a while: who seemed to be gone may have come back meanwhile.
    pub(super) fn unknown_until(&mut self, now: Instant) {
        for watched in self.users.values_mut() {
            if let State::Leaving { tell, .. } = &mut watched.state {
                *tell = now + TOLD_AFTER;
            }
        }
    }

    /// What is to be told now that `readings` were made. `now_ms`: milliseconds since 1970.
    pub(super) fn read(
        &mut self,
        readings: &[Reading],
        heartbeats: &Heartbeats,
        (now, now_ms): (Instant, i64),
    ) -> Vec<Told> {
        let mut told = Vec::new();
        for (user, gateways) in readings {
            let Some(watched) = self.users.get_mut(user) else { continue };
            let is_alive = |gateway: &u64| heartbeats.is_alive(*gateway, now);
            let live: Vec<u64> = gateways.iter().copied().filter(is_alive).collect();
            let online = !live.is_empty();
            let last_seen_ms = match (&mut watched.state, online) {
                (State::Offline, false) => continue,
                (State::Offline, true) => {
                    watched.state = State::Online { via: live };
                    None
                }
                (State::Online { .. } | State::Leaving { .. }, true) => {
                    watched.state = State::Online { via: live };
                    continue;
                }
                (State::Online { via }, false) => {
                    // A record that is still there is of a gateway that could not remove it.
                    let left_behind = via.iter().filter(|gateway| gateways.contains(gateway));
                    let died = left_behind.filter_map(|gateway| heartbeats.died(*gateway, now)).max();
                    watched.state = leaving(died, now, now_ms);
                    continue;
                }
                (State::Leaving { tell, .. }, false) if now < *tell => continue,
                (State::Leaving { last_seen_ms, .. }, false) => {
                    let last_seen_ms = *last_seen_ms;
                    watched.state = State::Offline;
                    Some(last_seen_ms)
                }
            };
            let connections = watched.by.iter().copied();
            let to = connections.filter_map(|id| Some((id, self.connections.get(&id)?.user.clone())));
            told.push(Told { user: user.clone(), online, last_seen_ms, to: to.collect() });
        }
        told
    }
}

fn leaving(died: Option<Instant>, now: Instant, now_ms: i64) -> State {
    let Some(died) = died else {
        return State::Leaving { tell: now + TOLD_AFTER, last_seen_ms: now_ms };
    };
    let ago_ms = i64::try_from(now.saturating_duration_since(died).as_millis()).unwrap_or(0);
    State::Leaving { tell: died + TOLD_AFTER_DEATH, last_seen_ms: now_ms - ago_ms }
}

fn release(users: &mut AHashMap<UserId, Watched>, user: &UserId, connection: u64) {
    let Some(watched) = users.get_mut(user) else { return };
    watched.by.remove(&connection);
    if watched.by.is_empty() {
        users.remove(user);
    }
}

#[cfg(test)]
mod tests;
