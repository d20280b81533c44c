//! What may happen, and lists of it made from a seed.

use rand::rngs::StdRng;
use rand::{Rng, RngExt as _, SeedableRng as _};

pub(super) const GATEWAYS: usize = 3;
pub(super) const GROUPS: usize = 2;
pub(super) const USERS: usize = 4;
const OPERATIONS: usize = 180;

/// One thing that happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operation {
    /// A change of a group is committed and announced. Its id in the list of changes may be `late`: lower than those that
    /// were committed before.
    Change { group: usize, change: Change, late: bool },
    /// A user joins an open group through the gateway to which it is connected, which applies that at once.
    JoinHere { gateway: usize, group: usize, user: usize },
    /// A user blocks another one, or takes its messages again.
    Block { by: usize, user: usize, blocked: bool },
    /// More changes than a gateway holds are committed; the first event is lost on its way to this gateway.
    Flood { gateway: usize, group: usize, user: usize },
    /// An event that is on its way arrives, in any order.
    Deliver { gateway: usize, which: usize },
    /// It arrives, and will arrive once more.
    Double { gateway: usize, which: usize },
    /// It is lost, and nobody notices.
    Lose { gateway: usize, which: usize },
    /// All events on their way to a gateway are lost, and it notices.
    LoseQueue { gateway: usize },
    /// A user connects with one of two devices, and its login begins.
    Connect { gateway: usize, user: usize, device: usize },
    /// A connection ends.
    Disconnect { gateway: usize, user: usize, device: usize },
    /// A login goes one step further: it reads the database, or its reading arrives.
    Login { gateway: usize, which: usize },
    /// A reload goes one step further: it asks, reads one table, reads the other one, or its reading arrives.
    Reload { gateway: usize, which: usize },
    /// The reading of the list of changes goes one step further: it reads, or its reading arrives.
    ReadLog { gateway: usize },
    /// A request asks the database what a user may do.
    Require { gateway: usize, group: usize, user: usize },
    /// A gateway did not read the list for longer than changes are kept.
    MissLog { gateway: usize },
    /// Time passes.
    Tick { ms: u64 },
    /// The database goes away or returns.
    SwitchDatabase { up: bool },
}

/// What changes about a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    Join { user: usize },
    Leave { user: usize },
    Mute { user: usize, until: i64 },
    MuteAll { on: bool },
    Dismiss,
}

/// A list made from a seed.
pub(super) fn operations(seed: u64) -> Vec<Operation> {
    let mut random = StdRng::seed_from_u64(seed);
    (0..OPERATIONS).map(|_| one(&mut random)).collect()
}

fn one(random: &mut StdRng) -> Operation {
    let gateway = random.random_range(0..GATEWAYS);
    let group = random.random_range(0..GROUPS);
    let user = random.random_range(0..USERS);
    let which = random.random_range(0..1_000);
    let device = random.random_range(0..2);
    match random.random_range(0..200) {
        0..24 => Operation::Change { group, change: change(random), late: random.random_bool(0.2) },
        24..28 => Operation::JoinHere { gateway, group, user },
        28..34 => {
            Operation::Block { by: random.random_range(0..USERS), user, blocked: random.random_bool(0.6) }
        }
        34..64 => Operation::Deliver { gateway, which },
        64..67 => Operation::Double { gateway, which },
        67..71 => Operation::Lose { gateway, which },
        71 => Operation::LoseQueue { gateway },
        72..88 => Operation::Connect { gateway, user, device },
        88..93 => Operation::Disconnect { gateway, user, device },
        93..120 => Operation::Login { gateway, which },
        120..155 => Operation::Reload { gateway, which },
        155..170 => Operation::ReadLog { gateway },
        170..176 => Operation::Require { gateway, group, user },
        176 => Operation::MissLog { gateway },
        177..192 => Operation::Tick { ms: random.random_range(1..200) },
        192..194 => Operation::Tick { ms: random.random_range(1_000..6_000) },
        194 if random.random_bool(0.3) => Operation::Flood { gateway, group, user },
        194..197 => Operation::SwitchDatabase { up: true },
        _ => Operation::SwitchDatabase { up: random.random_bool(0.6) },
    }
}

fn change(random: &mut impl Rng) -> Change {
    let user = random.random_range(0..USERS);
    match random.random_range(0..20) {
        0..10 => Change::Join { user },
        10..15 => Change::Leave { user },
        15..17 => Change::Mute { user, until: if random.random_bool(0.5) { i64::MAX } else { 0 } },
        17..19 => Change::MuteAll { on: random.random_bool(0.5) },
        _ => Change::Dismiss,
    }
}
