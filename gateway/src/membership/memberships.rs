//! What connected users may do, kept true by events and by the list of changes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use ahash::{AHashMap, AHashSet};
use parking_lot::Mutex;
use proto::v1;
use shared::backoff::Backoff;
use shared::conversation::{Conversation, Kind};
use shared::ids::{Seq, UserId, unix_millis};
use shared::mysql::groups::{self, Changed, GroupSizes, JoinGroup};
use shared::mysql::members::{self, GroupMembership};
use shared::mysql::{self, Pool, blocks};
use shared::permission::{Action, Denied, GroupSettings, HistoryRange, Membership, Permissions, Relation};
use shared::redis::inbox::{Inboxes, Note, Touch};
use shared::shutdown::Shutdown;
use tokio::sync::{Notify, Semaphore, watch};

use super::event::event;
use super::freshness::Freshness;
use super::refusals::refusal;
use crate::announce::Announcer;
use crate::hub::Hub;
use crate::wire::api_error::ApiError;
use crate::wire::reply::{self, Event};

/// How long the changes that a held one follows are given to come, before the group is read again.
const GAP_PATIENCE: Duration = Duration::from_millis(50);
/// Changes of one group that are held; with more the group is read again.
const HELD_MAX: usize = 256;
/// Groups that are read again at the same time: others need connections to the database too.
const RELOADS_AT_ONCE: usize = 4;
/// How often a note in inboxes is tried: with the growing pauses in between, for half a minute.
const NOTING_ATTEMPTS: usize = 20;
/// Longer than a login takes from its look into the database to its end.
const RECENT_KEPT: Duration = Duration::from_secs(10);
/// Recently changed groups that are remembered before old ones are forgotten.
const RECENT_MAX: usize = 4_096;

/// What a login has to know.
#[derive(Debug)]
pub struct Loaded {
    groups: Vec<GroupMembership>,
    blockers: AHashSet<UserId>,
    /// As it was before they were read.
    blocks_heard: u64,
}

/// The memberships of connected users, and the way to the others.
#[derive(Debug)]
pub struct Memberships {
    pub(super) pool: Pool,
    pub(super) hub: Arc<Hub>,
    announcer: Announcer,
    inboxes: Inboxes,
    auto_create: bool,
    sizes: GroupSizes,
    /// One change is applied at a time.
    applying: Mutex<Held>,
    /// Wakes those who wait for what a held change follows.
    filled: Notify,
    /// Groups that are being read again.
    reloading: Mutex<AHashMap<Conversation, Wanted>>,
    /// The versions of groups that changed lately: who logs in may have read an older one.
    recent: Mutex<AHashMap<Conversation, (u64, Instant)>>,
    /// How many there are.
    reloads: watch::Sender<usize>,
    /// Rises with every block that is heard of: what was read before may be older.
    blocks_heard: AtomicU64,
    /// Reloads that ask the database at the same time.
    turns: Semaphore,
    pub(super) freshness: Freshness,
    tasks: Shutdown,
}

impl Memberships {
    /// `auto_create`: an unknown group comes into being, open to all, when someone uses it.
    #[must_use]
    pub fn new(
        pool: Pool,
        hub: Arc<Hub>,
        announcer: Announcer,
        inboxes: Inboxes,
        auto_create: bool,
        sizes: GroupSizes,
        tasks: Shutdown,
    ) -> Self {
        Self {
            pool,
            hub,
            announcer,
            inboxes,
            auto_create,
            sizes,
            applying: Mutex::default(),
            filled: Notify::new(),
            reloading: Mutex::default(),
            recent: Mutex::default(),
            reloads: watch::channel(0).0,
            blocks_heard: AtomicU64::new(0),
            turns: Semaphore::new(RELOADS_AT_ONCE),
            freshness: Freshness::default(),
            tasks,
        }
    }

