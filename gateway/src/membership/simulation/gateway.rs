//! One gateway: the view as it is in production, and its tasks cut into steps.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ahash::AHashSet;
use proto::v1::event::Kind;
use shared::conversation::{Conversation, Kind as ConversationKind};
use shared::ids::{ConnectionId, DeviceId, UserId};
use shared::permission::GroupSettings;

use super::mutation::Mutation;
use super::operations::{GROUPS, USERS};
use super::truth::{LogEntry, Truth, user, users};
use crate::hub::Hub;
use crate::identity::Identity;
use crate::membership::group_event::{Reading, Step};
use crate::membership::log_position::LogPosition;
use crate::membership::recent_changes::RECENT_MAX;
use crate::membership::reorder_buffer::HELD_MAX;
use crate::membership::view::{Loaded, Marks, Outcome, Reload, View};
use crate::outbox::Outbox;

/// An event on its way.
#[derive(Debug, Clone)]
pub(super) struct Event {
    pub(super) kind: Kind,
    /// The version of the truth since then.
    pub(super) version: u64,
}

/// How far a login is.
#[derive(Debug)]
enum Login {
    /// Registered; nothing is read yet.
    Begun(Marks),
    /// The reading is on its way.
    Read(Box<Loaded>),
}

/// How far a reload is.
#[derive(Debug)]
enum ReloadStep {
    /// It was started, or waits.
    Idle,
    /// Its reading failed, and it pauses.
    Failed,
    /// It asks about these users.
    Asks(Vec<UserId>),
    /// It has read the group's row, but not the members yet.
    ReadsMembers(Vec<UserId>, GroupSettings),
    /// The reading is on its way.
    Read(Reading),
    /// Of a user's blockers.
    BlockersAsked(Marks),
    BlockersRead(Marks, AHashSet<UserId>),
    /// Of users.
    UsersRead(Vec<(UserId, Loaded)>),
}

#[derive(Debug)]
struct RunningReload {
    what: Reload,
    step: ReloadStep,
}

/// How far the reading of the list of changes is.
#[derive(Debug)]
enum LogStep {
    Idle,
    Read { changes: Vec<LogEntry> },
}

/// See the [module](self).
pub(super) struct Gateway {
    number: u64,
    mutation: Option<Mutation>,
    pub(super) hub: Arc<Hub>,
    pub(super) view: View,
    pub(super) events: Vec<Event>,
    /// The highest version that was heard of by an event, in the list, or by a reading.
    heard: BTreeMap<Conversation, u64>,
    /// The same for blocks, by the blocked user.
    heard_blocks: BTreeMap<UserId, u64>,
    connections: BTreeMap<(UserId, usize), Identity>,
    logins: Vec<(Identity, Login)>,
    reloads: Vec<RunningReload>,
    log: LogStep,
    position: LogPosition,
    /// When the list was read last; `None` if events are known to be lost since that reading began.
    log_read: Option<Instant>,
    loses_reading: bool,
    /// Since when each group holds changes.
    held_since: BTreeMap<Conversation, Instant>,
    last_connection: u64,
}

impl Gateway {
    pub(super) fn new(number: u64, mutation: Option<Mutation>, now: Instant) -> Self {
        let hub = Arc::new(Hub::new());
        let view = View::new(Arc::clone(&hub), now);
        view.freshness().begin();
        view.freshness().succeed(now);
        Self {
            number,
            mutation,
            hub,
            view,
            events: Vec::new(),
            heard: BTreeMap::new(),
            heard_blocks: BTreeMap::new(),
            connections: BTreeMap::new(),
            logins: Vec::new(),
            reloads: Vec::new(),
            log: LogStep::Idle,
            position: LogPosition::at(0),
            log_read: Some(now),
            loses_reading: false,
            held_since: BTreeMap::new(),
            last_connection: 0,
        }
    }

    fn is(&self, mutation: Mutation) -> bool {
        self.mutation == Some(mutation)
    }

    pub(super) fn heard(&self, group: &Conversation) -> u64 {
        self.heard.get(group).copied().max(self.view.cache().version(group)).unwrap_or(0)
    }

    pub(super) fn heard_blocks(&self, user: &UserId) -> u64 {
        self.heard_blocks.get(user).copied().unwrap_or(0)
    }

    fn hear_block(&mut self, user: &str, version: u64) {
        let heard = self.heard_blocks.entry(UserId::parse(user).unwrap()).or_default();
        *heard = version.max(*heard);
    }

    /// Users whose login has ended.
    pub(super) fn logged_in(&self) -> impl Iterator<Item = &UserId> {
        let is_done = |user: &&UserId| !self.logins.iter().any(|(identity, _)| identity.user == **user);
        self.connections.keys().map(|(user, _)| user).filter(is_done)
    }

