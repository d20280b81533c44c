//! Gateways, queue, workers, and the judge.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use parking_lot::Mutex;
use proto::v1::event::Kind;
use shared::conversation::Conversation;
use shared::ids::{ConnectionId, MsgId, Seq, UserId};
use shared::message::Numbered;
use shared::message::fixture::numbered;
use shared::permission::{GroupRoster, MemberStatus};

use super::operations::{Change, Fault, Operation, Profile, Publish};
use super::twins::{Faults, LedgerFlaws, Redis, Timeline, Timelines, TwinLedger, TwinSequencer};
use crate::announce::events::Events;
use crate::announce::touches::{Touch, Touches, inbox_updates};
use crate::commit::committer::Committer;
use crate::commit::facts::Committed;
use crate::commit::pending::{DeliveryTag, Pending};
use crate::settle::Deliveries;

const HOLE_TIMEOUT: Duration = Duration::from_secs(2);
/// How far above the last number a gateway seeds a lost counter: little, so that it collides with what is on its way.
const RESEED_MARGIN: u64 = 3;
/// By then everything must be stored after the last trouble.
const ROUNDS_MAX: usize = 300;

/// A worker that is broken on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mutation {
    GivesUpAtOnce,
    AcknowledgesOnDelivery,
    KeepsCorrectionsToItself,
    StoresTwice,
    ForgetsToAdvance,
    TrustsItsMemory,
    AcknowledgesBeforeItNotes,
}

/// What is known outside about one message.
#[derive(Debug)]
struct Sent {
    message: Numbered,
    gateway: usize,
    accepted: bool,
    /// The number in the sender's last reply.
    told: Option<Seq>,
    /// Refused, sent again or delivered again: its place among its sender's messages is open.
    unordered: bool,
    corrected: bool,
    /// Told that it is not stored.
    refused: bool,
    /// As a push to the members.
    announced: bool,
}

#[derive(Debug, Clone)]
struct Body {
    messages: Vec<Numbered>,
    redelivered: bool,
}

#[derive(Debug, Default)]
struct Gateway {
    /// Indexes into `World::sent`.
    waiting: Vec<usize>,
    numbered: Option<Vec<(usize, Numbered)>>,
}

struct Worker {
    committer: Committer<TwinLedger, TwinSequencer>,
    sequencer: TwinSequencer,
    touches: Touches,
    deliveries: Deliveries,
    faults: Faults,
    unacked: BTreeMap<DeliveryTag, Body>,
    last_tag: DeliveryTag,
    arrivals: u64,
}

/// Everything.
pub(super) struct World {
    profile: Profile,
    mutation: Option<Mutation>,
    /// Bodies that a worker may have unacknowledged.
    prefetch: usize,
    now: Instant,
    sent: Vec<Sent>,
    gateways: [Gateway; 2],
    redis: Arc<Mutex<Redis>>,
    /// Numbers were lost at some time.
    redis_failed: bool,
    queue: VecDeque<Body>,
    timelines: Arc<Mutex<Timelines>>,
    /// As of the last check.
    seen: Timelines,
    worker: Worker,
    zombie: Option<Worker>,
}

type Verdict = Result<(), String>;

impl World {
    pub(super) fn new(profile: Profile, mutation: Option<Mutation>) -> Self {
        let (redis, timelines) = (Arc::<Mutex<Redis>>::default(), Arc::<Mutex<Timelines>>::default());
        let worker = Worker::new(&redis, &timelines, mutation);
        // Everyone is in every group at first.
        for conversation in conversations() {
            let status = Some(MemberStatus::NEW);
            let members = (0..3).map(|index| (user(index), status)).collect();
            let group = GroupRoster { members, ..GroupRoster::default() };
            timelines.lock().insert(conversation, Timeline { version: 1, group, ..Timeline::default() });
        }
        Self {
            profile,
            mutation,
            // So few that held bodies use them up; then nothing but the hole timeout helps, which a calm run forbids.
            prefetch: if profile == Profile::Calm { usize::MAX } else { 6 },
            now: Instant::now() + Duration::from_secs(3_600),
            sent: Vec::new(),
            gateways: Default::default(),
            redis,
            redis_failed: false,
            queue: VecDeque::new(),
            timelines,
            seen: Timelines::new(),
            worker,
            zombie: None,
        }
    }