    /// What `user` may do in `conversation`, if that is known without asking anyone.
    #[must_use]
    pub fn known(&self, conversation: &Conversation, user: &UserId) -> Option<Permissions> {
        if self.freshness.is_fresh() { self.remembered(conversation, user) } else { None }
    }

    /// The same for sending: while the database is away there is nobody to ask, and what is sent is checked again where
    /// it is committed. So it is accepted by what is remembered, as long as the queue has room.
    #[must_use]
    pub fn known_to_send(&self, conversation: &Conversation, user: &UserId) -> Option<Permissions> {
        let believed = self.freshness.is_fresh() || self.freshness.is_database_away();
        if believed { self.remembered(conversation, user) } else { None }
    }

    fn remembered(&self, conversation: &Conversation, user: &UserId) -> Option<Permissions> {
        match conversation.kind() {
            Kind::Private(..) => {
                let blocked = self.hub.is_blocked(user.as_str(), conversation.peer_of(user.as_str())?)?;
                Some(Permissions::of_participant(blocked))
            }
            Kind::Group => {
                let (settings, membership) = self.hub.access(user, conversation)?;
                Some(Permissions::of_member(settings, membership))
            }
        }
    }

    /// Whether the group is known to be too large for inboxes.
    #[must_use]
    pub fn merges_head(&self, conversation: &Conversation) -> bool {
        self.hub.about(conversation).is_some_and(|about| about.merges_head)
    }

    /// What `user` may do in `conversation`, joining an open group on the way.
    ///
    /// # Errors
    /// 403, 404, or 503 where the database is away.
    pub async fn require(
        self: &Arc<Self>,
        conversation: &Conversation,
        user: &UserId,
    ) -> Result<Permissions, ApiError> {
        if let Some(known) = self.known(conversation, user) {
            return Ok(known);
        }
        if conversation.kind() != Kind::Group {
            let Some(peer) = conversation.peer_of(user.as_str()) else {
                return Err(Denied::NotParticipant.into());
            };
            let blockers = self.blockers(user).await.map_err(|e| ApiError::database(&e))?;
            return Ok(Permissions::of_participant(blockers.contains(peer)));
        }
        let group = conversation;
        let found = members::permissions(&self.pool, group, user).await;
        let (settings, permissions) = found.map_err(|e| ApiError::database(&e))?;
        match permissions.relation {
            Relation::Member { .. } => {
                // An event was lost, or is on its way.
                self.catch_up(group, user, settings);
                Ok(permissions)
            }
            Relation::Outsider { group_is_open: true } => self.join(group, user).await,
            Relation::NoGroup if self.auto_create => {
                groups::create_open(&self.pool, group, self.sizes).await.map_err(|e| refusal(&e))?;
                self.join(group, user).await
            }
            relation => {
                relation.check(Action::Read, unix_millis)?;
                Ok(permissions)
            }
        }
    }

    async fn join(self: &Arc<Self>, group: &Conversation, user: &UserId) -> Result<Permissions, ApiError> {
        let changed = groups::change(&self.pool, group, self.sizes, &JoinGroup { user }).await;
        let changed = changed.map_err(|e| refusal(&e))?;
        let membership = Membership::new(changed.history);
        if let Some(event) = event(group, &changed) {
            // Here at once, so that the user's own next pull runs with pushes on; elsewhere by the event.
            if self.hub.version(group).is_none() {
                self.first_of_group(group, user).await?;
            }
            self.changed(&event);
            self.announcer.announce(v1::event::Kind::MembershipChanged(event));
            drop(self.note(changed, group));
        }
        Ok(Permissions::of_member(GroupSettings::default(), membership))
    }

    /// `user` has joined a group of which nobody is known to be here.
    async fn first_of_group(&self, group: &Conversation, user: &UserId) -> Result<(), ApiError> {
        let read = members::memberships_in(&self.pool, group, std::slice::from_ref(user)).await;
        let (about, members) = read.map_err(|e| ApiError::database(&e))?;
        let _one = self.applying.lock();
        if let (Some((_, access)), None) = (members.first(), self.hub.version(group))
            && self.hub.join(user, group, about, *access)
        {
            self.tell(group, std::iter::once(user), Event::Joined);
        }
        Ok(())
    }

