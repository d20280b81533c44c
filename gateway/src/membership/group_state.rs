//! What this gateway knows about one group: a state machine without I/O and without a clock.
//!
//! Changes of a group are numbered by its access version, without gaps. The state is that of one version, which rises in
//! three ways: the event of the next change is applied; a held change is applied once its predecessors are; a reading of
//! the database replaces the state.
//!
//! Invariants:
//!
//! * While a change is heard of that is not applied, [`GroupState::permissions`] answers nothing.
//! * A reading never replaces newer knowledge, neither about the group nor about one member.
//! * A change is held for at most [`GAP_TIMEOUT`]. Then the group is read again.
//! * A user is in [`GroupState::members`] exactly if its connections here get the group's pushes.

use std::time::{Duration, Instant};

use ahash::{AHashMap, AHashSet};
use shared::ids::UserId;

use shared::permission::{GroupSettings, Membership, Permissions};

use super::departures::Departures;
use super::group_event::{Change, Context, Effect, Event, MemberReading, Reading, Step};
use super::recent_changes::Since;
use super::reorder_buffer::ReorderBuffer;

/// How long a held change waits for its predecessors before the group is read again.
pub(super) const GAP_TIMEOUT: Duration = Duration::from_millis(50);

/// A member with a connection here.
#[derive(Debug, Clone, Copy)]
struct Member {
    membership: Membership,
    /// The version of the change or reading that says so.
    as_of: u64,
    /// True if that is also right as of the group's version.
    confirmed: bool,
}

/// When the group is to be read again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Due {
    Now,
    /// If a predecessor is still missing by then.
    At(Instant),
}

/// The group's reload.
#[derive(Debug, Default)]
struct Reload {
    /// It was started and is not done.
    is_active: bool,
    due: Option<Due>,
    /// Users to ask about, beside the members here.
    others: AHashSet<UserId>,
    /// While a reading is on its way: whether the group was invalidated since it began.
    reading: Option<WasInvalidated>,
}

type WasInvalidated = bool;

/// See the [module](self).
#[derive(Debug, Default)]
pub(super) struct GroupState {
    /// `None` until the first member is known.
    known: Option<GroupSettings>,
    /// The latest version that was heard of.
    heard: u64,
    /// The latest version that was reached by a reading. Users that joined up to there, with an event that did not arrive,
    /// may be missing.
    jumped: u64,
    is_invalid: bool,
    members: AHashMap<UserId, Member>,
    held: ReorderBuffer,
    departures: Departures,
    reload: Reload,
}

impl GroupState {
    /// What a member with a connection here may do; `None` if that is not known for certain.
    pub(super) fn permissions(&self, user: &str) -> Option<Permissions> {
        let settings = self.settings()?;
        let member = self.members.get(user).filter(|member| member.confirmed)?;
        Some(Permissions::of_member(settings, member.membership))
    }

    /// What holds for all members; `None` if that is not known for certain.
    pub(super) fn settings(&self) -> Option<GroupSettings> {
        self.known.filter(|known| !self.is_invalid && self.heard <= known.version)
    }

    /// The version up to which all changes are applied; `None` before the first member is known.
    pub(super) fn version(&self) -> Option<u64> {
        self.known.map(|known| known.version)
    }

    /// Whether the list of changes may tell something new by changes to the versions `first` to `last`.
    pub(super) fn is_behind(&self, first: u64, last: u64) -> bool {
        self.version() < Some(last) || first <= self.jumped
    }

    /// True if no member is connected here and no reload is active: the state is of no use any longer.
    pub(super) fn is_idle(&self) -> bool {
        self.members.is_empty() && !self.reload.is_active
    }

    /// The number of changes that are held.
    #[cfg(test)]
    pub(super) fn held(&self) -> usize {
        self.held.len()
    }

    /// The members with a connection here.
    #[cfg(test)]
    pub(super) fn members(&self) -> Vec<UserId> {
        let mut members: Vec<_> = self.members.keys().cloned().collect();
        members.sort_unstable();
        members
    }

    /// Takes an event and appends what has to be done.
    pub(super) fn on(&mut self, event: Event, context: &Context<'_>, effects: &mut Vec<Effect>) {
        match event {
            Event::Changed(change) => self.changed(change, context, effects),
            Event::Logged { version, joined } => self.logged(version, joined, effects),
            Event::MemberRead(reading) => self.member_read(reading, context, effects),
            Event::MemberFound { user, version } => {
                let is_known = self.version() >= Some(version) && self.members.contains_key(&user);
                if !is_known && (context.is_connected)(user.as_str()) {
                    self.want(Due::Now, [user], effects);
                }
            }
            Event::Disconnected(user) => {
                self.members.remove(&user);
            }
            Event::Invalidated => {
                self.is_invalid = true;
                self.reload.reading = self.reload.reading.map(|_| true);
                self.want(Due::Now, [], effects);
            }
            Event::Read(reading) => self.read(reading, context, effects),
            Event::ReadFailed { asked } => {
                self.reload.reading = None;
                self.want(Due::Now, asked, effects);
            }
        }
    }

