//! The database, the gateways, and the judge.

use std::time::{Duration, Instant};

use ahash::AHashSet;
use proto::v1::event::Kind;
use shared::conversation::Conversation;
use shared::ids::UserId;
use shared::permission::{Permissions, Relation};

use super::gateway::{Event, Gateway};
use super::mutation::Mutation;
use super::operations::{Change, GATEWAYS, Operation};
use super::truth::{Truth, group, groups, user, users};
use crate::membership::group_state::GAP_TIMEOUT;
use crate::membership::reorder_buffer::HELD_MAX;

/// After the last trouble, every view must be true within this many rounds.
const ROUNDS_MAX: usize = 12;
/// Steps of one gateway's logins and reloads in a round.
const STEPS_MAX: usize = 60;

type Verdict = Result<(), String>;

/// Everything.
pub(super) struct World {
    truth: Truth,
    gateways: Vec<Gateway>,
    now: Instant,
}

impl World {
    pub(super) fn new(mutation: Option<Mutation>) -> Self {
        let now = Instant::now();
        let gateways = (1..).take(GATEWAYS).map(|number| Gateway::new(number, mutation, now)).collect();
        Self { truth: Truth::new(), gateways, now }
    }

    pub(super) fn apply(&mut self, operation: Operation) -> Verdict {
        let now = self.now;
        match operation {
            Operation::Change { group: index, change, late } => {
                if let Some(kind) = self.truth.change(&group(index), change, late) {
                    self.announce(kind, None);
                }
            }
            Operation::JoinHere { gateway, group: index, user } => self.join_here(gateway, index, user),
            Operation::Block { by, user: blocked_user, blocked } => {
                if let Some(kind) = self.truth.block(&user(by), &user(blocked_user), blocked) {
                    self.announce(kind, None);
                }
            }
            Operation::Flood { gateway, group, user } => self.flood(gateway, group, user),
            Operation::Deliver { gateway, which } => {
                if let Some(event) = self.take(gateway, which) {
                    self.gateways[gateway].deliver(&event, now);
                }
            }
            Operation::Double { gateway, which } => {
                if let Some(event) = self.take(gateway, which) {
                    self.gateways[gateway].deliver(&event, now);
                    self.gateways[gateway].events.push(event);
                }
            }
            Operation::Lose { gateway, which } => drop(self.take(gateway, which)),
            Operation::LoseQueue { gateway } => self.gateways[gateway].lose_queue(),
            Operation::Connect { gateway, user, device } => self.gateways[gateway].connect(user, device, now),
            Operation::Disconnect { gateway, user, device } => {
                self.gateways[gateway].disconnect(user, device, now);
            }
            Operation::Login { gateway, which } => {
                self.gateways[gateway].step_login(which, &self.truth, now);
            }
            Operation::Reload { gateway, which } => {
                self.gateways[gateway].step_reload(which, &self.truth, now);
            }
            Operation::ReadLog { gateway } => self.gateways[gateway].step_log(&self.truth, now),
            Operation::Require { gateway, group: index, user } => {
                self.gateways[gateway].require(&group(index), user, &self.truth, now);
            }
            Operation::MissLog { gateway } => {
                if self.truth.is_up {
                    self.gateways[gateway].miss_log(&self.truth, now);
                }
            }
            Operation::Tick { ms } => self.pass(Duration::from_millis(ms)),
            Operation::SwitchDatabase { up } => self.truth.is_up = up,
        }
        self.check()
    }

    fn take(&mut self, gateway: usize, which: usize) -> Option<Event> {
        let events = &mut self.gateways[gateway].events;
        (!events.is_empty()).then(|| events.swap_remove(which % events.len()))
    }

    /// On its way to all gateways but one.
    fn announce(&mut self, kind: Kind, except: Option<usize>) -> Event {
        let version = match &kind {
            Kind::MembershipChanged(change) => change.version,
            _ => self.truth.block_version(),
        };
        let event = Event { kind, version };
        for (at, gateway) in self.gateways.iter_mut().enumerate() {
            if Some(at) != except {
                gateway.events.push(event.clone());
            }
        }
        event
    }

    fn join_here(&mut self, gateway: usize, index: usize, user: usize) {
        if let Some(kind) = self.truth.change(&group(index), Change::Join { user }, false) {
            let event = self.announce(kind, Some(gateway));
            self.gateways[gateway].join(user, &event, &self.truth, self.now);
        }
    }

    /// Other gateways do not hear of these changes at all, but find them in the list.
    fn flood(&mut self, gateway: usize, index: usize, user: usize) {
        let group = group(index);
        for number in 0..=HELD_MAX + 1 {
            let is_member = self.truth.now(&group).members.contains_key(&super::truth::user(user));
            let change = if is_member { Change::Leave { user } } else { Change::Join { user } };
            let Some(kind) = self.truth.change(&group, change, false) else { return };
            let Kind::MembershipChanged(change) = &kind else { return };
            let event = Event { version: change.version, kind };
            if number > 0 {
                self.gateways[gateway].deliver(&event, self.now);
            }
        }
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        let now = self.now;
        self.gateways.iter_mut().for_each(|gateway| gateway.look_again(now));
    }

    // The judge.

    fn check(&mut self) -> Verdict {
        (0..self.gateways.len()).try_for_each(|at| self.check_one(at))
    }

    fn check_one(&mut self, at: usize) -> Verdict {
        let (gateway, now) = (&mut self.gateways[at], self.now);
        check_fresh(gateway, &self.truth, now)
            .and_then(|()| check_held(gateway, self.truth.is_up, now))
            .and_then(|()| gateway.check_bounds())
            .map_err(|why| format!("gateway {at}: {why}"))
    }