    /// What `user` sees of those of `groups` that it is in.
    ///
    /// # Errors
    /// As the database says.
    pub async fn accesses(
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

    /// What is to be known about each of `users`, in their order, before its connection does anything.
    ///
    /// # Errors
    /// 503 where the database is away.
    pub async fn load(&self, users: &[UserId]) -> Result<Vec<Loaded>, ApiError> {
        let blocks_heard = self.blocks_heard.load(Ordering::Acquire);
        let groups = members::groups_of(&self.pool, users);
        let blockers = blocks::blockers_of(&self.pool, users);
        let (groups, blockers) =
            futures_util::try_join!(groups, blockers).map_err(|e| ApiError::database(&e))?;
        // Copied, not moved: a user may log in on two devices at once.
        let loaded = |user| Loaded {
            groups: groups.get(user).cloned().unwrap_or_default(),
            blockers: blockers.get(user).cloned().unwrap_or_default(),
            blocks_heard,
        };
        Ok(users.iter().map(loaded).collect())
    }

    /// Who takes no private messages from `user`.
    async fn blockers(&self, user: &UserId) -> Result<AHashSet<UserId>, mysql::Error> {
        let mut found = blocks::blockers_of(&self.pool, std::slice::from_ref(user)).await?;
        Ok(found.remove(user).unwrap_or_default())
    }

    /// `user` has a connection here that was registered before [`load`](Self::load) looked.
    pub fn loaded(self: &Arc<Self>, user: &UserId, loaded: Loaded) {
        let mut stale = Vec::new();
        let blocks_missed;
        {
            let _one = self.applying.lock();
            self.hub.set_blockers(user, loaded.blockers);
            blocks_missed = self.blocks_heard.load(Ordering::Acquire) != loaded.blocks_heard;
            for GroupMembership { group, settings, membership } in loaded.groups {
                let known = self.hub.version(&group).max(self.recent_version(&group));
                self.hub.join(user, &group, settings, membership);
                // Read before a change that was applied here since: the user may not be in it any more.
                if known.is_some_and(|known| known > settings.version) {
                    stale.push(group);
                }
            }
        }
        for group in stale {
            self.reload(&group, &[]);
        }
        if blocks_missed {
            let (this, user) = (Arc::clone(self), user.clone());
            self.tasks.spawn(async move {
                if let Err(error) = this.reload_blockers(&user).await {
                    tracing::warn!(%error, "blocks could not be read again: the list of changes has them");
                }
            });
        }
    }

    /// Reads who takes no messages from `user`, again if a block was heard of meanwhile.
    pub(super) async fn reload_blockers(&self, user: &UserId) -> Result<(), mysql::Error> {
        loop {
            let heard = self.blocks_heard.load(Ordering::Acquire);
            let blockers = self.blockers(user).await?;
            let _one = self.applying.lock();
            if self.blocks_heard.load(Ordering::Acquire) == heard {
                self.hub.set_blockers(user, blockers);
                return Ok(());
            }
        }
    }

    /// Notes in the inboxes of those concerned that their membership in `group` changed, in a task of its own.
    pub(crate) fn note(&self, changed: Changed, group: &Conversation) -> tokio::task::JoinHandle<()> {
        let (inboxes, group, tasks) = (self.inboxes.clone(), group.clone(), self.tasks.clone());
        self.tasks.spawn(async move {
            let mut backoff = Backoff::dependency();
            let conversation = &group;
            let note_as = |touch| move |user| Note { user, conversation, touch };
            for _ in 0..NOTING_ATTEMPTS {
                let joined = changed.joined.iter().map(note_as(Touch::Joined(changed.history.join_seq)));
                let left = changed.left.iter().map(note_as(Touch::Other));
                match inboxes.touch(joined.chain(left)).await {
                    Ok(()) => return,
                    // A Redis that is restarted meanwhile has its inboxes built anew from the database.
                    Err(error) => tracing::warn!(%group, %error, "a change is not in all inboxes yet"),
                }
                if !tasks.sleep(backoff.next_delay()).await {
                    return;
                }
            }
        })
    }

    /// A gateway changed a group. To be called for every such event, and for one's own changes when they are made.
    pub fn changed(self: &Arc<Self>, change: &v1::MembershipChanged) -> bool {
        let Ok(group) = Conversation::from_key(&change.conversation) else { return false };
        let here: Vec<_> = users(&change.joined).filter(|user| self.hub.is_here(user.as_str())).collect();
        let mut held = self.applying.lock();
        self.note_version(&group, change.version);
        let known = match self.hub.version(&group) {
            None => {
                held.forget(&group);
                if !here.is_empty() {
                    self.reload(&group, &here);
                }
                return !here.is_empty();
            }
            Some(known) if change.version <= known => {
                // It was overtaken by a later one, for which the group was read again: without those who came with
                // this one.
                let missed: Vec<_> = here.into_iter().filter(|user| !self.hub.is_in(user, &group)).collect();
                if !missed.is_empty() {
                    self.reload(&group, &missed);
                }
                return false;
            }
            Some(known) => known,
        };
        self.hub.set_heard(&group, change.version);
        if change.settings {
            self.left(&group, change);
            self.tell(&group, self.hub.users_in(&group).iter(), Event::GroupUpdated);
            self.reload(&group, &here);
        } else if change.version == known + 1 {
            self.apply(&group, change);
            self.apply_held(&mut held, &group);
        } else {
            self.left(&group, change);
            // Newcomers hear the group from here on, whatever else has to come first; unless a later change is known
            // of, which may have removed them.
            if self.recent_version(&group) == Some(change.version) {
                self.came(&group, change);
            }
            let patience = if held.hold(&group, change) { Patience::ForEvents } else { Patience::None };
            self.want(&group, &here, patience);
        }
        true
    }

    /// The change is the next one: what is known about the group is of its version from here on.
    fn apply(&self, group: &Conversation, change: &v1::MembershipChanged) {
        self.left(group, change);
        self.came(group, change);
        self.hub.set_version(group, change.version, change.merges_head);
    }

    /// Applies what was held and follows now.
    fn apply_held(&self, held: &mut Held, group: &Conversation) {
        while let Some(version) = self.hub.version(group)
            && let Some(next) = held.take(group, version + 1)
        {
            self.apply(group, &next);
        }
        if self.hub.about(group).is_some() {
            held.forget(group);
            self.filled.notify_waiters();
        } else if self.hub.version(group).is_none() {
            // The last member here has left. Who joined with a held change is asked about by the reload for it.
            held.forget(group);
        }
    }

    fn left(&self, group: &Conversation, change: &v1::MembershipChanged) {
        let gone: Vec<_> = users(&change.left).filter(|user| self.hub.leave(user, group)).collect();
        self.tell(group, gone.iter(), if change.dismissed { Event::Dismissed } else { Event::Left });
    }

    fn came(&self, group: &Conversation, change: &v1::MembershipChanged) {
        let history = HistoryRange { join_seq: Seq(change.joined_seq), floor: Seq(change.joined_floor) };
        let access = Membership::new(history);
        // What is known about a group with members here stays as it is.
        let about = GroupSettings::default();
        let came: Vec<_> =
            users(&change.joined).filter(|user| self.hub.join(user, group, about, access)).collect();
        self.tell(group, came.iter(), Event::Joined);
    }

    fn note_version(&self, group: &Conversation, version: u64) {
        let mut recent = self.recent.lock();
        if recent.len() >= RECENT_MAX {
            recent.retain(|_, (_, noted)| noted.elapsed() < RECENT_KEPT);
        }
        let noted = recent.entry(group.clone()).or_insert((version, Instant::now()));
        *noted = (noted.0.max(version), Instant::now());
    }

    fn recent_version(&self, group: &Conversation) -> Option<u64> {
        self.recent.lock().get(group).map(|(version, _)| *version)
    }

    fn tell<'u>(&self, group: &Conversation, users: impl Iterator<Item = &'u UserId>, event: Event) {
        let mut frame = None;
        for user in users {
            let frame = frame.get_or_insert_with(|| reply::event(Some(&group.wire()), event));
            self.hub.each_of(user.as_str(), |member| member.outbox.notify(frame.clone()));
        }
    }

