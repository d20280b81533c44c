//! Several gateways against everything that can go wrong with events, readings and logins, in one thread.
//!
//! A run is a list of operations ([`operations`]) made from a seed and carried out in a [`world`]: a database with all its
//! versions ([`truth`]), and gateways ([`gateway`]) that consist of the production's [`View`](super::view::View),
//! [`Hub`](crate::hub::Hub) and [`LogPosition`](super::log_position::LogPosition), with logins, reloads and readings of
//! the list of changes cut into steps. Events arrive in any order, twice, or never; readings arrive late.
//!
//! What counts as a failure:
//!
//! * after any step: a fresh gateway says something about a user that had ended before the newest change that it heard
//!   of; it is fresh although it knows that events are lost, or has not read the list of changes for five seconds; a
//!   change is held beyond its timeout, and the group is not read; a bound is exceeded.
//! * at the end, when the database is there and nothing more is lost: reloads that do not end; a gateway that knows
//!   something else than the truth about a connected user's groups, mutes or blocks, that pushes to someone else than the
//!   members, or remembers someone who is not connected.
//!
//! What it does not show: the SQL, real concurrency, the notices to users, barriers. End-to-end tests do.

mod gateway;
mod mutation;
mod operations;
mod reproductions;
mod truth;
mod world;

use mutation::Mutation;
use operations::{Operation, operations};
use world::World;

/// Seeds in a normal test run; `IM_SIMULATION_SEEDS` asks for more.
const SEEDS: u64 = 300;

fn seeds() -> u64 {
    std::env::var("IM_SIMULATION_SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(SEEDS)
}

fn run(operations: &[Operation], mutation: Option<Mutation>) -> Result<(), String> {
    let mut world = World::new(mutation);
    for (at, operation) in operations.iter().enumerate() {
        world.apply(*operation).map_err(|why| format!("after step {at}, {operation:?}: {why}"))?;
    }
    world.finish()
}

/// The first seed that fails, with its operations reduced to those that matter.
fn first_failure(mutation: Option<Mutation>) -> Option<String> {
    (0..seeds()).find_map(|seed| {
        let all = operations(seed);
        run(&all, mutation).err()?;
        let needed = reduce(all, |fewer| run(fewer, mutation).is_err());
        let why = run(&needed, mutation).unwrap_err();
        let listed: String =
            needed.iter().map(|operation| format!("  Operation::{operation:?},\n")).collect();
        Some(format!("seed {seed}: {why}\n{listed}"))
    })
}

/// Leaves out one operation after another while the rest still fails.
fn reduce(mut operations: Vec<Operation>, fails: impl Fn(&[Operation]) -> bool) -> Vec<Operation> {
    let mut at = operations.len();
    while at > 0 {
        at -= 1;
        let mut fewer = operations.clone();
        fewer.remove(at);
        if fails(&fewer) {
            operations = fewer;
        }
    }
    operations
}

#[test]
fn every_view_stays_safe_and_becomes_true() {
    if let Some(failure) = first_failure(None) {
        panic!("{failure}");
    }
}

/// The checks are worth something only if they notice a broken gateway.
#[test]
fn broken_gateways_are_noticed() {
    for mutation in Mutation::ALL {
        let noticed = (0..seeds()).any(|seed| run(&operations(seed), Some(mutation)).is_err());
        assert!(noticed, "{mutation:?} was not noticed in {} runs", seeds());
    }
}