    /// Nothing more is lost: every view must become true.
    pub(super) fn finish(mut self) -> Verdict {
        self.truth.is_up = true;
        for at in 0..self.gateways.len() {
            // Every other event that is still on its way never arrives.
            let mut arrives = false;
            while let Some(event) = self.take(at, 0) {
                arrives = !arrives;
                if arrives {
                    self.gateways[at].deliver(&event, self.now);
                    self.check()?;
                }
            }
        }
        let mut rounds = 0;
        while rounds < 2 || self.gateways.iter().any(Gateway::has_tasks) {
            rounds += 1;
            if rounds > ROUNDS_MAX {
                return Err(format!("still reading after {rounds} rounds"));
            }
            for at in 0..self.gateways.len() {
                // A reading that has begun before is not enough.
                for _ in 0..3 {
                    self.gateways[at].step_log(&self.truth, self.now);
                }
                for step in 0..STEPS_MAX {
                    if !self.gateways[at].has_tasks() {
                        break;
                    }
                    self.gateways[at].step_login(step, &self.truth, self.now);
                    self.gateways[at].step_reload(step, &self.truth, self.now);
                    self.check_one(at)?;
                }
            }
            self.pass(Duration::from_secs(1));
            self.check()?;
        }
        for (at, gateway) in self.gateways.iter().enumerate() {
            check_true(gateway, &self.truth, self.now).map_err(|why| format!("gateway {at}: {why}"))?;
        }
        Ok(())
    }
}

/// A fresh view says nothing that had ended before the newest change that was heard of.
fn check_fresh(gateway: &Gateway, truth: &Truth, now: Instant) -> Verdict {
    if !gateway.view.freshness().is_fresh(now) {
        return Ok(());
    }
    if !gateway.may_be_fresh(now) {
        return Err("relies on memory although events may be lost".to_owned());
    }
    for user in users() {
        for group in groups() {
            let Some(known) = gateway.view.cache().permissions(&group, &user) else { continue };
            let heard = usize::try_from(gateway.heard(&group)).unwrap();
            let later = truth.versions(&group).get(heard..).unwrap_or_default();
            let is_member = later.iter().any(|version| {
                let membership = version.members.get(&user);
                membership.is_some_and(|membership| {
                    let settings = later.iter().map(|version| version.settings);
                    settings
                        .map(|settings| Permissions::of_member(settings, *membership))
                        .any(|of| of == known)
                })
            });
            if !is_member {
                return Err(format!("{user} in {group} has {known:?}, which ended before {heard}"));
            }
        }
        for peer in users().filter(|peer| *peer != user) {
            let chat = Conversation::between(&user, &peer);
            let Some(known) = gateway.view.cache().permissions(&chat, &user) else { continue };
            let (blocked, allowed) = truth.was_blocked(&peer, &user, gateway.heard_blocks(&user));
            let is_blocked = known.relation == Relation::Participant { is_blocked: true };
            if if is_blocked { !blocked } else { !allowed } {
                return Err(format!("{user} in {chat} has {known:?}, which has ended"));
            }
        }
    }
    Ok(())
}

/// Nothing is held beyond its timeout, unless the group cannot be read.
fn check_held(gateway: &mut Gateway, is_database_up: bool, now: Instant) -> Verdict {
    for (group, since, is_read) in gateway.holding(now) {
        if is_database_up && !is_read && now.duration_since(since) > GAP_TIMEOUT {
            return Err(format!("changes of {group} are held beyond the timeout, and it is not read"));
        }
    }
    Ok(())
}

/// The view equals the truth.
fn check_true(gateway: &Gateway, truth: &Truth, now: Instant) -> Verdict {
    if !gateway.view.freshness().is_fresh(now) {
        return Err("not fresh".to_owned());
    }
    let here: AHashSet<UserId> = gateway.logged_in().cloned().collect();
    for group in groups() {
        let current = truth.now(&group);
        let mut pushed = AHashSet::new();
        gateway.hub.each_concerned(&group, |member| _ = pushed.insert(member.user.clone()));
        let members: AHashSet<UserId> =
            current.members.keys().filter(|user| here.contains(*user)).cloned().collect();
        if pushed != members {
            return Err(format!("{group} is pushed to {pushed:?}, its members here are {members:?}"));
        }
        let mut known: Vec<UserId> = Vec::new();
        gateway.view.cache().each_group(|of, state| {
            if *of == group {
                known.extend(state.members());
            }
        });
        if known.iter().cloned().collect::<AHashSet<_>>() != members {
            return Err(format!("{group} has the members {known:?}, in truth {members:?}"));
        }
        for user in &members {
            let known = gateway.view.cache().permissions(&group, user);
            let in_truth = Permissions::of_member(current.settings, current.members[user]);
            if known != Some(in_truth) {
                return Err(format!("{user} in {group} has {known:?}, in truth {in_truth:?}"));
            }
        }
        if !members.is_empty() && gateway.view.cache().settings(&group) != Some(current.settings) {
            return Err(format!("{group} is known as {:?}", gateway.view.cache().settings(&group)));
        }
    }
    for user in &here {
        for peer in users().filter(|peer| peer != user) {
            let chat = Conversation::between(user, &peer);
            let known = gateway.view.cache().permissions(&chat, user);
            let in_truth = Permissions::of_participant(truth.blockers_of(user).contains(&peer));
            if known != Some(in_truth) {
                return Err(format!("{user} in {chat} has {known:?}, in truth {in_truth:?}"));
            }
        }
    }
    Ok(())
}