    /// A user blocked another one, or takes its messages again.
    pub fn block_changed(&self, change: &v1::BlockChanged) -> bool {
        let Ok(blocker) = UserId::parse(&change.user_id) else { return false };
        let _one = self.applying.lock();
        self.blocks_heard.fetch_add(1, Ordering::AcqRel);
        self.hub.set_blocked(&change.other_id, &blocker, change.blocked);
        self.hub.is_here(&change.other_id)
    }

    /// Resolves when no group is being read again: all that was heard of by now is known.
    pub async fn caught_up(&self) {
        // The sender lives as long as this does.
        let _ = self.reloads.subscribe().wait_for(|reloads| *reloads == 0).await;
    }

    /// Events were lost: believe nothing until the list of changes was read.
    pub fn events_lost(&self) {
        self.freshness.doubt();
    }

    /// Anything may have changed: believe nothing until it was read again.
    pub fn reload_all(self: &Arc<Self>) {
        for group in self.hub.groups() {
            self.hub.mark_stale(&group);
            self.reload(&group, &[]);
        }
    }

    /// The database shows `user` in `group` as of a version that is not known here.
    fn catch_up(self: &Arc<Self>, group: &Conversation, user: &UserId, about: GroupSettings) {
        let differs = self.hub.version(group) != Some(about.version) || !self.hub.is_in(user, group);
        if self.hub.is_here(user.as_str()) && differs {
            self.reload(group, std::slice::from_ref(user));
        }
    }