    /// Whether the list was read within the last five seconds, and no events are known to be lost since.
    pub(super) fn may_be_fresh(&self, now: Instant) -> bool {
        self.log_read.is_some_and(|read| now.duration_since(read) < Duration::from_secs(5))
    }

    pub(super) fn has_tasks(&self) -> bool {
        !self.reloads.is_empty() || !self.logins.is_empty()
    }

    // Events.

    pub(super) fn deliver(&mut self, event: &Event, now: Instant) {
        let outcome = match &event.kind {
            Kind::MembershipChanged(change) => {
                let group = Conversation::from_key(&change.conversation).unwrap();
                let heard = self.heard.entry(group.clone()).or_default();
                *heard = event.version.max(*heard);
                let mut change = change.clone();
                let known = self.view.cache().version(&group);
                if self.is(Mutation::IgnoresGaps)
                    && let Some(known) = known.filter(|known| change.version > *known)
                {
                    change.version = known + 1;
                }
                let held = self.held(&group);
                let outcome = self.view.changed(&change, now);
                if self.is(Mutation::StopsAfterOverflow) && held == HELD_MAX && self.held(&group) == 0 {
                    self.reloads.retain(|reload| reload.what != Reload::Group(group.clone()));
                }
                outcome
            }
            Kind::BlockChanged(change) => {
                self.hear_block(&change.other_id, event.version);
                self.view.block_changed(change)
            }
            other => panic!("no change: {other:?}"),
        };
        self.follow(outcome, now);
    }

    pub(super) fn lose_queue(&mut self) {
        self.events.clear();
        (self.log_read, self.loses_reading) = (None, true);
        if !self.is(Mutation::OverlooksLoss) {
            self.view.freshness().invalidate();
        }
    }

    fn follow(&mut self, outcome: Outcome, now: Instant) {
        self.start(outcome.reload);
        if outcome.current {
            self.look_again(now);
        }
    }

    fn start(&mut self, reloads: impl IntoIterator<Item = Reload>) {
        let started = reloads.into_iter().map(|what| RunningReload { what, step: ReloadStep::Idle });
        self.reloads.extend(started);
    }

    /// Time has passed, or no predecessor is missing any longer: reloads that wait look again at once.
    pub(super) fn look_again(&mut self, now: Instant) {
        let mut at = 0;
        while at < self.reloads.len() {
            let is_idle_group =
                matches!(self.reloads[at], RunningReload { what: Reload::Group(_), step: ReloadStep::Idle });
            if is_idle_group && self.step_idle(at, now) {
                self.reloads.remove(at);
            } else {
                at += 1;
            }
        }
        self.note_held(now);
    }

    fn note_held(&mut self, now: Instant) {
        let mut held = BTreeMap::new();
        self.view.cache().each_group(|group, state| {
            if state.held() > 0 {
                let since = self.held_since.get(group).copied().unwrap_or(now);
                held.insert(group.clone(), since);
            }
        });
        self.held_since = held;
    }

    fn held(&self, group: &Conversation) -> usize {
        let mut held = 0;
        self.view.cache().each_group(|of, state| held += if of == group { state.held() } else { 0 });
        held
    }

    /// Groups that hold changes, since when, and whether they are being read.
    pub(super) fn holding(&mut self, now: Instant) -> impl Iterator<Item = (&Conversation, Instant, bool)> {
        self.note_held(now);
        self.held_since.iter().map(|(group, since)| {
            let is_read = self.reloads.iter().any(|reload| {
                reload.what == Reload::Group(group.clone()) && !matches!(reload.step, ReloadStep::Idle)
            });
            (group, *since, is_read)
        })
    }

    // Connections.

    pub(super) fn connect(&mut self, index: usize, device: usize, now: Instant) {
        let user = user(index);
        self.last_connection += 1;
        let identity = Identity {
            user: user.clone(),
            device: DeviceId::parse(["desk", "phone"][device]).unwrap(),
            origin: ConnectionId { gateway: self.number, connection: self.last_connection },
        };
        self.hub.register(&identity, &Outbox::for_test(), 3);
        if let Some(replaced) = self.connections.insert((user, device), identity.clone()) {
            self.end(&replaced, now);
        }
        self.logins.push((identity, Login::Begun(self.view.marks())));
    }

    pub(super) fn disconnect(&mut self, index: usize, device: usize, now: Instant) {
        if let Some(identity) = self.connections.remove(&(user(index), device)) {
            self.end(&identity, now);
        }
    }

    fn end(&mut self, identity: &Identity, now: Instant) {
        self.logins.retain(|(of, _)| of != identity);
        if self.is(Mutation::KeepsTheDisconnected) {
            self.hub.deregister(identity);
        } else {
            self.view.disconnected(identity, now);
        }
    }

