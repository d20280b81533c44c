//! The entrance to the view: what requests, logins and events call.

use std::sync::Arc;
use std::time::Instant;

use ahash::AHashMap;
use proto::v1;
use shared::conversation::Conversation;
use shared::feed::Reader;
use shared::ids::{Seq, UserId};
use shared::mysql::groups::GroupPolicy;
use shared::mysql::{self, Pool, members, views};
use shared::permission::{HistoryRange, Permissions};
use shared::shutdown::Shutdown;

use super::inbox_updates::InboxUpdates;
use super::quotas::Quotas;
use super::reloader::Reloader;
use super::view::{Loaded, View};
use crate::announce::Announcer;
use crate::hub::Hub;
use crate::id_profile::IdProfile;
use crate::identity::Identity;
use crate::wire::api_error::ApiError;

/// Groups that anyone may join by using them.
#[derive(Debug)]
pub(crate) struct OpenGroups {
    /// A group that does not exist is created, open to everyone, when someone uses it.
    pub(crate) auto_create: bool,
    /// Which ids such a group may have.
    pub(crate) ids: IdProfile,
    /// Limits of groups.
    pub(crate) policy: GroupPolicy,
    /// Limits of the users who make and join them.
    pub(crate) quotas: Arc<Quotas>,
    /// Announces joins.
    pub(crate) announcer: Announcer,
    /// Records joins.
    pub(crate) inbox_updates: InboxUpdates,
}

/// What connected users may do, from memory, and what all others may do, from the database.
#[derive(Debug)]
pub(crate) struct Memberships {
    pub(super) view: Arc<View>,
    pub(super) reloader: Arc<Reloader>,
    pub(super) pool: Pool,
    pub(super) open_groups: OpenGroups,
}

impl Memberships {
    /// Nothing is known yet about the users of `hub`. Reloads run in `tasks`.
    #[must_use]
    pub(crate) fn new(hub: Arc<Hub>, pool: Pool, open_groups: OpenGroups, tasks: Shutdown) -> Self {
        let view = Arc::new(View::new(hub, Instant::now()));
        let reloader = Reloader::new(Arc::clone(&view), pool.clone(), tasks);
        Self { view, reloader, pool, open_groups }
    }

    /// What `user` may do in `conversation`, if that is known without asking anyone.
    #[must_use]
    pub(crate) fn known(&self, conversation: &Conversation, user: &UserId) -> Option<Permissions> {
        if !self.view.freshness().is_fresh(Instant::now()) {
            return None;
        }
        self.view.cache().permissions(conversation, user)
    }

    /// The same for sending. While the database is unavailable, a message is accepted by what is known, although that may be old:
    /// there is nothing else to ask, and its sender is checked again at the commit.
    #[must_use]
    pub(crate) fn known_to_send(&self, conversation: &Conversation, user: &UserId) -> Option<Permissions> {
        let freshness = self.view.freshness();
        if !freshness.is_fresh(Instant::now()) && !freshness.is_database_away() {
            return None;
        }
        self.view.cache().permissions(conversation, user)
    }

    /// `permissions` with what `user` has cleared, as far as that is known here.
    #[must_use]
    pub(crate) fn without_cleared(
        &self,
        permissions: Permissions,
        conversation: &Conversation,
        user: &UserId,
    ) -> Permissions {
        permissions.hiding_up_to(self.view.cleared().of(user, conversation))
    }

    /// Whether the group is known to have no entries in inboxes, because it is, or was lately, too large.
    #[must_use]
    pub(crate) fn merges_head(&self, conversation: &Conversation) -> bool {
        self.view.cache().settings(conversation).is_some_and(|settings| settings.merges_head)
    }

    /// Those of a connected user's groups that may have no entries in inboxes, so that syncs merge them in.
    #[must_use]
    pub(crate) fn merging_groups_of(&self, user: &UserId) -> Vec<Conversation> {
        let mut groups = self.view.hub().groups_of(user.as_str());
        groups.retain(|group| self.view.cache().settings(group).is_none_or(|settings| settings.merges_head));
        groups
    }

    /// The history that `user` sees of those of `groups` that it is a member of.
    ///
    /// # Errors
    /// As the database says.
    pub(crate) async fn accesses(
        &self,
        user: &UserId,
        groups: &[&Conversation],
    ) -> Result<AHashMap<Conversation, HistoryRange>, mysql::Error> {
        let mut unknown = Vec::new();
        let mut found = AHashMap::with_capacity(groups.len());
        for group in groups {
            match self.known(group, user) {
                Some(permissions) => _ = found.insert((*group).clone(), permissions.history),
                None => unknown.push(*group),
            }
        }
        if !unknown.is_empty() {
            let read = members::memberships_among(&self.pool, user, &unknown).await?;
            found.extend(read.into_iter().map(|(group, membership)| (group, membership.history)));
        }
        Ok(found)
    }

    /// What `user` sees of the change feed.
    ///
    /// # Errors
    /// 503 where the database is unavailable.
    pub(crate) async fn feed_reader(&self, user: &UserId) -> Result<Reader, ApiError> {
        let groups = members::sights_of(&self.pool, user);
        let cleared = views::cleared_of(&self.pool, std::slice::from_ref(user));
        let read = futures_util::try_join!(groups, cleared);
        let (groups, mut cleared) = read.map_err(|error| ApiError::database(&error))?;
        let cleared = cleared.remove(user).unwrap_or_default().into_iter().collect();
        Ok(Reader::new(user.clone(), groups, cleared))
    }

    /// Reads what is to be known about each of `users`, in their order, before its connection does anything. The
    /// connections must be registered before.
    ///
    /// # Errors
    /// 503 where the database is unavailable.
    pub(crate) async fn load(&self, users: &[UserId]) -> Result<Vec<Loaded>, ApiError> {
        self.reloader.load(users).await.map_err(|e| ApiError::database(&e))
    }

    /// Takes over what [`load`](Self::load) has read about `user`.
    pub(crate) fn logged_in(&self, user: &UserId, loaded: Loaded) {
        self.reloader.start(self.view.logged_in(user, loaded, Instant::now()));
    }

    /// Removes a connection from the hub. If it was the last one of its user, what is known about the user is forgotten.
    pub(crate) fn disconnected(&self, identity: &Identity) {
        self.view.disconnected(identity, Instant::now());
    }

    /// A gateway changed a group. To be called for every such event, and for this gateway's own changes when they are
    /// made. Returns whether someone here is concerned.
    pub(crate) fn changed(&self, change: &v1::MembershipChanged) -> bool {
        self.reloader.follow(self.view.changed(change, Instant::now()))
    }

    /// A user blocked another one, or takes its messages again; as [`changed`](Self::changed).
    pub(crate) fn block_changed(&self, change: &v1::BlockChanged) -> bool {
        self.reloader.follow(self.view.block_changed(change))
    }

    /// A user cleared a conversation; as [`changed`](Self::changed).
    pub(crate) fn conversation_cleared(&self, cleared: &v1::ConversationCleared) -> bool {
        let conversation = Conversation::from_key(&cleared.conversation);
        let (Ok(conversation), Ok(user)) = (conversation, UserId::parse(&cleared.user_id)) else {
            return false;
        };
        self.view.conversation_cleared(&user, &conversation, Seq(cleared.seq))
    }

    /// Resolves when all changes that were heard of by now are applied.
    pub(crate) async fn caught_up(&self) {
        self.reloader.finished().await;
    }

    /// Events were lost: nothing is relied on until the list of changes was read.
    pub(crate) fn events_lost(&self) {
        self.view.freshness().invalidate();
    }
}