    /// Reads a group again, in a task of its own: the members that are here, and `others` that may be.
    pub(super) fn reload(self: &Arc<Self>, group: &Conversation, others: &[UserId]) {
        self.want(group, others, Patience::None);
    }

    /// The same; with [`Patience::ForEvents`] only if the changes that a held one follows do not come soon.
    fn want(self: &Arc<Self>, group: &Conversation, others: &[UserId], patience: Patience) {
        let mut reloading = self.reloading.lock();
        if let Some(wanted) = reloading.get_mut(group) {
            wanted.again = true;
            wanted.patience = wanted.patience.min(patience);
            wanted.others.extend_from_slice(others);
            return;
        }
        let wanted = Wanted { others: others.to_vec(), patience, ..Wanted::default() };
        reloading.insert(group.clone(), wanted);
        self.reloads.send_replace(reloading.len());
        drop(reloading);
        let (this, group) = (Arc::clone(self), group.clone());
        self.tasks.spawn(async move {
            let mut backoff = Backoff::dependency();
            while let Some((others, patience)) = this.wanted(&group) {
                if patience == Patience::ForEvents && this.is_filled_soon(&group).await {
                    continue;
                }
                let mut users = this.hub.users_in(&group);
                users.extend(others.iter().cloned());
                let read = async {
                    let _turn = this.turns.acquire().await;
                    members::memberships_in(&this.pool, &group, &users).await
                };
                match read.await {
                    Ok((about, members)) => this.replace(&group, users, about, members),
                    Err(error) => {
                        tracing::warn!(group = %group, %error, "its members could not be read again yet");
                        if let Some(wanted) = this.reloading.lock().get_mut(&group) {
                            wanted.again = true;
                            wanted.patience = Patience::None;
                            wanted.others.extend(others);
                        }
                        if !this.tasks.sleep(backoff.next_delay()).await {
                            return;
                        }
                    }
                }
            }
        });
    }