    pub(super) fn step_login(&mut self, which: usize, truth: &Truth, now: Instant) {
        if self.logins.is_empty() {
            return;
        }
        let (identity, login) = self.logins.remove(which % self.logins.len());
        let user = &identity.user;
        match login {
            Login::Begun(_) if !truth.is_up => {
                self.connections.retain(|_, of| *of != identity);
                self.end(&identity, now);
            }
            Login::Begun(marks) => {
                let loaded = loaded(user, marks, truth);
                self.logins.push((identity, Login::Read(Box::new(loaded))));
            }
            Login::Read(mut loaded) => {
                if self.is(Mutation::DropsMarks) {
                    loaded.marks = self.view.marks();
                }
                if self.is(Mutation::TrustsLogins) {
                    for read in &mut loaded.groups {
                        read.settings.version = read.settings.version.max(self.heard(&read.group));
                    }
                }
                let reloads = self.view.logged_in(user, *loaded, now);
                self.start(reloads);
            }
        }
    }

    pub(super) fn join(&mut self, index: usize, event: &Event, truth: &Truth, now: Instant) {
        let Kind::MembershipChanged(change) = &event.kind else { return };
        let group = Conversation::from_key(&change.conversation).unwrap();
        let user = user(index);
        if self.view.cache().version(&group).is_none() {
            let current = truth.now(&group);
            if let Some(membership) = current.members.get(&user) {
                let outcome = self.view.joined(&group, &user, (current.settings, *membership), now);
                self.follow(outcome, now);
            }
        }
        self.deliver(event, now);
    }

    pub(super) fn require(&mut self, group: &Conversation, index: usize, truth: &Truth, now: Instant) {
        let (current, user) = (truth.now(group), user(index));
        if truth.is_up && current.members.contains_key(&user) {
            let outcome = self.view.member_found(group, &user, current.settings.version, now);
            self.follow(outcome, now);
        }
    }

    // Reloads.

    pub(super) fn step_reload(&mut self, which: usize, truth: &Truth, now: Instant) {
        if self.reloads.is_empty() {
            return;
        }
        let at = which % self.reloads.len();
        let what = self.reloads[at].what.clone();
        let step = std::mem::replace(&mut self.reloads[at].step, ReloadStep::Idle);
        let is_done = match (&what, step) {
            (Reload::Group(_), ReloadStep::Idle | ReloadStep::Failed) => self.step_idle(at, now),
            (Reload::Group(group), step) => self.step_group(at, group, step, truth, now),
            (Reload::Blockers(user), step) => self.step_blockers(at, user, step, truth),
            (Reload::Users(users), step) => self.step_users(at, users, step, truth, now),
        };
        if is_done {
            self.reloads.retain(|reload| reload.what != what);
        }
    }

    fn step_idle(&mut self, at: usize, now: Instant) -> bool {
        let Reload::Group(group) = &self.reloads[at].what else { return false };
        match self.view.next_step(group, now) {
            Step::Done => return true,
            Step::Wait(_) => {}
            Step::Read(_) if self.is(Mutation::NeverTimesOut) && self.held_since.contains_key(group) => {}
            Step::Read(asked) => self.reloads[at].step = ReloadStep::Asks(asked),
        }
        false
    }

    fn step_group(
        &mut self,
        at: usize,
        group: &Conversation,
        step: ReloadStep,
        truth: &Truth,
        now: Instant,
    ) -> bool {
        self.reloads[at].step = match step {
            ReloadStep::Asks(asked) | ReloadStep::ReadsMembers(asked, _) if !truth.is_up => {
                self.view.group_read_failed(group, asked, now);
                ReloadStep::Failed
            }
            ReloadStep::Asks(asked) => ReloadStep::ReadsMembers(asked, truth.now(group).settings),
            ReloadStep::ReadsMembers(asked, settings) => {
                let members = truth.memberships(group, &asked);
                ReloadStep::Read(Reading { asked, settings, members })
            }
            ReloadStep::Read(mut reading) => {
                if self.is(Mutation::TrustsReloads) {
                    reading.settings.version = reading.settings.version.max(self.heard(group));
                }
                if self.is(Mutation::ForgetsNewcomers) {
                    reading.asked = users().collect();
                }
                let version = reading.settings.version;
                let (is_current, outcome) = self.view.group_read(group, reading, now);
                if is_current {
                    let heard = self.heard.entry(group.clone()).or_default();
                    *heard = version.max(*heard);
                }
                self.start(outcome.reload);
                return self.step_idle(at, now);
            }
            idle => idle,
        };
        false
    }

