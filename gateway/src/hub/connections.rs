//! Who is connected here, and which connections a conversation concerns.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use ahash::AHashSet;
use shared::conversation::{Conversation, Kind};
use shared::ids::UserId;
use shared::permission::{GroupSettings, Membership};

use super::audience::Audience;
use super::member::{Member, TooMany};
use super::registry::Registry;
use crate::identity::Identity;
use crate::outbox::Outbox;
use crate::wire::close::Close;

/// All connections of this gateway.
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
        let member = Member {
            user: identity.user.clone(),
            connection: identity.origin.connection,
            outbox: Arc::clone(outbox),
        };
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

    /// `user` is in `group` and may do this: its connections here get the group's pushes. True if it was not in it.
    pub fn join(
        &self,
        user: &UserId,
        group: &Conversation,
        about: GroupSettings,
        access: Membership,
    ) -> bool {
        self.registry.set_group(user, group, about, access, &self.audience)
    }

    /// `user` is not in `group` any more. True if it was.
    pub fn leave(&self, user: &UserId, group: &Conversation) -> bool {
        self.registry.remove_group(user, group, &self.audience)
    }

    /// What a connected user may do in a group, unless something about it is stale.
    #[must_use]
    pub fn access(&self, user: &UserId, group: &Conversation) -> Option<(GroupSettings, Membership)> {
        let access = self.registry.access(user.as_str(), group)?;
        Some((self.audience.about(group)?, access))
    }

    /// Whether `user`, connected here, gets the pushes of `group`.
    #[must_use]
    pub fn is_in(&self, user: &UserId, group: &Conversation) -> bool {
        self.registry.access(user.as_str(), group).is_some()
    }

    /// What is known about a group with members here, unless it is stale.
    #[must_use]
    pub fn about(&self, group: &Conversation) -> Option<GroupSettings> {
        self.audience.about(group)
    }

    /// Those of a connected user's groups whose heads are merged into its syncs.
    #[must_use]
    pub fn merging_groups_of(&self, user: &UserId) -> Vec<Conversation> {
        let mut groups = self.registry.groups_of(user.as_str());
        groups.retain(|group| self.audience.about(group).is_none_or(|about| about.merges_head));
        groups
    }

    /// Up to which version changes of `group` were applied; `None` if none of its members is here.
    #[must_use]
    pub fn version(&self, group: &Conversation) -> Option<u64> {
        self.audience.version(group)
    }

    /// What is known about `group` and its members here is of this version now.
    pub fn set_about(&self, group: &Conversation, about: GroupSettings) {
        self.audience.set_about(group, about);
    }

    /// The change to this version was applied; it changed nothing about the group itself but its size.
    pub fn set_version(&self, group: &Conversation, version: u64, merges_head: bool) {
        self.audience.set_version(group, version, merges_head);
    }

    /// A change to this version was heard of: until it and all before it are applied, nothing about `group` is believed.
    pub fn set_heard(&self, group: &Conversation, version: u64) {
        self.audience.set_heard(group, version);
    }

    /// What is known about `group` is not to be believed until [`set_about`](Self::set_about).
    pub fn mark_stale(&self, group: &Conversation) {
        self.audience.mark_stale(group);
    }

    /// The members of `group` who are connected here.
    #[must_use]
    pub fn users_in(&self, group: &Conversation) -> Vec<UserId> {
        let mut users = Vec::new();
        self.audience.each(group, |member| users.push(member.user.clone()));
        users.sort_unstable();
        users.dedup();
        users
    }

    /// All groups that have members here.
    #[must_use]
    pub fn groups(&self) -> Vec<Conversation> {
        self.audience.groups()
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

    /// Everyone who takes no private messages from `user`.
    pub fn set_blockers(&self, user: &UserId, blockers: AHashSet<UserId>) {
        self.registry.set_blockers(user, blockers);
    }

    /// `blocker` takes no private messages from `user` any more, or again.
    pub fn set_blocked(&self, user: &str, blocker: &UserId, blocked: bool) {
        self.registry.set_blocked(user, blocker, blocked);
    }

    /// Whether `by` takes no private messages from `user`; `None` if that is not known here.
    #[must_use]
    pub fn is_blocked(&self, user: &str, by: &str) -> Option<bool> {
        self.registry.is_blocked(user, by)
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
    use shared::permission::HistoryRange;

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

    fn join(hub: &Hub, user: &str, group: &Conversation) {
        let access = Membership::new(HistoryRange::default());
        hub.join(&UserId::parse(user).unwrap(), group, GroupSettings::default(), access);
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
        join(&hub, "alice", &group);
        join(&hub, "nobody", &group);
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
        join(&hub, "alice", &group);
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
        join(&hub, "alice", &Conversation::from_key("group_1").unwrap());
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