    /// What the group's reload has to do now.
    pub(super) fn next_step(&mut self, now: Instant) -> Step {
        match self.reload.due {
            // The predecessors have arrived.
            Some(Due::At(_)) if self.settings().is_some() => {}
            Some(Due::At(at)) if now < at => return Step::Wait(at),
            Some(_) => {
                self.reload.due = None;
                self.reload.reading = Some(false);
                let others = std::mem::take(&mut self.reload.others);
                let others = others.into_iter().filter(|user| !self.members.contains_key(user));
                return Step::Read(self.members.keys().cloned().chain(others).collect());
            }
            None => {}
        }
        self.reload = Reload::default();
        Step::Done
    }

    fn want(&mut self, due: Due, users: impl IntoIterator<Item = UserId>, effects: &mut Vec<Effect>) {
        let reload = &mut self.reload;
        reload.others.extend(users);
        reload.due = Some(match (reload.due, due) {
            (Some(Due::Now), _) | (_, Due::Now) => Due::Now,
            (Some(earlier), _) => earlier,
            (None, due) => due,
        });
        if !std::mem::replace(&mut reload.is_active, true) {
            effects.push(Effect::StartReload);
        }
    }

    fn changed(&mut self, change: Change, context: &Context<'_>, effects: &mut Vec<Effect>) {
        let joined = || change.joined.iter().filter(|user| (context.is_connected)(user.as_str())).cloned();
        let Some(known) = self.version() else {
            self.heard = self.heard.max(change.version);
            let joined: Vec<_> = joined().collect();
            if !joined.is_empty() {
                self.want(Due::Now, joined, effects);
            }
            return;
        };
        if change.version <= known {
            // A later change overtook it, for which the group was read without the users who joined with this one.
            let missed: Vec<_> = joined().filter(|user| !self.members.contains_key(user)).collect();
            if !missed.is_empty() {
                self.want(Due::Now, missed, effects);
            }
            return;
        }
        self.heard = self.heard.max(change.version);
        if change.settings_changed {
            self.remove_left(&change, effects);
            effects.push(Effect::TellUpdated);
            let joined: Vec<_> = joined().collect();
            self.want(Due::Now, joined, effects);
        } else if change.version == known + 1 {
            self.apply(&change, context, effects);
            self.apply_held(context, effects);
        } else {
            self.hold(change, context, effects);
        }
    }

    /// The change follows the group's version.
    fn apply(&mut self, change: &Change, context: &Context<'_>, effects: &mut Vec<Effect>) {
        self.remove_left(change, effects);
        self.add_joined(change, change.version, context, effects);
        if let Some(known) = &mut self.known {
            known.version = change.version;
            known.merges_head = change.merges_head;
            self.departures.push(change.version, &change.left);
        }
    }

    fn apply_held(&mut self, context: &Context<'_>, effects: &mut Vec<Effect>) {
        while let Some(version) = self.version()
            && let Some(next) = self.held.take(version + 1)
        {
            self.apply(&next, context, effects);
        }
        if self.settings().is_some() {
            self.held.clear();
            effects.push(Effect::Current);
        }
    }

    /// The change has a predecessor that has not arrived.
    fn hold(&mut self, change: Change, context: &Context<'_>, effects: &mut Vec<Effect>) {
        self.remove_left(&change, effects);
        if self.heard == change.version {
            // Newcomers get pushes from here on, whatever arrives later; unless a later change is known of, which may
            // have removed them. A predecessor may still remove them, so they are members as of the group's version.
            self.add_joined(&change, self.version().unwrap_or(0), context, effects);
        }
        let joined: Vec<_> =
            change.joined.iter().filter(|user| (context.is_connected)(user.as_str())).cloned().collect();
        let fits = self.held.insert(change);
        let due = if fits { Due::At(context.now + GAP_TIMEOUT) } else { Due::Now };
        self.want(due, joined, effects);
    }

    fn remove_left(&mut self, change: &Change, effects: &mut Vec<Effect>) {
        for user in &change.left {
            let is_older = |member: &Member| member.as_of < change.version;
            if self.members.get(user).is_some_and(is_older) {
                self.members.remove(user);
                effects.push(Effect::Unsubscribe { user: user.clone(), dismissed: change.dismissed });
            }
        }
    }

    fn add_joined(&mut self, change: &Change, as_of: u64, context: &Context<'_>, effects: &mut Vec<Effect>) {
        for user in change.joined.iter().filter(|user| (context.is_connected)(user.as_str())) {
            if self.members.get(user).is_some_and(|member| member.as_of >= change.version) {
                continue;
            }
            let member = Member { membership: change.newcomer, as_of, confirmed: true };
            if self.members.insert(user.clone(), member).is_none() {
                effects.push(Effect::Subscribe { user: user.clone(), announced: true });
            }
        }
    }

