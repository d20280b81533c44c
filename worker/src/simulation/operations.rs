//! What may happen, and lists of it made from a seed.

use rand::rngs::StdRng;
use rand::{Rng, RngExt as _, SeedableRng as _};

/// Which kinds of trouble a run may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Profile {
    /// Everything.
    Rough,
    /// Redis keeps its memory, no batch is lost on its way into the queue, and no hole times out.
    Calm,
}

/// What becomes of a batch that a gateway publishes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Publish {
    /// In the queue, and its senders know.
    Confirmed,
    /// In the queue, but its senders are told to try again.
    AnswerLost,
    /// Not in the queue; its senders are told to try again.
    Lost,
}

/// Where the worker's connection to a store breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fault {
    /// How many steps succeed before.
    pub(super) after_steps: u32,
    /// The step at which it happens takes effect all the same; only its answer is lost.
    pub(super) takes_effect: bool,
    /// The worker dies of it.
    pub(super) fatal: bool,
}

/// One thing that happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operation {
    /// A user of one gateway sends messages to a conversation.
    Send { gateway: usize, user: usize, conversation: usize, count: usize },
    /// A message that was sent before is sent again, through either gateway.
    Retry { gateway: usize, which: usize },
    /// A gateway numbers what waits in it; nothing happens while a batch is on its way.
    Number { gateway: usize },
    /// A gateway publishes the batch that it has numbered.
    Publish { gateway: usize, fate: Publish },
    /// The worker takes up to so many bodies and goes once through its steps.
    Work { bodies: usize, fault: Option<Fault> },
    /// The worker dies while it does nothing; its bodies go back to the front or the back of the queue.
    Crash { requeue_to_back: bool },
    /// The queue's channel moves to a new worker; the old one has not noticed yet.
    HandOver,
    /// The old worker of a handover goes on with what it has in memory.
    Zombie { fault: Option<Fault> },
    /// Time passes.
    Tick { ms: u64 },
    /// Redis writes its memory to disk.
    SaveRedis,
    /// Redis restarts with what it wrote last.
    RestoreRedis,
    /// Redis restarts empty.
    LoseRedis,
    /// The time for which Redis remembers ids is over.
    ForgetIds,
    /// Redis goes away or comes back.
    SwitchRedis { up: bool },
    /// Who may send to a group changes.
    Change { conversation: usize, change: Change },
}

/// What changes about a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    /// A user joins, or speaks again if it was muted.
    Join { user: usize },
    /// A user leaves, or is removed.
    Leave { user: usize },
    /// A user is muted.
    Mute { user: usize },
    /// The whole group is muted, or not any more.
    MuteAll { on: bool },
    /// It becomes too large for inboxes, or is no longer.
    Grow { large: bool },
}

const OPERATIONS: usize = 120;

/// A list made from a seed.
pub(super) fn operations(seed: u64, profile: Profile) -> Vec<Operation> {
    let mut random = StdRng::seed_from_u64(seed);
    (0..OPERATIONS).map(|_| one(&mut random, profile)).collect()
}

fn one(random: &mut StdRng, profile: Profile) -> Operation {
    let gateway = random.random_range(0..2);
    let rough = profile == Profile::Rough;
    match random.random_range(0..100) {
        0..24 => Operation::Send {
            gateway,
            user: random.random_range(0..3),
            conversation: random.random_range(0..2),
            count: random.random_range(1..4),
        },
        24..42 => Operation::Number { gateway },
        42..60 => Operation::Publish { gateway, fate: fate(random, rough) },
        60..77 => Operation::Work { bodies: random.random_range(0..4), fault: fault(random) },
        77..80 if rough => {
            Operation::Change { conversation: random.random_range(0..2), change: change(random) }
        }
        77..80 => Operation::Work { bodies: random.random_range(0..4), fault: fault(random) },
        80..84 => Operation::Retry { gateway, which: random.random_range(0..1_000) },
        84..87 => Operation::Crash { requeue_to_back: random.random_bool(0.3) },
        87..89 => Operation::HandOver,
        89..91 => Operation::Zombie { fault: fault(random) },
        _ if !rough => Operation::Tick { ms: 0 },
        91..94 => Operation::Tick { ms: random.random_range(1..1_500) },
        94 => Operation::SaveRedis,
        95 => Operation::RestoreRedis,
        96 => Operation::LoseRedis,
        97 => Operation::ForgetIds,
        _ => Operation::SwitchRedis { up: random.random_bool(0.7) },
    }
}

fn change(random: &mut impl Rng) -> Change {
    let user = random.random_range(0..3);
    match random.random_range(0..10) {
        0..5 => Change::Join { user },
        5..7 => Change::Leave { user },
        7 => Change::Mute { user },
        8 => Change::MuteAll { on: random.random_bool(0.3) },
        _ => Change::Grow { large: random.random_bool(0.5) },
    }
}

fn fate(random: &mut impl Rng, may_be_lost: bool) -> Publish {
    match random.random_range(0..10) {
        0 if may_be_lost => Publish::Lost,
        0 | 1 => Publish::AnswerLost,
        _ => Publish::Confirmed,
    }
}

fn fault(random: &mut impl Rng) -> Option<Fault> {
    random.random_bool(0.3).then(|| Fault {
        after_steps: random.random_range(0..9),
        takes_effect: random.random_bool(0.5),
        fatal: random.random_bool(0.5),
    })
}
