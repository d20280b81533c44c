//! User → connections, in several maps so that few share a lock.
//!
//! The audiences of a user's groups are changed under the user's lock, so that a connection that comes or goes while its
//! user joins or leaves a group is neither forgotten nor left behind. The order is always registry, then audience.

use ahash::{AHashMap, AHashSet, RandomState};
use parking_lot::Mutex;
use shared::conversation::Conversation;
use shared::ids::{DeviceId, UserId};

use super::audience::Audience;
use super::{Member, TooMany};
use crate::connection::Identity;

/// Number of maps.
const PARTS: usize = 64;

#[derive(Debug)]
pub(super) struct Registry {
    hasher: RandomState,
    parts: [Mutex<AHashMap<String, User>>; PARTS],
}

#[derive(Debug, Default)]
struct User {
    connections: Vec<(DeviceId, Member)>,
    groups: AHashSet<Conversation>,
}

impl Default for Registry {
    fn default() -> Self {
        Self { hasher: RandomState::new(), parts: std::array::from_fn(|_| Mutex::default()) }
    }
}

impl Registry {
    fn part(&self, user: &str) -> &Mutex<AHashMap<String, User>> {
        #[allow(clippy::cast_possible_truncation)] // any bits will do
        let place = self.hasher.hash_one(user) as usize;
        &self.parts[place % PARTS]
    }

    /// Adds a connection and returns the one of the same device that it replaced.
    pub(super) fn add(
        &self,
        who: &Identity,
        member: Member,
        connections_max: usize,
        audience: &Audience,
    ) -> Result<Option<Member>, TooMany> {
        let mut part = self.part(who.user.as_str()).lock();
        let user = part.entry(who.user.as_str().to_owned()).or_default();
        let joined = member.clone();
        let same_device = user.connections.iter().position(|(device, _)| *device == who.device);
        let replaced = match same_device {
            Some(place) => Some(std::mem::replace(&mut user.connections[place].1, member)),
            None if user.connections.len() >= connections_max => return Err(TooMany),
            None => {
                user.connections.push((who.device.clone(), member));
                None
            }
        };
        for group in &user.groups {
            if let Some(old) = &replaced {
                audience.remove(group, old.connection);
            }
            audience.add(group, joined.clone());
        }
        Ok(replaced)
    }

    /// Removes a connection; false if it was replaced before.
    pub(super) fn remove(&self, who: &Identity, audience: &Audience) -> bool {
        let mut part = self.part(who.user.as_str()).lock();
        let Some(user) = part.get_mut(who.user.as_str()) else { return false };
        let Some(place) =
            user.connections.iter().position(|(_, member)| member.connection == who.origin.connection)
        else {
            return false;
        };
        user.connections.swap_remove(place);
        user.groups.iter().for_each(|group| audience.remove(group, who.origin.connection));
        if user.connections.is_empty() {
            part.remove(who.user.as_str());
        }
        true
    }

    pub(super) fn add_group(&self, user: &UserId, group: &Conversation, audience: &Audience) {
        let mut part = self.part(user.as_str()).lock();
        if let Some(user) = part.get_mut(user.as_str())
            && user.groups.insert(group.clone())
        {
            user.connections.iter().for_each(|(_, member)| audience.add(group, member.clone()));
        }
    }

    pub(super) fn remove_group(&self, user: &UserId, group: &Conversation, audience: &Audience) {
        let mut part = self.part(user.as_str()).lock();
        if let Some(user) = part.get_mut(user.as_str())
            && user.groups.remove(group)
        {
            user.connections.iter().for_each(|(_, member)| audience.remove(group, member.connection));
        }
    }

    pub(super) fn each_of(&self, user: &str, f: &mut impl FnMut(&Member)) -> bool {
        let part = self.part(user).lock();
        let Some(user) = part.get(user) else { return false };
        user.connections.iter().for_each(|(_, member)| f(member));
        true
    }

    pub(super) fn all(&self) -> Vec<Member> {
        let connections = |part: &Mutex<AHashMap<String, User>>| -> Vec<Member> {
            part.lock()
                .values()
                .flat_map(|user| &user.connections)
                .map(|(_, member)| member.clone())
                .collect()
        };
        self.parts.iter().flat_map(connections).collect()
    }
}
