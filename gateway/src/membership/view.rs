//! This gateway's view of who may do what: the permission cache, kept true by events, readings and logins.
//!
//! Everything here is synchronous and takes the time as an argument, so that the simulation can drive it. What needs the
//! database is returned as a [`Reload`].

use std::sync::Arc;
use std::time::Instant;

use ahash::AHashSet;
use parking_lot::Mutex;
use proto::v1;
use shared::conversation::Conversation;
use shared::ids::{Seq, UserId};

use shared::mysql::members::GroupMembership;
use shared::permission::{GroupSettings, HistoryRange, Membership};
use tokio_tungstenite::tungstenite::Utf8Bytes;

use super::cache::PermissionCache;
use super::cleared::ClearedBounds;
use super::freshness::Freshness;
use super::group_event::{Change, Context, Effect, Event, MemberReading, Reading, Step};
use super::recent_changes::{Mark, RecentChanges, Since};
use crate::hub::Hub;
use crate::identity::Identity;
use crate::wire::name::ConversationName;
use crate::wire::reply::{self, Event as Notice};

/// Something that has to be read from the database, by a task that follows it to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Reload {
    /// By [`View::next_step`], [`View::group_read`] and [`View::group_read_failed`].
    Group(Conversation),
    /// By [`View::marks`] and [`View::blockers_read`].
    Blockers(UserId),
    /// By [`View::marks`] and [`View::users_read`]: everything about these users, at most [`USERS_MAX`].
    Users(Vec<UserId>),
}

/// Users that are read at once.
const USERS_MAX: usize = 64;

/// What an event led to.
#[derive(Debug, Default, PartialEq, Eq)]
#[must_use]
pub(super) struct Outcome {
    /// The event concerned someone who is connected here.
    pub(super) concerned: bool,
    /// A reload that has to be started.
    pub(super) reload: Option<Reload>,
    /// Waiting reloads of the group should look again.
    pub(super) current: bool,
}

/// Which changes were heard of before a reading began.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Marks {
    groups: Mark,
    blocks: Mark,
}

/// What a login has read about its user.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(super) groups: Vec<GroupMembership>,
    pub(super) blockers: AHashSet<UserId>,
    /// What the user has cleared.
    pub(super) cleared: Vec<(Conversation, Seq)>,
    /// As of before the reading.
    pub(super) marks: Marks,
}

/// What is changed by one event at a time.
#[derive(Debug, Default)]
struct Serial {
    groups: RecentChanges<Conversation>,
    /// By the user who was blocked.
    blocks: RecentChanges<UserId>,
    /// Users whose blockers are being read again.
    reloading: AHashSet<UserId>,
    effects: Vec<Effect>,
}

/// See the [module](self).
#[derive(Debug)]
pub(super) struct View {
    hub: Arc<Hub>,
    cache: PermissionCache,
    cleared: ClearedBounds,
    freshness: Freshness,
    serial: Mutex<Serial>,
}

impl View {
    /// Nothing is known yet about the users of `hub`.
    pub(super) fn new(hub: Arc<Hub>, now: Instant) -> Self {
        Self {
            hub,
            cache: PermissionCache::default(),
            cleared: ClearedBounds::default(),
            freshness: Freshness::new(now),
            serial: Mutex::default(),
        }
    }

    pub(super) fn cache(&self) -> &PermissionCache {
        &self.cache
    }

    pub(super) fn cleared(&self) -> &ClearedBounds {
        &self.cleared
    }

    pub(super) fn freshness(&self) -> &Freshness {
        &self.freshness
    }

    pub(super) fn hub(&self) -> &Hub {
        &self.hub
    }

    /// The number of recent changes that are remembered.
    #[cfg(test)]
    pub(super) fn recent(&self) -> usize {
        let serial = self.serial.lock();
        serial.groups.len().max(serial.blocks.len())
    }

    // Events of gateways.

    /// A gateway changed a group.
    pub(super) fn changed(&self, change: &v1::MembershipChanged, now: Instant) -> Outcome {
        let Ok(group) = Conversation::from_key(&change.conversation) else { return Outcome::default() };
        let change = parsed(change);
        let version = change.version;
        let mut serial = self.serial.lock();
        serial.groups.record(&group, version);
        let concerned = match self.cache.version(&group) {
            Some(known) => version > known,
            None => change.joined.iter().any(|user| self.hub.is_here(user.as_str())),
        };
        if !concerned && !self.cache.contains(&group) {
            return Outcome::default();
        }
        let outcome = self.on(&mut serial, &group, Event::Changed(change), now);
        Outcome { concerned, ..outcome }
    }

    /// A user blocked another one, or takes its messages again. The event has no version and may be late, so it only says
    /// that the blocked user's blockers have to be read again.
    pub(super) fn block_changed(&self, change: &v1::BlockChanged) -> Outcome {
        let Ok(blocked) = UserId::parse(&change.other_id) else { return Outcome::default() };
        let concerned = self.hub.is_here(blocked.as_str());
        Outcome { concerned, reload: self.blockers_changed(&blocked), current: false }
    }

