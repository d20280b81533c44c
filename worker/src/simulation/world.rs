//! The simulated system: gateways, queue and stores. [`workers`](super::workers) and [`checks`](super::checks) are beside.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use shared::conversation::Conversation;
use shared::ids::{ConnectionId, MsgId, Seq, UserId};
use shared::message::fixture::{numbered, with_kind};
use shared::message::{self, MessageKind, Numbered};
use shared::permission::{GroupRoster, MemberStatus};

use super::fakes::{Locked, Redis, Timeline, Timelines};
use super::operations::{Change, Operation, Profile, Publish};
use super::workers::Worker;

/// How far above the last sequence number a gateway reseeds a lost counter: little, so that it collides with messages in
/// flight.
const RESEED_MARGIN: u64 = 3;

/// A worker that is broken on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mutation {
    SkipsGapsAtOnce,
    AcknowledgesOnDelivery,
    HidesCorrections,
    StoresTwice,
    ForgetsToAdvance,
    TrustsStalePermissions,
    AssumesHeads,
    AssumesVersions,
    AcknowledgesBeforeInboxes,
    ForgetsUnchanged,
    FeedsOutsideOfTransaction,
}

/// What the outside knows about one message.
#[derive(Debug)]
pub(super) struct Sent {
    pub(super) message: Numbered,
    pub(super) gateway: usize,
    pub(super) accepted: bool,
    /// The sequence number in the sender's last reply.
    pub(super) told: Option<Seq>,
    /// Refused, retried or redelivered: its place among its sender's messages is undefined.
    pub(super) unordered: bool,
    pub(super) corrected: bool,
    /// Its sender was told that it is not stored.
    pub(super) refused: bool,
    /// Its sender was told that it changes nothing.
    pub(super) unchanged: bool,
    /// It was pushed to the members.
    pub(super) announced: bool,
}

#[derive(Debug, Clone)]
pub(super) struct Body {
    pub(super) messages: Vec<Numbered>,
    pub(super) redelivered: bool,
}

#[derive(Debug, Default)]
struct Gateway {
    /// Indexes into `World::sent`.
    waiting: Vec<usize>,
    numbered: Option<Vec<(usize, Numbered)>>,
}

/// The simulated system.
pub(super) struct World {
    pub(super) profile: Profile,
    pub(super) mutation: Option<Mutation>,
    /// Most unacknowledged bodies of a worker.
    pub(super) prefetch: usize,
    pub(super) now: Instant,
    pub(super) sent: Vec<Sent>,
    gateways: [Gateway; 2],
    pub(super) redis: Arc<Mutex<Redis>>,
    /// Redis lost sequence numbers at some time.
    pub(super) redis_failed: bool,
    pub(super) queue: VecDeque<Body>,
    pub(super) timelines: Arc<Mutex<Timelines>>,
    pub(super) locked: Locked,
    /// The timelines at the last check.
    pub(super) seen: Timelines,
    pub(super) worker: Worker,
    pub(super) zombie: Option<Worker>,
}

pub(super) type Check = Result<(), String>;

impl World {
    pub(super) fn new(profile: Profile, mutation: Option<Mutation>) -> Self {
        let (redis, timelines) = (Arc::<Mutex<Redis>>::default(), Arc::<Mutex<Timelines>>::default());
        let locked = Locked::default();
        let worker = Worker::new(&redis, &timelines, &locked, mutation);
        // At first, all users are members of all groups.
        for conversation in conversations() {
            let status = Some(MemberStatus::NEW);
            let members = (0..3).map(|index| (user(index), status)).collect();
            let group = GroupRoster { members, ..GroupRoster::default() };
            timelines.lock().insert(conversation, Timeline { version: 1, group, ..Timeline::default() });
        }
        Self {
            profile,
            mutation,
            // Few enough to be filled by held bodies. Only skipping gaps helps then, which a calm run forbids.
            prefetch: if profile == Profile::Calm { usize::MAX } else { 6 },
            now: Instant::now() + Duration::from_secs(3_600),
            sent: Vec::new(),
            gateways: Default::default(),
            redis,
            redis_failed: false,
            queue: VecDeque::new(),
            timelines,
            locked,
            seen: Timelines::new(),
            worker,
            zombie: None,
        }
    }

    pub(super) fn apply(&mut self, operation: Operation) -> Check {
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
                // Lost inboxes are rebuilt from the database.
                let recorded = std::mem::take(&mut redis.recorded);
                *redis = Redis { recorded, ..Redis::default() };
            }
            Operation::ForgetIds => self.redis.lock().memory.sent.clear(),
            Operation::SwitchRedis { up } => self.redis.lock().is_unavailable = !up,
            Operation::Lock { conversation, on } => {
                let conversation = conversations()[conversation].clone();
                let mut locked = self.locked.lock();
                if on {
                    locked.insert(conversation)
                } else {
                    locked.remove(&conversation)
                };
            }
            Operation::Change { conversation, change } => self.change(conversation, change),
        }
        self.check_timelines()
    }

    /// Like `shared::mysql::groups`.
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
        let kind = self.change_of(index, &message);
        let message = kind.map_or(message.clone(), |kind| with_kind(message, kind));
        self.sent.push(Sent {
            message,
            gateway,
            accepted: false,
            told: None,
            unordered: false,
            corrected: false,
            refused: false,
            unchanged: false,
            announced: false,
        });
        self.gateways[gateway].waiting.push(index);
    }

    /// Two of three messages change one that is stored, if there is one: users see these.
    fn change_of(&self, index: usize, message: &Numbered) -> Option<MessageKind> {
        let timelines = self.timelines.lock();
        let rows = &timelines.get(&message.conversation)?.rows;
        let texts: Vec<Seq> =
            rows.iter().filter(|row| row.kind.changes().is_none()).map(|row| row.seq).collect();
        let target = *texts.get(index / 3 % texts.len().max(1))?;
        match index % 6 {
            0 | 1 => None,
            2 => {
                Some(MessageKind::Edit { target, content: message::Body::new(format!("edit {index}")).ok() })
            }
            // Few different ones, so that many change nothing.
            n => Some(MessageKind::Reaction {
                target,
                reaction: message::Body::reaction("x".into())?,
                removes: n == 5,
            }),
        }
    }

    fn retry(&mut self, gateway: usize, which: usize) {
        if let Some(index) = (!self.sent.is_empty()).then(|| which % self.sent.len()) {
            self.sent[index].unordered = true;
            self.gateways[gateway].waiting.push(index);
        }
    }

    /// Like `shared::redis::sequence`, with the gateway's reseeding of lost counters.
    pub(super) fn number(&mut self, gateway: usize) {
        if self.gateways[gateway].numbered.is_some() {
            return;
        }
        let mut redis = self.redis.lock();
        let waiting = std::mem::take(&mut self.gateways[gateway].waiting);
        if redis.is_unavailable {
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

    pub(super) fn publish(&mut self, gateway: usize, fate: Publish) {
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
}

pub(super) fn may_send(timeline: &Timeline, sender: &UserId) -> bool {
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
pub(super) fn index_of(msg_id: &MsgId) -> usize {
    msg_id.as_str()[1..].parse().unwrap()
}
