//! User → connections, in several maps so that few share a lock.
//!
//! The audiences of a user's groups are changed under the user's lock, so that a connection that comes or goes while its
//! user joins or leaves a group is neither forgotten nor left behind. The order is always registry, then audience.

use ahash::{AHashMap, AHashSet, RandomState};
use parking_lot::Mutex;
use shared::conversation::Conversation;
use shared::ids::{DeviceId, UserId};
use shared::permission::{GroupSettings, Membership};

use super::audience::Audience;
use super::member::{Member, TooMany};
use crate::identity::Identity;

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
    groups: AHashMap<Conversation, Membership>,
    /// Who takes no private messages from this user; `None` while it is not known.
    blockers: Option<AHashSet<UserId>>,
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
        for group in user.groups.keys() {
            // In this order: a group that has nobody here for a moment would forget what is known about it.
            audience.add_another(group, joined.clone());
            if let Some(old) = &replaced {
                audience.remove(group, old.connection);
            }
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
        user.groups.keys().for_each(|group| audience.remove(group, who.origin.connection));
        if user.connections.is_empty() {
            part.remove(who.user.as_str());
        }
        true
    }

    /// Notes what `user` may do in `group`. True if it is new there; false too if the user is not connected here.
    pub(super) fn set_group(
        &self,
        user: &UserId,
        group: &Conversation,
        about: GroupSettings,
        access: Membership,
        audience: &Audience,
    ) -> bool {
        let mut part = self.part(user.as_str()).lock();
        let Some(user) = part.get_mut(user.as_str()) else { return false };
        let is_new = user.groups.insert(group.clone(), access).is_none();
        if is_new {
            user.connections.iter().for_each(|(_, member)| audience.add(group, about, member.clone()));
        }
        is_new
    }

    /// True if `user` was in it.
    pub(super) fn remove_group(&self, user: &UserId, group: &Conversation, audience: &Audience) -> bool {
        let mut part = self.part(user.as_str()).lock();
        let Some(user) = part.get_mut(user.as_str()) else { return false };
        let was_in = user.groups.remove(group).is_some();
        if was_in {
            user.connections.iter().for_each(|(_, member)| audience.remove(group, member.connection));
        }
        was_in
    }

    /// What `user` may do in `group`, if it is connected here.
    pub(super) fn access(&self, user: &str, group: &Conversation) -> Option<Membership> {
        let part = self.part(user).lock();
        part.get(user)?.groups.get(group).copied()
    }

    /// The groups of `user`, if it is connected here.
    pub(super) fn groups_of(&self, user: &str) -> Vec<Conversation> {
        let part = self.part(user).lock();
        part.get(user).map(|user| user.groups.keys().cloned().collect()).unwrap_or_default()
    }

    pub(super) fn is_here(&self, user: &str) -> bool {
        self.part(user).lock().contains_key(user)
    }

    pub(super) fn set_blockers(&self, user: &UserId, blockers: AHashSet<UserId>) {
        if let Some(user) = self.part(user.as_str()).lock().get_mut(user.as_str()) {
            user.blockers = Some(blockers);
        }
    }

    /// `blocker` takes no private messages from `user` any more, or again. Where nothing is known yet, it is being read.
    pub(super) fn set_blocked(&self, user: &str, blocker: &UserId, blocked: bool) {
        let mut part = self.part(user).lock();
        let Some(blockers) = part.get_mut(user).and_then(|user| user.blockers.as_mut()) else { return };
        if blocked {
            blockers.insert(blocker.clone());
        } else {
            blockers.remove(blocker);
        }
    }

    pub(super) fn is_blocked(&self, user: &str, by: &str) -> Option<bool> {
        let part = self.part(user).lock();
        let blockers = part.get(user)?.blockers.as_ref()?;
        Some(blockers.contains(by))
    }

    /// Everyone who is connected.
    pub(super) fn users(&self) -> Vec<UserId> {
        let of = |part: &Mutex<AHashMap<String, User>>| -> Vec<UserId> {
            part.lock()
                .values()
                .filter_map(|user| user.connections.first())
                .map(|(_, member)| member.user.clone())
                .collect()
        };
        self.parts.iter().flat_map(of).collect()
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