    /// `user` has cleared a conversation up to `seq`. Returns whether it is connected here.
    pub(super) fn conversation_cleared(&self, user: &UserId, conversation: &Conversation, seq: Seq) -> bool {
        // Under the lock, so that a user who disconnects at this moment leaves nothing behind.
        let _serial = self.serial.lock();
        let is_here = self.hub.is_here(user.as_str());
        if is_here {
            self.cleared.raise(user, [(conversation.clone(), seq)]);
        }
        is_here
    }

    // The list of changes in the database.

    /// Whether changes of `group` to the versions `first` to `last` in the list may tell something new, so that it has to
    /// be asked which users joined lately.
    pub(super) fn is_behind(&self, group: &Conversation, first: u64, last: u64) -> bool {
        self.cache.is_behind(group, first, last)
    }

    /// The list contains changes of `group` up to `version`; these users, connected here, joined lately.
    pub(super) fn group_logged(
        &self,
        group: &Conversation,
        version: u64,
        joined: Vec<UserId>,
        now: Instant,
    ) -> Outcome {
        let mut serial = self.serial.lock();
        serial.groups.record(group, version);
        self.on(&mut serial, group, Event::Logged { version, joined }, now)
    }

    /// Someone blocked `user`, or takes its messages again: who, is not known until it is read again.
    pub(super) fn blockers_changed(&self, user: &UserId) -> Option<Reload> {
        let mut serial = self.serial.lock();
        if !self.hub.is_here(user.as_str()) {
            return None;
        }
        serial.blocks.record(user, 0);
        self.cache.forget_blockers(user);
        want_blockers(&mut serial, user)
    }

    /// Changes may be missing in the list: everything has to be read again.
    pub(super) fn invalidate(&self, now: Instant) -> Vec<Reload> {
        let group = |group| {
            let mut serial = self.serial.lock();
            self.on(&mut serial, &group, Event::Invalidated, now).reload
        };
        let mut reloads: Vec<_> = self.cache.groups().into_iter().filter_map(group).collect();
        let users = self.hub.users();
        users.iter().for_each(|user| self.cache.forget_blockers(user));
        reloads.extend(users.chunks(USERS_MAX).map(|users| Reload::Users(users.to_vec())));
        reloads
    }

    // Connections.

    /// To be kept before the database is read for a login.
    pub(super) fn marks(&self) -> Marks {
        let serial = self.serial.lock();
        Marks { groups: serial.groups.mark(), blocks: serial.blocks.mark() }
    }

    /// `user` has a connection here that was registered before its login read the database.
    pub(super) fn logged_in(&self, user: &UserId, loaded: Loaded, now: Instant) -> Vec<Reload> {
        self.user_read(user, loaded, false, now)
    }

    /// Everything about a connected user was read again. It is told about groups that were not known.
    pub(super) fn users_read(&self, user: &UserId, loaded: Loaded, now: Instant) -> Vec<Reload> {
        self.user_read(user, loaded, true, now)
    }

    fn user_read(&self, user: &UserId, loaded: Loaded, joined: bool, now: Instant) -> Vec<Reload> {
        let mut serial = self.serial.lock();
        let mut reloads = Vec::new();
        if self.hub.is_here(user.as_str()) {
            // Before anything about the user is known: whoever finds its permissions here finds what it has cleared.
            self.cleared.raise(user, loaded.cleared);
            match serial.blocks.since(user, loaded.marks.blocks) {
                Since::Unchanged => self.cache.set_blockers(user, loaded.blockers),
                // The reading may be older.
                Since::Heard(_) | Since::Forgotten => reloads.extend(want_blockers(&mut serial, user)),
            }
        }
        for GroupMembership { group, settings, membership } in loaded.groups {
            let since = serial.groups.since(&group, loaded.marks.groups);
            let reading = MemberReading { user: user.clone(), settings, membership, since, joined };
            reloads.extend(self.on(&mut serial, &group, Event::MemberRead(reading), now).reload);
        }
        reloads
    }

    /// `user` has just joined `group`, and this was read about it.
    pub(super) fn joined(
        &self,
        group: &Conversation,
        user: &UserId,
        (settings, membership): (GroupSettings, Membership),
        now: Instant,
    ) -> Outcome {
        let mut serial = self.serial.lock();
        let since = Since::Heard(serial.groups.version(group));
        let reading = MemberReading { user: user.clone(), settings, membership, since, joined: true };
        self.on(&mut serial, group, Event::MemberRead(reading), now)
    }

