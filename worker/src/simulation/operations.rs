//! The operations of a simulation, and lists of them generated from a seed.

use rand::rngs::StdRng;
use rand::{Rng, RngExt as _, SeedableRng as _};

/// Which operations a run may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Profile {
    /// All of them.
    Rough,
    /// Redis keeps its data, no batch is lost on its way into the queue, and no gap times out.
    Calm,
}

/// The result of publishing a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Publish {
    /// The batch is in the queue, and its senders are told.
    Confirmed,
    /// The batch is in the queue, but its senders are told to retry.
    AnswerLost,
    /// The batch is not in the queue, and its senders are told to retry.
    Lost,
}

/// A failure of the worker's connection to a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fault {
    /// How many steps succeed before it.
    pub(super) after_steps: u32,
    /// The failed step takes effect; only its answer is lost.
    pub(super) takes_effect: bool,
    /// The worker dies.
    pub(super) fatal: bool,
}

/// One operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operation {
    /// A user of one gateway sends messages to a conversation.
    Send { gateway: usize, user: usize, conversation: usize, count: usize },
    /// A message that was sent before is sent again through `gateway`.
    Retry { gateway: usize, which: usize },
    /// A gateway numbers its waiting messages, unless a batch is in flight.
    Number { gateway: usize },
    /// A gateway publishes the batch that it has numbered.
    Publish { gateway: usize, fate: Publish },
    /// The worker receives up to `bodies` bodies, and runs through its steps once.
    Work { bodies: usize, fault: Option<Fault> },
    /// The worker dies while it is idle; its bodies return to the front or the back of the queue.
    Crash { requeue_to_back: bool },
    /// The shard moves to a new worker; the old one has not noticed yet.
    HandOver,
    /// The old worker of a handover continues with its messages in memory.
    Zombie { fault: Option<Fault> },
    /// Time passes.
    Tick { ms: u64 },
    /// Redis saves its data.
    SaveRedis,
    /// Redis restarts with the data that it saved last.
    RestoreRedis,
    /// Redis restarts empty.
    LoseRedis,
    /// Redis forgets message ids because their lifetime has ended.
    ForgetIds,
    /// Redis becomes unavailable or available.
    SwitchRedis { up: bool },
    /// Another transaction locks a conversation, or unlocks it.
    Lock { conversation: usize, on: bool },
    /// The permissions of a group change.
    Change { conversation: usize, change: Change },
}

/// A change of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    /// A user joins, or is no longer muted.
    Join { user: usize },
    /// A user leaves, or is removed.
    Leave { user: usize },
    /// A user is muted.
    Mute { user: usize },
    /// The whole group is muted, or no longer.
    MuteAll { on: bool },
    /// It becomes a large group, or is no longer.
    Grow { large: bool },
}

const OPERATIONS: usize = 120;

/// Generates a list from a seed.
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
        89 => Operation::Zombie { fault: fault(random) },
        90 => Operation::Lock { conversation: random.random_range(0..2), on: random.random_bool(0.6) },
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
