//! User → connections, in several maps so that few threads share a lock.
//!
//! The audiences of a user's groups are changed under the user's lock, so that a connection that comes or goes while its
//! user joins or leaves a group is neither forgotten nor left behind. The order of locks is registry, then audience.

use ahash::{AHashMap, AHashSet, RandomState};
use parking_lot::Mutex;
use shared::conversation::Conversation;
use shared::ids::{DeviceId, UserId};

use super::audience::Audience;
use super::member::Member;
use crate::identity::Identity;

/// Number of maps.
const PARTS: usize = 64;

type Part = AHashMap<UserId, User>;

#[derive(Debug)]
pub(super) struct Registry {
    hasher: RandomState,
    parts: [Mutex<Part>; PARTS],
}

/// A user with at least one connection.
#[derive(Debug, Default)]
struct User {
    connections: Vec<(DeviceId, Member)>,
    /// The groups whose pushes all its connections get.
    groups: AHashSet<Conversation>,
}

impl User {
    /// The place of the connection whose client sent nothing for longest; of those alike, the oldest one.
    fn most_silent(&self) -> Option<usize> {
        let connections = self.connections.iter().enumerate();
        let most_silent =
            connections.min_by_key(|(_, (_, member))| (member.outbox.heard_at_ms(), member.connection));
        most_silent.map(|(place, _)| place)
    }
}

/// A connection that has to go for a new one.
#[derive(Debug)]
pub(super) enum Displaced {
    /// It is of the same device.
    SameDevice(Member),
    /// Its user has as many connections as allowed, and this one was silent longest.
    MostSilent(Member),
}

/// What became of a connection's removal.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Removed {
    /// It was replaced before.
    Nothing,
    /// Its user has other connections.
    One,
    /// It was the last one of its user, who had the pushes of these groups.
    Last(AHashSet<Conversation>),
}

impl Default for Registry {
    fn default() -> Self {
        Self { hasher: RandomState::new(), parts: std::array::from_fn(|_| Mutex::default()) }
    }
}

impl Registry {
    fn part(&self, user: &str) -> &Mutex<Part> {
        #[expect(clippy::cast_possible_truncation, reason = "any bits of a hash will do")]
        let hash = self.hasher.hash_one(user) as usize;
        &self.parts[hash % PARTS]
    }

    /// Adds a connection, which gets the pushes of its user's groups. Returns the connection that has to go for it: the
    /// one of the same device, or, if the user has `connections_max`, the one that was silent longest.
    pub(super) fn add(
        &self,
        identity: &Identity,
        member: Member,
        connections_max: usize,
        audience: &Audience,
    ) -> Option<Displaced> {
        let mut part = self.part(identity.user.as_str()).lock();
        let user = part.entry(identity.user.clone()).or_default();
        let added = member.clone();
        let same_device = user.connections.iter().position(|(device, _)| *device == identity.device);
        let new = (identity.device.clone(), member);
        let displaced = match same_device {
            Some(place) => {
                Some(Displaced::SameDevice(std::mem::replace(&mut user.connections[place], new).1))
            }
            None if user.connections.len() >= connections_max => user
                .most_silent()
                .map(|place| Displaced::MostSilent(std::mem::replace(&mut user.connections[place], new).1)),
            None => {
                user.connections.push(new);
                None
            }
        };
        for group in &user.groups {
            audience.add(group, added.clone());
            if let Some(Displaced::SameDevice(old) | Displaced::MostSilent(old)) = &displaced {
                audience.remove(group, old.connection);
            }
        }
        displaced
    }

    /// Removes a connection.
    pub(super) fn remove(&self, identity: &Identity, audience: &Audience) -> Removed {
        let mut part = self.part(identity.user.as_str()).lock();
        let Some(user) = part.get_mut(&identity.user) else { return Removed::Nothing };
        let connection = identity.origin.connection;
        let Some(place) = user.connections.iter().position(|(_, member)| member.connection == connection)
        else {
            return Removed::Nothing;
        };
        user.connections.swap_remove(place);
        user.groups.iter().for_each(|group| audience.remove(group, connection));
        if !user.connections.is_empty() {
            return Removed::One;
        }
        part.remove(&identity.user).map_or(Removed::Nothing, |user| Removed::Last(user.groups))
    }

    /// The connections of `user`, if it has any, get the pushes of `group` from here on.
    pub(super) fn subscribe(&self, user: &UserId, group: &Conversation, audience: &Audience) {
        let mut part = self.part(user.as_str()).lock();
        let Some(user) = part.get_mut(user) else { return };
        if user.groups.insert(group.clone()) {
            user.connections.iter().for_each(|(_, member)| audience.add(group, member.clone()));
        }
    }

    /// They do no longer.
    pub(super) fn unsubscribe(&self, user: &UserId, group: &Conversation, audience: &Audience) {
        let mut part = self.part(user.as_str()).lock();
        let Some(user) = part.get_mut(user) else { return };
        if user.groups.remove(group) {
            user.connections.iter().for_each(|(_, member)| audience.remove(group, member.connection));
        }
    }

    /// The groups whose pushes the connections of `user` get.
    pub(super) fn groups_of(&self, user: &str) -> Vec<Conversation> {
        let part = self.part(user).lock();
        part.get(user).map(|user| user.groups.iter().cloned().collect()).unwrap_or_default()
    }

    pub(super) fn is_here(&self, user: &str) -> bool {
        self.part(user).lock().contains_key(user)
    }

    /// All users that have a connection.
    pub(super) fn users(&self) -> Vec<UserId> {
        self.parts.iter().flat_map(|part| part.lock().keys().cloned().collect::<Vec<_>>()).collect()
    }

    /// Calls `f` for each connection of `user`; false if there is none.
    pub(super) fn each_of(&self, user: &str, f: &mut impl FnMut(&Member)) -> bool {
        let part = self.part(user).lock();
        let Some(user) = part.get(user) else { return false };
        user.connections.iter().for_each(|(_, member)| f(member));
        true
    }

    /// All connections.
    pub(super) fn all(&self) -> Vec<Member> {
        let connections = |part: &Mutex<Part>| -> Vec<Member> {
            let part = part.lock();
            part.values().flat_map(|user| &user.connections).map(|(_, member)| member.clone()).collect()
        };
        self.parts.iter().flat_map(connections).collect()
    }
}