    /// A request found in the database that `user` is a member as of `version`.
    pub(super) fn member_found(
        &self,
        group: &Conversation,
        user: &UserId,
        version: u64,
        now: Instant,
    ) -> Outcome {
        let mut serial = self.serial.lock();
        self.on(&mut serial, group, Event::MemberFound { user: user.clone(), version }, now)
    }

    /// A connection has ended. What is known about its user is forgotten if it was the last one.
    pub(super) fn disconnected(&self, identity: &Identity, now: Instant) {
        let mut serial = self.serial.lock();
        let Some(groups) = self.hub.deregister(identity) else { return };
        self.cache.forget_blockers(&identity.user);
        self.cleared.forget(&identity.user);
        for group in groups {
            let _ = self.on(&mut serial, &group, Event::Disconnected(identity.user.clone()), now);
        }
    }

    // Reloads.

    /// What a group's reload has to do now.
    pub(super) fn next_step(&self, group: &Conversation, now: Instant) -> Step {
        self.cache.update(group, |state| state.next_step(now))
    }

    /// A reading has arrived. False if it was older than the view: the next step is to read again.
    pub(super) fn group_read(&self, group: &Conversation, reading: Reading, now: Instant) -> (bool, Outcome) {
        let mut serial = self.serial.lock();
        let version = reading.settings.version;
        let is_current = self.cache.version(group) <= Some(version);
        // A login that is on its way may be older.
        serial.groups.record(group, version);
        (is_current, self.on(&mut serial, group, Event::Read(reading), now))
    }

    /// A reading failed.
    pub(super) fn group_read_failed(&self, group: &Conversation, asked: Vec<UserId>, now: Instant) {
        let mut serial = self.serial.lock();
        let _ = self.on(&mut serial, group, Event::ReadFailed { asked }, now);
    }

    /// The blockers of `user` were read after `marks`. False if they have to be read again.
    pub(super) fn blockers_read(&self, user: &UserId, marks: Marks, blockers: AHashSet<UserId>) -> bool {
        let mut serial = self.serial.lock();
        if self.hub.is_here(user.as_str()) {
            if serial.blocks.since(user, marks.blocks) != Since::Unchanged {
                return false;
            }
            self.cache.set_blockers(user, blockers);
        }
        serial.reloading.remove(user);
        true
    }

    fn on(&self, serial: &mut Serial, group: &Conversation, event: Event, now: Instant) -> Outcome {
        let effects = &mut serial.effects;
        let context = Context { now, is_connected: &|user| self.hub.is_here(user) };
        self.cache.update(group, |state| state.on(event, &context, effects));
        let mut outcome = Outcome::default();
        let mut frames = Frames::default();
        for effect in effects.drain(..) {
            match effect {
                Effect::Subscribe { user, announced } => {
                    self.hub.subscribe(&user, group);
                    if announced {
                        self.tell(&user, &frames.get(group, Notice::Joined));
                    }
                }
                Effect::Unsubscribe { user, dismissed } => {
                    self.hub.unsubscribe(&user, group);
                    let notice = if dismissed { Notice::Dismissed } else { Notice::Left };
                    self.tell(&user, &frames.get(group, notice));
                }
                Effect::TellUpdated => {
                    let frame = frames.get(group, Notice::GroupUpdated);
                    self.hub.each_concerned(group, |member| member.outbox.notify(frame.clone()));
                }
                Effect::StartReload => outcome.reload = Some(Reload::Group(group.clone())),
                Effect::Current => outcome.current = true,
            }
        }
        outcome
    }

    fn tell(&self, user: &UserId, frame: &Utf8Bytes) {
        self.hub.each_of(user.as_str(), |member| member.outbox.notify(frame.clone()));
    }
}

fn want_blockers(serial: &mut Serial, user: &UserId) -> Option<Reload> {
    serial.reloading.insert(user.clone()).then(|| Reload::Blockers(user.clone()))
}

/// One frame per kind of notice, shared by all who get it.
#[derive(Default)]
struct Frames(Vec<(Notice<'static>, Utf8Bytes)>);

impl Frames {
    fn get(&mut self, group: &Conversation, notice: Notice<'static>) -> Utf8Bytes {
        if let Some((_, frame)) = self.0.iter().find(|(known, _)| *known == notice) {
            return frame.clone();
        }
        let frame = reply::event(Some(&ConversationName::of_group(group)), notice);
        self.0.push((notice, frame.clone()));
        frame
    }
}

/// Ids that are not valid are left out.
fn parsed(change: &v1::MembershipChanged) -> Change {
    let users = |ids: &[String]| ids.iter().filter_map(|id| UserId::parse(id).ok()).collect();
    let history = HistoryRange { join_seq: Seq(change.joined_seq), floor: Seq(change.joined_floor) };
    Change {
        version: change.version,
        joined: users(&change.joined),
        left: users(&change.left),
        newcomer: Membership::new(history),
        merges_head: change.merges_head,
        settings_changed: change.settings,
        dismissed: change.dismissed,
    }
}