    /// Whether all changes came that a held one follows, so that the group is believed again.
    async fn is_filled_soon(&self, group: &Conversation) -> bool {
        let filled = async {
            loop {
                let notified = self.filled.notified();
                if self.hub.about(group).is_some() {
                    return;
                }
                notified.await;
            }
        };
        tokio::time::timeout(GAP_PATIENCE, filled).await.is_ok()
    }

    /// The users to read beside those who are here, at the first call and whenever something changed since; `None` when
    /// all is read.
    fn wanted(&self, group: &Conversation) -> Option<(Vec<UserId>, Patience)> {
        let mut reloading = self.reloading.lock();
        let wanted = reloading.get_mut(group)?;
        let asked = (std::mem::take(&mut wanted.others), wanted.patience);
        if wanted.begun && !wanted.again {
            reloading.remove(group);
            self.reloads.send_replace(reloading.len());
            return None;
        }
        (wanted.begun, wanted.again, wanted.patience) = (true, false, Patience::ForEvents);
        Some(asked)
    }

    /// Takes over what was read about `asked`.
    fn replace(
        self: &Arc<Self>,
        group: &Conversation,
        asked: Vec<UserId>,
        about: GroupSettings,
        members: Vec<(UserId, Membership)>,
    ) {
        let mut held = self.applying.lock();
        let asked: AHashSet<UserId> = asked.into_iter().collect();
        let members: AHashMap<UserId, Membership> = members.into_iter().collect();
        let newer = self.hub.version(group).is_some_and(|known| known > about.version);
        let unasked = self.hub.users_in(group).iter().any(|user| !asked.contains(user));
        if newer || unasked {
            // Someone came, or a change was applied, after this was read.
            let others: Vec<_> =
                members.keys().filter(|user| !self.hub.is_in(user, group)).cloned().collect();
            self.reload(group, &others);
        }
        if newer {
            return;
        }
        let (mut came, mut went) = (Vec::new(), Vec::new());
        let left_since = held.left_after(group, about.version);
        for user in &asked {
            match members.get(user) {
                // It was in it when this was read, and hears nothing any more.
                Some(_) if left_since.contains(user.as_str()) => {}
                Some(access) if self.hub.join(user, group, about, *access) => came.push(user),
                Some(_) => {}
                None if self.hub.leave(user, group) => went.push(user),
                None => {}
            }
        }
        self.tell(group, came.into_iter(), Event::Joined);
        self.tell(group, went.into_iter(), Event::Left);
        if !unasked {
            self.hub.set_about(group, about);
            self.apply_held(&mut held, group);
        }
    }
}

/// Changes that came before those they follow.
#[derive(Debug, Default)]
struct Held(AHashMap<Conversation, BTreeMap<u64, v1::MembershipChanged>>);

impl Held {
    /// False if there are too many: then none of them is held any more.
    fn hold(&mut self, group: &Conversation, change: &v1::MembershipChanged) -> bool {
        let changes = self.0.entry(group.clone()).or_default();
        changes.insert(change.version, change.clone());
        let fits = changes.len() <= HELD_MAX;
        if !fits {
            self.forget(group);
        }
        fits
    }

    /// The change to `version`; none is held any more that came before it.
    fn take(&mut self, group: &Conversation, version: u64) -> Option<v1::MembershipChanged> {
        let changes = self.0.get_mut(group)?;
        while changes.first_key_value().is_some_and(|(first, _)| *first < version) {
            changes.pop_first();
        }
        changes.remove(&version)
    }

    /// Who left with a held change after `version`.
    fn left_after(&self, group: &Conversation, version: u64) -> AHashSet<String> {
        let changes = self.0.get(group).into_iter().flat_map(|changes| changes.range(version + 1..));
        changes.flat_map(|(_, change)| change.left.iter().cloned()).collect()
    }

