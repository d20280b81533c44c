//! Who is connected here, and which connections a conversation concerns.

mod audience;
mod registry;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use shared::conversation::{Conversation, Kind};
use shared::ids::UserId;

use crate::connection::Identity;
use crate::outbox::Outbox;
use crate::wire::close::Close;
use audience::Audience;
use registry::Registry;

/// A connection as the hub knows it. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Member {
    /// [`shared::ids::Origin::connection`]
    pub connection: u64,
    /// Its outbox.
    pub outbox: Arc<Outbox>,
}

/// All connections of this gateway.
#[derive(Debug, Default)]
pub struct Hub {
    registry: Registry,
    audience: Audience,
    connections: AtomicUsize,
}

/// The user has as many connections as allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooMany;

impl Hub {
    /// Nobody is connected.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a connection, which gets private messages from here on, and those of the groups that are added by
    /// [`join`](Self::join). An older connection of the same device is told to close.
    ///
    /// # Errors
    /// [`TooMany`] if the user has `connections_max` others.
    pub fn register(
        &self,
        identity: &Identity,
        outbox: &Arc<Outbox>,
        connections_max: usize,
    ) -> Result<(), TooMany> {
        let member = Member { connection: identity.origin.connection, outbox: Arc::clone(outbox) };
        match self.registry.add(identity, member, connections_max, &self.audience)? {
            Some(replaced) => replaced.outbox.close(Close::Replaced),
            None => _ = self.connections.fetch_add(1, Ordering::Relaxed),
        }
        Ok(())
    }

    /// Removes a connection, and only it: an older one that was replaced cannot remove its successor.
    pub fn deregister(&self, identity: &Identity) {
        if self.registry.remove(identity, &self.audience) {
            self.connections.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// `user` is in `group`: its connections here get the group's pushes.
    pub fn join(&self, user: &UserId, group: &Conversation) {
        self.registry.add_group(user, group, &self.audience);
    }

    /// `user` is not in `group` any more.
    pub fn leave(&self, user: &UserId, group: &Conversation) {
        self.registry.remove_group(user, group, &self.audience);
    }

    /// Calls `f` for each connection here that `conversation` concerns; false if there is none.
    pub fn each_concerned(&self, conversation: &Conversation, mut f: impl FnMut(&Member)) -> bool {
        match conversation.kind() {
            Kind::Group => self.audience.each(conversation, f),
            Kind::Private(lo, hi) => {
                let mut any = self.registry.each_of(lo, &mut f);
                if lo != hi {
                    any |= self.registry.each_of(hi, &mut f);
                }
                any
            }
        }
    }

    /// Calls `f` for each connection of `user` here; false if there is none.
    pub fn each_of(&self, user: &str, mut f: impl FnMut(&Member)) -> bool {
        self.registry.each_of(user, &mut f)
    }

    /// All connections at this moment.
    #[must_use]
    pub fn all(&self) -> Vec<Member> {
        self.registry.all()
    }

    /// How many connections are logged in.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use shared::ids::{DeviceId, Origin};

    use super::*;

    fn identity(user: &str, device: &str, connection: u64) -> Identity {
        Identity {
            user: UserId::parse(user).unwrap(),
            device: DeviceId::parse(device).unwrap(),
            origin: Origin { gateway: 1, connection },
        }
    }

    fn concerned(hub: &Hub, key: &str) -> Vec<u64> {
        let mut connections = Vec::new();
        hub.each_concerned(&Conversation::from_key(key).unwrap(), |member| {
            connections.push(member.connection)
        });
        connections.sort_unstable();
        connections
    }

    fn register(hub: &Hub, identity: &Identity) -> Arc<Outbox> {
        let outbox = Outbox::new(8, 1000);
        hub.register(identity, &outbox, 3).unwrap();
        outbox
    }

    #[test]
    fn private_chats_concern_both_users_and_groups_their_members() {
        let hub = Hub::new();
        register(&hub, &identity("alice", "phone", 1));
        register(&hub, &identity("alice", "desk", 2));
        register(&hub, &identity("bob", "phone", 3));
        assert_eq!(concerned(&hub, "private_alice bob"), [1, 2, 3]);
        assert_eq!(concerned(&hub, "private_alice alice"), [1, 2]);
        assert_eq!(concerned(&hub, "private_carol dave"), [0; 0]);
        let group = Conversation::from_key("group_1").unwrap();
        hub.join(&UserId::parse("alice").unwrap(), &group);
        hub.join(&UserId::parse("nobody").unwrap(), &group);
        assert_eq!(concerned(&hub, "group_1"), [1, 2]);
        register(&hub, &identity("alice", "tablet", 4));
        assert_eq!(concerned(&hub, "group_1"), [1, 2, 4], "a later connection is in its user's groups");
        hub.leave(&UserId::parse("alice").unwrap(), &group);
        assert_eq!(concerned(&hub, "group_1"), [0; 0]);
    }

    #[test]
    fn a_replaced_connection_cannot_remove_its_successor() {
        let hub = Hub::new();
        let (old, new) = (identity("alice", "phone", 1), identity("alice", "phone", 2));
        let group = Conversation::from_key("group_1").unwrap();
        let outbox = register(&hub, &old);
        hub.join(&old.user, &group);
        register(&hub, &new);
        assert_eq!(outbox.close_reason(), Some(Close::Replaced));
        hub.deregister(&old);
        assert_eq!(concerned(&hub, "group_1"), [2]);
        assert_eq!(concerned(&hub, "private_alice bob"), [2]);
        hub.deregister(&new);
        assert_eq!((concerned(&hub, "group_1"), hub.connections()), (vec![], 0));
    }

    #[test]
    fn a_replaced_connection_that_goes_after_its_successor_leaves_nothing_behind() {
        let hub = Hub::new();
        let (old, new) = (identity("alice", "phone", 1), identity("alice", "phone", 2));
        register(&hub, &old);
        hub.join(&old.user, &Conversation::from_key("group_1").unwrap());
        register(&hub, &new);
        hub.deregister(&new);
        hub.deregister(&old);
        assert_eq!((concerned(&hub, "group_1"), hub.connections()), (vec![], 0));
    }

    #[test]
    fn a_user_has_a_limited_number_of_connections() {
        let hub = Hub::new();
        for n in 1..=3 {
            register(&hub, &identity("alice", &format!("d{n}"), n));
        }
        let outbox = Outbox::new(8, 1000);
        assert_eq!(hub.register(&identity("alice", "d4", 4), &outbox, 3), Err(TooMany));
        assert_eq!(hub.register(&identity("alice", "d3", 5), &outbox, 3), Ok(()), "replacing is no addition");
        assert_eq!(hub.register(&identity("bob", "d1", 6), &outbox, 3), Ok(()));
    }
}