    pub(super) fn apply(&mut self, operation: Operation) -> Verdict {
        match operation {
            Operation::Send { gateway, user, conversation, count } => {
                (0..count).for_each(|_| self.send(gateway, user, conversation));
            }
            Operation::Retry { gateway, which } => self.retry(gateway, which),
            Operation::Number { gateway } => self.number(gateway),
            Operation::Publish { gateway, fate } => self.publish(gateway, fate),
            Operation::Work { bodies, fault } => self.work(bodies, fault)?,
            Operation::Crash { requeue_to_back } => self.replace_worker(requeue_to_back, false),
            Operation::HandOver => self.replace_worker(false, true),
            Operation::Zombie { fault } => self.zombie(fault)?,
            Operation::Tick { ms } => self.now += Duration::from_millis(ms),
            Operation::SaveRedis => {
                let mut redis = self.redis.lock();
                redis.saved = redis.memory.clone();
            }
            Operation::RestoreRedis => {
                self.redis_failed = true;
                let mut redis = self.redis.lock();
                redis.memory = redis.saved.clone();
            }
            Operation::LoseRedis => {
                self.redis_failed = true;
                let mut redis = self.redis.lock();
                // An inbox that was lost is built anew from the database.
                let noted = std::mem::take(&mut redis.noted);
                *redis = Redis { noted, ..Redis::default() };
            }
            Operation::ForgetIds => self.redis.lock().memory.sent.clear(),
            Operation::SwitchRedis { up } => self.redis.lock().is_away = !up,
            Operation::Change { conversation, change } => self.change(conversation, change),
        }
        self.check_timelines()
    }

    /// As `shared::mysql::groups` does it.
    fn change(&mut self, conversation: usize, change: Change) {
        let mut timelines = self.timelines.lock();
        let timeline = timelines.entry(conversations()[conversation].clone()).or_default();
        let sender = |muted_until| Some(MemberStatus { muted_until, ..MemberStatus::NEW });
        let group = &mut timeline.group;
        match change {
            Change::Join { user: index } => {
                group.members.insert(user(index), sender(0));
            }
            Change::Leave { user: index } => {
                group.members.remove(&user(index));
            }
            Change::Mute { user: index } => {
                group.members.entry(user(index)).and_modify(|member| *member = sender(i64::MAX));
            }
            Change::MuteAll { on } => group.is_muted = on,
            Change::Grow { large } => group.is_large = large,
        }
        timeline.version += 1;
    }

    // Gateways.

    fn send(&mut self, gateway: usize, sender: usize, conversation: usize) {
        let index = self.sent.len();
        let message = Numbered {
            origin: Some(ConnectionId { gateway: gateway as u64 + 1, connection: sender as u64 }),
            ..numbered(conversations()[conversation].key(), 0, user(sender).as_str(), &format!("m{index}"))
        };
        self.sent.push(Sent {
            message,
            gateway,
            accepted: false,
            told: None,
            unordered: false,
            corrected: false,
            refused: false,
            announced: false,
        });
        self.gateways[gateway].waiting.push(index);
    }

    fn retry(&mut self, gateway: usize, which: usize) {
        if let Some(index) = (!self.sent.is_empty()).then(|| which % self.sent.len()) {
            self.sent[index].unordered = true;
            self.gateways[gateway].waiting.push(index);
        }
    }