    fn forget(&mut self, group: &Conversation) {
        self.0.remove(group);
    }
}

/// Whether a reload may turn out to be unnecessary.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
enum Patience {
    #[default]
    None,
    ForEvents,
}

fn users(ids: &[String]) -> impl Iterator<Item = UserId> + '_ {
    ids.iter().filter_map(|id| UserId::parse(id).ok())
}

/// What a reload has to read once more.
#[derive(Debug, Default)]
struct Wanted {
    begun: bool,
    again: bool,
    patience: Patience,
    others: Vec<UserId>,
}

#[cfg(test)]
mod tests {
    use shared::ids::{DeviceId, Origin};

    use super::*;
    use crate::identity::Identity;
    use crate::outbox::Outbox;

    const SIZES: GroupSizes = GroupSizes { large_above: 100, members_max: 1_000 };

    /// With a database that nobody answers at: what has to be read again stays unknown.
    fn memberships() -> Arc<Memberships> {
        let pool = Pool::unconnected();
        let inboxes = Inboxes::new(shared::redis::Client::unconnected(), 60);
        let (hub, tasks) = (Arc::new(Hub::new()), Shutdown::new());
        Arc::new(Memberships::new(pool, hub, Announcer::discarding(), inboxes, true, SIZES, tasks))
    }

    fn connect(memberships: &Memberships, name: &str, connection: u64) -> UserId {
        let user = UserId::parse(name).unwrap();
        let (device, origin) = (DeviceId::parse("phone").unwrap(), Origin { gateway: 1, connection });
        let identity = Identity { user: user.clone(), device, origin };
        memberships.hub.register(&identity, &Outbox::new(8, 1_000), 3).unwrap();
        user
    }

    fn group() -> Conversation {
        Conversation::from_key("group_1").unwrap()
    }

    fn change(version: u64, joined: &[&str], left: &[&str]) -> v1::MembershipChanged {
        let ids = |users: &[&str]| users.iter().map(|user| (*user).to_owned()).collect();
        v1::MembershipChanged {
            conversation: group().key().to_owned(),
            joined: ids(joined),
            left: ids(left),
            version,
            ..v1::MembershipChanged::default()
        }
    }

    /// Alice is in the group, of which version 5 is known; all others of `names` are connected.
    fn begun(names: &[&str]) -> Arc<Memberships> {
        let memberships = memberships();
        let about = GroupSettings { version: 5, ..GroupSettings::default() };
        for (name, connection) in names.iter().zip(1..) {
            let user = connect(&memberships, name, connection);
            if connection == 1 {
                memberships.hub.join(&user, &group(), about, Membership::new(HistoryRange::default()));
            }
        }
        memberships
    }

    fn members(memberships: &Memberships) -> Vec<String> {
        memberships.hub.users_in(&group()).iter().map(|user| user.as_str().to_owned()).collect()
    }

    fn believed(memberships: &Memberships) -> Option<u64> {
        memberships.hub.about(&group()).map(|about| about.version)
    }

    #[tokio::test]
    async fn changes_that_overtook_each_other_are_applied_in_their_order_without_reading_anything() {
        let memberships = begun(&["alice", "bob", "carol"]);
        memberships.changed(&change(8, &["carol"], &[]));
        memberships.changed(&change(7, &[], &["carol"]));
        assert_eq!(believed(&memberships), None, "6 is missing");
        assert_eq!(members(&memberships), ["alice"]);
        memberships.changed(&change(6, &["bob", "carol"], &[]));
        assert_eq!(believed(&memberships), Some(8));
        assert_eq!(members(&memberships), ["alice", "bob", "carol"], "carol came, went and came again");
        memberships.caught_up().await;
    }