    fn step_blockers(&mut self, at: usize, user: &UserId, step: ReloadStep, truth: &Truth) -> bool {
        self.reloads[at].step = match step {
            ReloadStep::BlockersAsked(marks) if truth.is_up => {
                ReloadStep::BlockersRead(marks, truth.blockers_of(user))
            }
            ReloadStep::BlockersRead(mut marks, blockers) => {
                if self.is(Mutation::DropsMarks) {
                    marks = self.view.marks();
                }
                if self.view.blockers_read(user, marks, blockers) {
                    return true;
                }
                ReloadStep::Idle
            }
            _ => ReloadStep::BlockersAsked(self.view.marks()),
        };
        false
    }

    fn step_users(
        &mut self,
        at: usize,
        users: &[UserId],
        step: ReloadStep,
        truth: &Truth,
        now: Instant,
    ) -> bool {
        if let ReloadStep::UsersRead(loaded) = step {
            for (user, loaded) in loaded {
                let reloads = self.view.users_read(&user, loaded, now);
                self.start(reloads);
            }
            return true;
        }
        if truth.is_up {
            let marks = self.view.marks();
            let loaded = users.iter().map(|user| (user.clone(), loaded(user, marks, truth)));
            self.reloads[at].step = ReloadStep::UsersRead(loaded.collect());
        }
        false
    }

    // The list of changes.

    pub(super) fn step_log(&mut self, truth: &Truth, now: Instant) {
        match std::mem::replace(&mut self.log, LogStep::Idle) {
            LogStep::Idle => {
                self.loses_reading = false;
                self.view.freshness().begin();
                if !truth.is_up {
                    self.view.freshness().fail();
                    return;
                }
                let skipped =
                    if self.is(Mutation::SkipsLateIds) { Vec::new() } else { self.position.skipped() };
                self.log = LogStep::Read { changes: truth.changes_after(self.position.last(), &skipped) };
            }
            LogStep::Read { changes } => {
                for entry in &changes {
                    if self.is(Mutation::IgnoresTheLog) {
                        break;
                    }
                    self.apply_entry(entry, truth, now);
                }
                changes.iter().for_each(|entry| self.position.advance(entry.id, now));
                self.position.expire(now);
                self.view.freshness().succeed(now);
                if !self.loses_reading {
                    self.log_read = Some(now);
                }
            }
        }
    }

    /// As `change_log` does it.
    fn apply_entry(&mut self, entry: &LogEntry, truth: &Truth, now: Instant) {
        let LogEntry { conversation, version, .. } = entry;
        match conversation.kind() {
            ConversationKind::Group => {
                let mut joined: Vec<UserId> = Vec::new();
                if self.view.is_behind(conversation, *version, *version) {
                    joined.extend(truth.now(conversation).members.keys().cloned());
                    joined.retain(|user| self.hub.is_here(user.as_str()));
                }
                let heard = self.heard.entry(conversation.clone()).or_default();
                *heard = (*heard).max(*version);
                let outcome = self.view.group_logged(conversation, *version, joined, now);
                self.follow(outcome, now);
            }
            ConversationKind::Private(lo, hi) => {
                for id in [lo, hi] {
                    self.hear_block(id, *version);
                    let reload = self.view.blockers_changed(&UserId::parse(id).unwrap());
                    self.start(reload);
                }
            }
        }
    }

    /// So much time passed without a reading that changes may have been removed from the list.
    pub(super) fn miss_log(&mut self, truth: &Truth, now: Instant) {
        self.log = LogStep::Idle;
        // The deadline of logins is over long before.
        for (identity, _) in std::mem::take(&mut self.logins) {
            self.connections.retain(|_, of| *of != identity);
            self.end(&identity, now);
        }
        let unread = truth.changes_after(self.position.last(), &self.position.skipped());
        unread.iter().for_each(|entry| self.position.advance(entry.id, now));
        if !self.is(Mutation::IgnoresMissedLog) {
            let reloads = self.view.invalidate(now);
            self.start(reloads);
        }
    }

    /// Memory is bounded.
    pub(super) fn check_bounds(&self) -> Result<(), String> {
        let mut held_max = 0;
        self.view.cache().each_group(|_, state| held_max = held_max.max(state.held()));
        let recent = self.view.recent();
        let of_one = self.reloads.iter().filter(|reload| !matches!(reload.what, Reload::Users(_))).count();
        if held_max > HELD_MAX || recent > RECENT_MAX || of_one > GROUPS + USERS {
            return Err(format!("{held_max} held, {recent} recent, reloads: {:?}", self.reloads));
        }
        Ok(())
    }
}

fn loaded(user: &UserId, marks: Marks, truth: &Truth) -> Loaded {
    Loaded { groups: truth.groups_of(user), blockers: truth.blockers_of(user), cleared: Vec::new(), marks }
}