    /// As `shared::redis::sequence` and the gateway's seeding of lost counters do it.
    fn number(&mut self, gateway: usize) {
        if self.gateways[gateway].numbered.is_some() {
            return;
        }
        let mut redis = self.redis.lock();
        let waiting = std::mem::take(&mut self.gateways[gateway].waiting);
        if redis.is_away {
            waiting.into_iter().for_each(|index| self.sent[index].unordered = true);
            return;
        }
        let mut numbered = Vec::new();
        for index in waiting {
            let mut message = self.sent[index].message.clone();
            message.origin =
                message.origin.map(|origin| ConnectionId { gateway: gateway as u64 + 1, ..origin });
            let conversation = &message.message.conversation;
            if !redis.memory.counters.contains_key(conversation) {
                let last = self.timelines.lock().get(conversation).map_or(0, |timeline| timeline.last.0);
                message.jump = last > 0;
                let seed = if last > 0 { last + RESEED_MARGIN } else { 0 };
                redis.memory.counters.insert(conversation.clone(), seed);
            }
            let id = (conversation.clone(), message.sender.clone(), message.msg_id.clone());
            if let Some(known) = redis.memory.sent.get(&id) {
                (message.seq, message.retry) = (*known, true);
            } else {
                let counter = redis.memory.counters.entry(conversation.clone()).or_default();
                *counter += 1;
                message.seq = Seq(*counter);
                redis.memory.sent.insert(id, message.seq);
            }
            numbered.push((index, message));
        }
        if !numbered.is_empty() {
            self.gateways[gateway].numbered = Some(numbered);
        }
    }

    fn publish(&mut self, gateway: usize, fate: Publish) {
        let Some(numbered) = self.gateways[gateway].numbered.take() else { return };
        for (index, message) in &numbered {
            let sent = &mut self.sent[*index];
            if fate == Publish::Confirmed {
                sent.accepted = true;
                sent.told = Some(message.seq);
            } else {
                sent.unordered = true;
            }
        }
        if fate != Publish::Lost {
            let messages = numbered.into_iter().map(|(_, message)| message).collect();
            self.queue.push_back(Body { messages, redelivered: false });
        }
    }

    // Workers.

    fn work(&mut self, bodies: usize, fault: Option<Fault>) -> Verdict {
        self.worker.faults.arm(fault);
        let room = self.prefetch.saturating_sub(self.worker.unacked.len());
        let taken: Vec<Body> = (0..bodies.min(room)).map_while(|_| self.queue.pop_front()).collect();
        let caught_up = self.queue.is_empty() || self.worker.unacked.len() + taken.len() == self.prefetch;
        let arrived = self.worker.receive(taken);
        if self.mutation == Some(Mutation::AcknowledgesOnDelivery) {
            self.worker.unacked.clear();
        }
        let ended = self.round(Role::Worker, arrived, caught_up);
        self.worker.faults.arm(None);
        if self.worker.faults.is_dead() {
            self.replace_worker(false, false);
        }
        ended
    }

    fn zombie(&mut self, fault: Option<Fault>) -> Verdict {
        let Some(zombie) = &self.zombie else { return Ok(()) };
        zombie.faults.arm(fault);
        let ended = self.round(Role::Zombie, Vec::new(), true);
        if self.zombie.as_ref().is_some_and(|zombie| zombie.faults.is_dead()) {
            self.zombie = None;
        }
        ended
    }

    /// The spine, as in `shards::shard_task`.
    fn round(&mut self, role: Role, arrived: Vec<Pending>, caught_up: bool) -> Verdict {
        let now = self.now;
        let Some(worker) = self.acting(role) else { return Ok(()) };
        let committed = at_once(worker.committer.commit(arrived, caught_up, now));
        let Ok(committed) = committed else { return Ok(()) };
        let faults = worker.faults.clone();
        // An event that a living worker cannot publish leaves a gap in its stream, and clients pull what it would have
        // told them. Only one that a worker takes into its grave is lost for now.
        let published = faults.step(|| ());
        if published.is_err() && faults.is_dead() {
            return Ok(());
        }
        let Committed { facts, advanced, mut settled } = committed;
        let updates = inbox_updates(advanced, &mut settled);
        self.tell(Events::from(facts))?;
        let (mutation, hurry_above) = (self.mutation, self.prefetch / 2);
        let Some(worker) = self.acting(role) else { return Ok(()) };
        settled.into_iter().for_each(|tag| worker.deliveries.settle(tag));
        if mutation == Some(Mutation::AcknowledgesBeforeItNotes) {
            let early = updates.iter().flat_map(|touch| &touch.deliveries);
            early.for_each(|tag| worker.deliveries.settle(*tag));
        }
        worker.note(updates, hurry_above, now);
        let acks = worker.deliveries.acks();
        let mut acked = Vec::new();
        let sent = faults.step(|| {
            for ack in acks {
                let first = if ack.multiple { 0 } else { ack.tag };
                acked.extend(worker.unacked.extract_if(first..=ack.tag, |_, _| true).map(|(_, body)| body));
            }
        });
        self.check_stored(&acked)?;
        if sent.is_err() {
            // A channel whose acknowledgements fail is given up.
            self.drop_worker(role);
            return Ok(());
        }
        if let Some(worker) = self.acting(role) {
            // Whatever fails is tried again by a later round.
            let _ = at_once(worker.committer.repair(now));
        }
        Ok(())
    }