    #[tokio::test]
    async fn who_was_removed_hears_nothing_any_more_although_changes_before_are_missing() {
        let memberships = begun(&["alice", "bob"]);
        memberships.changed(&change(6, &["bob"], &[]));
        memberships.changed(&change(8, &[], &["bob"]));
        assert_eq!((believed(&memberships), members(&memberships)), (None, vec!["alice".to_owned()]));
        memberships.changed(&change(7, &[], &[]));
        assert_eq!((believed(&memberships), members(&memberships)), (Some(8), vec!["alice".to_owned()]));
    }

    #[tokio::test]
    async fn what_does_not_come_is_read() {
        let memberships = begun(&["alice", "bob"]);
        memberships.changed(&change(7, &["bob"], &[]));
        assert_eq!(members(&memberships), ["alice", "bob"], "a newcomer hears the group at once");
        let waited = tokio::time::timeout(GAP_PATIENCE * 4, memberships.caught_up());
        assert!(waited.await.is_err(), "6 does not come, and the database is away");
        let reloading = memberships.reloading.lock();
        assert!(reloading.contains_key(&group()));
        drop(reloading);
        assert_eq!(believed(&memberships), None);
    }

    #[tokio::test]
    async fn what_was_read_goes_on_with_what_is_held() {
        let memberships = begun(&["alice", "bob", "carol"]);
        memberships.changed(&change(8, &["bob"], &["alice"]));
        let about = GroupSettings { version: 7, ..GroupSettings::default() };
        let access = Membership::new(HistoryRange::default());
        let ids = ["alice", "bob", "carol"].map(|name| UserId::parse(name).unwrap());
        let read = ids.iter().take(1).chain(&ids[2..]).map(|user| (user.clone(), access)).collect();
        memberships.replace(&group(), ids.to_vec(), about, read);
        assert_eq!(believed(&memberships), Some(8));
        assert_eq!(members(&memberships), ["bob", "carol"]);
    }

    #[tokio::test]
    async fn who_was_removed_is_not_brought_back_by_what_was_read_before() {
        let memberships = begun(&["alice", "bob"]);
        memberships.changed(&change(9, &["bob"], &["alice"]));
        let about = GroupSettings { version: 7, ..GroupSettings::default() };
        let ids = ["alice", "bob"].map(|name| UserId::parse(name).unwrap());
        let read = vec![(ids[0].clone(), Membership::new(HistoryRange::default()))];
        memberships.replace(&group(), ids.to_vec(), about, read);
        assert!(!members(&memberships).contains(&"alice".to_owned()), "{:?}", members(&memberships));
        assert_eq!(believed(&memberships), None, "8 is missing");
    }

    #[tokio::test]
    async fn what_was_read_before_settings_changed_is_not_believed_after_it() {
        let memberships = begun(&["alice"]);
        memberships.changed(&v1::MembershipChanged { settings: true, ..change(6, &[], &[]) });
        assert_eq!(believed(&memberships), None);
        let alice = UserId::parse("alice").unwrap();
        let read = vec![(alice.clone(), Membership::new(HistoryRange::default()))];
        for (version, told) in [(5, None), (6, Some(6))] {
            let about = GroupSettings { version, ..GroupSettings::default() };
            memberships.replace(&group(), vec![alice.clone()], about, read.clone());
            assert_eq!(believed(&memberships), told);
        }
    }

    #[test]
    fn too_many_held_changes_are_given_up() {
        let mut held = Held::default();
        for version in 0..HELD_MAX as u64 {
            assert!(held.hold(&group(), &change(version, &[], &[])));
        }
        assert!(!held.hold(&group(), &change(1_000, &[], &[])));
        assert_eq!(held.take(&group(), 1_000), None);
        assert!(held.hold(&group(), &change(2_000, &[], &[])));
        assert!(held.hold(&group(), &change(2_001, &[], &[])));
        assert_eq!(held.take(&group(), 2_001).map(|change| change.version), Some(2_001));
        assert_eq!(held.take(&group(), 2_000), None, "it came before");
    }
}