    fn logged(&mut self, version: u64, joined: Vec<UserId>, effects: &mut Vec<Effect>) {
        self.heard = self.heard.max(version);
        if self.version().is_some_and(|known| known < version) {
            // All of them: a reading that is on its way may be older, and remove some.
            self.want(Due::Now, joined, effects);
            return;
        }
        let missed = joined.into_iter().filter(|user| !self.members.contains_key(user));
        let missed: Vec<_> = missed.collect();
        if !missed.is_empty() {
            self.want(Due::Now, missed, effects);
        }
    }

    fn member_read(&mut self, reading: MemberReading, context: &Context<'_>, effects: &mut Vec<Effect>) {
        let MemberReading { user, settings, membership, since, joined } = reading;
        if !(context.is_connected)(user.as_str()) {
            return;
        }
        let is_first = self.known.is_none();
        let version = self.known.get_or_insert(settings).version;
        if is_first {
            self.jumped = version;
            match since {
                Since::Unchanged => {}
                Since::Heard(heard) => self.heard = self.heard.max(heard),
                Since::Forgotten => self.is_invalid = true,
            }
            if self.settings().is_none() {
                self.want(Due::Now, [], effects);
            }
        }
        if self.held.left_after(settings.version).contains(&user) {
            return;
        }
        let is_newer =
            |known: &Member| known.as_of > settings.version || known.confirmed && version > settings.version;
        if self.members.get(&user).is_some_and(is_newer) {
            return;
        }
        // Read before a change that was applied here since: the user may not be a member any longer.
        let confirmed = settings.version >= version || self.departures.excludes(&user, settings.version);
        let member = Member { membership, as_of: settings.version, confirmed };
        if self.members.insert(user.clone(), member).is_none() {
            effects.push(Effect::Subscribe { user, announced: joined });
        }
        if !confirmed {
            self.want(Due::Now, [], effects);
        }
    }

    fn read(&mut self, reading: Reading, context: &Context<'_>, effects: &mut Vec<Effect>) {
        let Reading { asked, settings, members } = reading;
        let was_invalidated = self.reload.reading.take().unwrap_or(false);
        let members: AHashMap<UserId, Membership> = members.into_iter().collect();
        if self.version().unwrap_or(self.heard) > settings.version {
            // A change was heard of after this was read.
            let connected = |user: &UserId| (context.is_connected)(user.as_str());
            let missed =
                members.into_keys().filter(|user| !self.members.contains_key(user) && connected(user));
            let missed: Vec<_> = missed.collect();
            self.want(Due::Now, missed, effects);
            return;
        }
        self.replace(&asked, settings, &members, context, effects);
        self.is_invalid = was_invalidated;
        self.apply_held(context, effects);
        if self.known.is_some() && self.settings().is_none() && self.reload.due.is_none() {
            self.want(Due::At(context.now + GAP_TIMEOUT), [], effects);
        }
    }

    /// Takes over what was read about `asked`, which is not older than the state.
    fn replace(
        &mut self,
        asked: &[UserId],
        settings: GroupSettings,
        members: &AHashMap<UserId, Membership>,
        context: &Context<'_>,
        effects: &mut Vec<Effect>,
    ) {
        let asked_of: AHashSet<&UserId> = asked.iter().collect();
        let mut unasked = false;
        let is_newer = self.version() < Some(settings.version);
        if is_newer {
            self.jumped = settings.version;
        }
        for (user, member) in &mut self.members {
            if is_newer && member.as_of < settings.version && !asked_of.contains(user) {
                // It joined or logged in while the reading was on its way.
                member.confirmed = false;
                unasked = true;
            }
        }
        let left_since = self.held.left_after(settings.version);
        for user in asked.iter().filter(|user| (context.is_connected)(user.as_str())) {
            let known = self.members.get_mut(user);
            match (known, members.get(user)) {
                (Some(known), _) if known.as_of > settings.version => {}
                // A member when this was read, but not since a change that is held.
                (_, Some(_)) if left_since.contains(user) => {}
                (Some(known), Some(membership)) => {
                    *known = Member { membership: *membership, as_of: settings.version, confirmed: true };
                }
                (None, Some(membership)) => {
                    let member = Member { membership: *membership, as_of: settings.version, confirmed: true };
                    self.members.insert(user.clone(), member);
                    effects.push(Effect::Subscribe { user: user.clone(), announced: true });
                }
                (Some(_), None) => {
                    self.members.remove(user);
                    effects.push(Effect::Unsubscribe { user: user.clone(), dismissed: false });
                }
                (None, None) => {}
            }
        }
        self.known = Some(settings);
        self.departures.begin(settings.version);
        if unasked {
            self.want(Due::Now, [], effects);
        }
    }
}

#[cfg(test)]
pub(super) mod tests;