    fn acting(&mut self, role: Role) -> Option<&mut Worker> {
        match role {
            Role::Worker => Some(&mut self.worker),
            Role::Zombie => self.zombie.as_mut(),
        }
    }

    fn drop_worker(&mut self, role: Role) {
        match role {
            Role::Worker => self.replace_worker(false, false),
            Role::Zombie => self.zombie = None,
        }
    }

    fn replace_worker(&mut self, requeue_to_back: bool, keep_as_zombie: bool) {
        let fresh = Worker::new(&self.redis, &self.timelines, self.mutation);
        let mut old = std::mem::replace(&mut self.worker, fresh);
        let mut returned: Vec<Body> = std::mem::take(&mut old.unacked).into_values().collect();
        for body in &mut returned {
            body.redelivered = true;
            for message in &body.messages {
                self.sent[index_of(&message.msg_id)].unordered |= self.redis_failed;
            }
        }
        if requeue_to_back {
            self.queue.extend(returned);
        } else {
            returned.into_iter().rev().for_each(|body| self.queue.push_front(body));
        }
        if keep_as_zombie {
            self.zombie = Some(old);
        }
    }

    // The judge.

    /// What gateways do with events, and whether they are true.
    fn tell(&mut self, events: Events) -> Verdict {
        let timelines = self.timelines.lock();
        let row = |conversation: &str, seq: u64| {
            let timeline = timelines.get(&Conversation::from_key(conversation).ok()?)?;
            timeline.rows.iter().find(|row| row.seq.0 == seq)
        };
        for event in events.into_wire() {
            match event.kind {
                Some(Kind::Committed(committed)) => {
                    if !committed.messages.is_sorted_by_key(|message| message.seq) {
                        return Err(format!("event out of order: {committed:?}"));
                    }
                    for message in committed.messages {
                        let stored = row(&committed.conversation, message.seq);
                        if stored.is_none_or(|row| row.msg_id.as_str() != message.msg_id) {
                            return Err(format!("pushed but not stored: {message:?}"));
                        }
                        self.sent[index_of(&MsgId::parse(&message.msg_id).unwrap())].announced = true;
                    }
                }
                Some(Kind::Corrected(corrected)) => {
                    let stored = row(&corrected.conversation, corrected.seq);
                    if stored.is_none_or(|row| row.msg_id.as_str() != corrected.msg_id) {
                        return Err(format!("corrected to what is not stored: {corrected:?}"));
                    }
                    if corrected.changed && self.mutation != Some(Mutation::KeepsCorrectionsToItself) {
                        if self.profile == Profile::Calm {
                            return Err(format!("needless correction: {corrected:?}"));
                        }
                        let sent = &mut self.sent[index_of(&MsgId::parse(&corrected.msg_id).unwrap())];
                        sent.told = Some(Seq(corrected.seq));
                        sent.corrected = true;
                    }
                }
                Some(Kind::Refused(refused)) => {
                    let conversation = Conversation::from_key(&refused.conversation).unwrap();
                    let sender = UserId::parse(&refused.sender_id).unwrap();
                    let timeline = &timelines[&conversation];
                    let msg_id = MsgId::parse(&refused.msg_id).unwrap();
                    if timeline.find(&sender, &msg_id).is_some() {
                        return Err(format!("refused and stored: {refused:?}"));
                    }
                    if may_send(timeline, &sender) {
                        return Err(format!("refused without a reason: {refused:?}"));
                    }
                    self.sent[index_of(&msg_id)].refused = true;
                }
                other => return Err(format!("no worker's event: {other:?}")),
            }
        }
        Ok(())
    }

