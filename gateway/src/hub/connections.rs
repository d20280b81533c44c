//! Who is connected here, and which connections a conversation concerns.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use ahash::AHashSet;
use shared::conversation::{Conversation, Kind};
use shared::ids::UserId;

use super::audience::Audience;
use super::member::Member;
use super::registry::{Displaced, Registry, Removed};
use crate::identity::Identity;
use crate::outbox::Outbox;
use crate::wire::close::Close;

/// All connections of this gateway that are logged in.
#[derive(Debug, Default)]
pub struct Hub {
    registry: Registry,
    audience: Audience,
    connections: AtomicUsize,
}

impl Hub {
    /// Nobody is connected.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a connection. From here on it gets private messages, and those of the groups to which its user is
    /// [subscribed](Self::subscribe). An older connection of the same device is told to close; so is, if the user has
    /// `connections_max` others, the one whose client sent nothing for longest: its client is most likely gone.
    pub fn register(&self, identity: &Identity, outbox: &Arc<Outbox>, connections_max: usize) {
        outbox.belongs_to(&identity.user);
        let member = Member {
            user: identity.user.clone(),
            connection: identity.origin.connection,
            outbox: Arc::clone(outbox),
        };
        match self.registry.add(identity, member, connections_max, &self.audience) {
            Some(Displaced::SameDevice(old)) => old.outbox.close(Close::Replaced),
            Some(Displaced::MostSilent(old)) => old.outbox.close(Close::TooManyConnections),
            None => _ = self.connections.fetch_add(1, Ordering::Relaxed),
        }
    }

    /// Removes a connection, and only it: an older one that was replaced cannot remove its successor. If it was the last
    /// one of its user, returns the groups to which the user was subscribed.
    pub fn deregister(&self, identity: &Identity) -> Option<AHashSet<Conversation>> {
        let removed = self.registry.remove(identity, &self.audience);
        if removed != Removed::Nothing {
            self.connections.fetch_sub(1, Ordering::Relaxed);
        }
        match removed {
            Removed::Last(groups) => Some(groups),
            Removed::Nothing | Removed::One => None,
        }
    }

    /// The connections of `user` here get the pushes of `group` from here on, later ones too. Nothing happens if the user
    /// has none.
    pub fn subscribe(&self, user: &UserId, group: &Conversation) {
        self.registry.subscribe(user, group, &self.audience);
    }

    /// They do no longer.
    pub fn unsubscribe(&self, user: &UserId, group: &Conversation) {
        self.registry.unsubscribe(user, group, &self.audience);
    }

    /// The groups to which `user` is subscribed.
    #[must_use]
    pub fn groups_of(&self, user: &str) -> Vec<Conversation> {
        self.registry.groups_of(user)
    }

    /// Whether `user` has a connection here.
    #[must_use]
    pub fn is_here(&self, user: &str) -> bool {
        self.registry.is_here(user)
    }

    /// All users with a connection here.
    #[must_use]
    pub fn users(&self) -> Vec<UserId> {
        self.registry.users()
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

    /// The number of connections.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use shared::ids::{ConnectionId, DeviceId};

    use super::*;

    fn identity(user: &str, device: &str, connection: u64) -> Identity {
        Identity {
            user: UserId::parse(user).unwrap(),
            device: DeviceId::parse(device).unwrap(),
            origin: ConnectionId { gateway: 1, connection },
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

    fn subscribe(hub: &Hub, user: &str, group: &Conversation) {
        hub.subscribe(&UserId::parse(user).unwrap(), group);
    }

    fn register(hub: &Hub, identity: &Identity) -> Arc<Outbox> {
        let outbox = Outbox::for_test();
        hub.register(identity, &outbox, 3);
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
        subscribe(&hub, "alice", &group);
        subscribe(&hub, "nobody", &group);
        assert_eq!(concerned(&hub, "group_1"), [1, 2]);
        register(&hub, &identity("alice", "tablet", 4));
        assert_eq!(concerned(&hub, "group_1"), [1, 2, 4], "a later connection is in its user's groups");
        hub.unsubscribe(&UserId::parse("alice").unwrap(), &group);
        assert_eq!(concerned(&hub, "group_1"), [0; 0]);
    }

    #[test]
    fn a_replaced_connection_cannot_remove_its_successor() {
        let hub = Hub::new();
        let (old, new) = (identity("alice", "phone", 1), identity("alice", "phone", 2));
        let group = Conversation::from_key("group_1").unwrap();
        let outbox = register(&hub, &old);
        subscribe(&hub, "alice", &group);
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
        subscribe(&hub, "alice", &Conversation::from_key("group_1").unwrap());
        register(&hub, &new);
        hub.deregister(&new);
        hub.deregister(&old);
        assert_eq!((concerned(&hub, "group_1"), hub.connections()), (vec![], 0));
    }

    #[test]
    fn a_further_connection_displaces_the_one_that_was_silent_longest() {
        let hub = Hub::new();
        let group = Conversation::from_key("group_1").unwrap();
        let outboxes: Vec<_> =
            (1..=3).map(|n| register(&hub, &identity("alice", &format!("d{n}"), n))).collect();
        subscribe(&hub, "alice", &group);
        for (outbox, at_ms) in outboxes.iter().zip([50, 30, 40]) {
            outbox.heard_at(at_ms);
        }
        let third = register(&hub, &identity("alice", "d3", 4));
        assert_eq!(outboxes[2].close_reason(), Some(Close::Replaced), "replacing is no addition");
        third.heard_at(60);
        let fourth = register(&hub, &identity("alice", "d4", 5));
        fourth.heard_at(70);
        assert_eq!(outboxes[1].close_reason(), Some(Close::TooManyConnections), "silent longest");
        assert_eq!((concerned(&hub, "group_1"), hub.connections()), (vec![1, 4, 5], 3));
        hub.deregister(&identity("alice", "d2", 2));
        assert_eq!((concerned(&hub, "private_alice bob"), hub.connections()), (vec![1, 4, 5], 3));
        register(&hub, &identity("alice", "d5", 6));
        assert_eq!(outboxes[0].close_reason(), Some(Close::TooManyConnections));
        register(&hub, &identity("bob", "d1", 7));
        assert_eq!((third.close_reason(), fourth.close_reason(), hub.connections()), (None, None, 4));
    }
}