    fn check_stored(&self, acked: &[Body]) -> Verdict {
        let timelines = self.timelines.lock();
        for message in acked.iter().flat_map(|body| &body.messages) {
            let timeline = timelines.get(&message.conversation);
            let stored = timeline.and_then(|t| t.find(&message.sender, &message.msg_id)).is_some();
            if !stored && !self.sent[index_of(&message.msg_id)].refused {
                return Err(format!("acknowledged but not stored: {message:?}"));
            }
        }
        Ok(())
    }

    /// Timelines only grow, at their end, by what is not in them yet.
    fn check_timelines(&mut self) -> Verdict {
        let timelines = self.timelines.lock().clone();
        for (conversation, now) in &timelines {
            let before = self.seen.get(conversation).cloned().unwrap_or_default();
            check_growth(&before, now).map_err(|why| format!("{conversation}: {why}"))?;
        }
        self.seen = timelines;
        Ok(())
    }

    /// Everything works again: all that was accepted must come to its end.
    pub(super) fn finish(mut self) -> Verdict {
        self.redis.lock().is_away = false;
        for gateway in 0..2 {
            for _ in 0..2 {
                self.publish(gateway, Publish::Confirmed);
                self.number(gateway);
            }
        }
        let mut rounds = 0;
        while !(self.queue.is_empty() && self.worker.unacked.is_empty()) {
            rounds += 1;
            if rounds > ROUNDS_MAX {
                return Err(format!("still waiting after {rounds} rounds: {:?}", self.worker.unacked));
            }
            self.work(3, None)?;
            self.check_timelines()?;
            // Time passes only once there is nothing else to do, as it does for a worker that is quick enough.
            if self.queue.is_empty() || self.worker.unacked.len() == self.prefetch {
                self.now += Duration::from_millis(700);
            }
        }
        self.check_replies()?;
        self.check_inboxes()?;
        self.check_order()
    }

    fn check_inboxes(&self) -> Verdict {
        let redis = self.redis.lock();
        for (conversation, timeline) in self.timelines.lock().iter() {
            let noted = redis.noted.get(conversation).copied().unwrap_or_default();
            if noted != timeline.last {
                return Err(format!("{conversation} is noted at {noted}, its last row is {}", timeline.last));
            }
        }
        Ok(())
    }

    fn check_replies(&self) -> Verdict {
        let timelines = self.timelines.lock();
        for sent in self.sent.iter().filter(|sent| sent.accepted) {
            let Sent { message, told, .. } = sent;
            let timeline = timelines.get(&message.conversation);
            let Some(row) = timeline.and_then(|t| t.find(&message.sender, &message.msg_id)) else {
                if sent.refused {
                    continue;
                }
                return Err(format!("accepted but lost: {message:?}"));
            };
            if *told != Some(row.seq) {
                return Err(format!("{} is stored as {}, its sender was told {told:?}", row.msg_id, row.seq));
            }
            // A dead worker's corrections and retries may go unannounced: its successor's events begin a new stream.
            if !(sent.announced || sent.corrected || sent.unordered) {
                return Err(format!("{} was never announced", row.msg_id));
            }
            if row.content != message.kind.content() {
                return Err(format!("{} has another content: {}", row.msg_id, row.content));
            }
        }
        Ok(())
    }

    fn check_order(&self) -> Verdict {
        let mut last: BTreeMap<(&Conversation, &UserId, usize), (Seq, &MsgId)> = BTreeMap::new();
        for sent in &self.sent {
            if !sent.accepted || sent.unordered || sent.corrected || sent.refused {
                continue;
            }
            let Some(seq) = sent.told else { continue };
            let ids = (&sent.message.conversation, &sent.message.sender, sent.gateway);
            if let Some((before, id)) =
                last.insert(ids, (seq, &sent.message.msg_id)).filter(|(b, _)| *b >= seq)
            {
                return Err(format!("{id} was sent first and is {before}, {} is {seq}", sent.message.msg_id));
            }
        }
        Ok(())
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Worker,
    Zombie,
}

impl Worker {
    fn new(redis: &Arc<Mutex<Redis>>, timelines: &Arc<Mutex<Timelines>>, mutation: Option<Mutation>) -> Self {
        let faults = Faults::default();
        let flaws = LedgerFlaws {
            no_unique_ids: mutation == Some(Mutation::StoresTwice),
            heads_stay: mutation == Some(Mutation::ForgetsToAdvance),
            old_versions: mutation == Some(Mutation::TrustsItsMemory),
        };
        let ledger = TwinLedger { timelines: Arc::clone(timelines), faults: faults.clone(), flaws };
        let sequencer = TwinSequencer { redis: Arc::clone(redis), faults: faults.clone() };
        let impatient = mutation == Some(Mutation::GivesUpAtOnce);
        let hole_timeout = if impatient { Duration::ZERO } else { HOLE_TIMEOUT };
        Self {
            committer: Committer::new(ledger, sequencer.clone(), hole_timeout),
            sequencer,
            touches: Touches::new(),
            deliveries: Deliveries::new(),
            faults,
            unacked: BTreeMap::new(),
            last_tag: 0,
            arrivals: 0,
        }
    }

    /// As `announce::inboxes` does it.
    fn note(&mut self, touches: Vec<Touch>, hurry_above: usize, now: Instant) {
        touches.into_iter().for_each(|touch| self.touches.add(touch));
        for touch in self.touches.take_due(self.deliveries.unacknowledged() > hurry_above, now) {
            match self.sequencer.note(&touch.conversation, touch.last_seq) {
                Ok(()) => touch.deliveries.into_iter().for_each(|tag| self.deliveries.settle(tag)),
                Err(_) => self.touches.add(touch),
            }
        }
    }

    fn receive(&mut self, bodies: Vec<Body>) -> Vec<Pending> {
        let mut arrived = Vec::new();
        for body in bodies {
            self.last_tag += 1;
            self.deliveries.opened(self.last_tag, body.messages.len());
            for message in &body.messages {
                self.arrivals += 1;
                arrived.push(Pending::new(message.clone(), self.last_tag, self.arrivals, body.redelivered));
            }
            self.unacked.insert(self.last_tag, body);
        }
        arrived
    }
}

fn check_growth(before: &Timeline, now: &Timeline) -> Verdict {
    let Some(grown) = now.rows.strip_prefix(&before.rows[..]) else {
        return Err(format!("what was stored changed: {before:?} is now {now:?}"));
    };
    let mut last = before.last;
    for row in grown {
        if !may_send(now, &row.sender) {
            return Err(format!("{} is stored, and {} may not send", row.msg_id, row.sender));
        }
        if row.seq <= last {
            return Err(format!("{} appeared at {}, after {last} had been read", row.msg_id, row.seq));
        }
        last = row.seq;
    }
    if now.last != last {
        return Err(format!("the last number is {}, the last row {last}", now.last));
    }
    for (at, row) in now.rows.iter().enumerate() {
        if now.rows[..at].iter().any(|other| other.msg_id == row.msg_id && other.sender == row.sender) {
            return Err(format!("{} is stored twice", row.msg_id));
        }
    }
    Ok(())
}

fn may_send(timeline: &Timeline, sender: &UserId) -> bool {
    let member = timeline.group.members.get(sender).copied().flatten();
    member.is_some_and(|member| member.muted_until == 0) && !timeline.group.is_muted
}

fn conversations() -> [Conversation; 2] {
    ["group_a", "group_b"].map(|key| Conversation::from_key(key).unwrap())
}

fn user(index: usize) -> UserId {
    UserId::parse(["alice", "bob", "carol"][index]).unwrap()
}

/// Ids are `m` and the index into `World::sent`.
fn index_of(msg_id: &MsgId) -> usize {
    msg_id.as_str()[1..].parse().unwrap()
}

/// The twins never wait.
fn at_once<F: Future>(future: F) -> F::Output {
    future.now_or_never().unwrap()
}
