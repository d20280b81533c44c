//! The commit path against everything that can go wrong, in one thread and a few milliseconds.
//!
//! A run is a list of operations ([`operations`]) made from a seed and carried out in a [`world`] of twins: two gateways
//! that number and publish, Redis, a queue, a database, and the worker's own [`Committer`](crate::commit::committer),
//! [`plan`](crate::commit::plan) and [`Deliveries`](crate::settle). The twins of the stores ([`twins`]) can fail before
//! or after any single step, which stands for a lost connection or a killed worker.
//!
//! What counts as a failure:
//!
//! * after any step: a row that appears below or at the last number, changes, or has an id that is there already; an
//!   event about something that is not stored; an acknowledged body with a message that is neither stored nor refused; a
//!   row of someone who may not send (any more); a refusal of what is stored, or of someone who may send.
//! * at the end, when everything works again: an accepted message that is neither stored nor refused (or a queue that
//!   never empties); a conversation that is not noted in inboxes up to its last row; a
//!   sender whose last reply is not the final number; a message that nobody was told of; two messages of one connection
//!   in the wrong order, although neither was sent again or renumbered.
//! * in a calm run (gateways may be slow and workers may die, but numbers are not lost): any corrected number.
//!
//! What it does not show: the SQL and Lua themselves, real concurrency of transactions, events that are lost on their
//! way. `worker/tests` and the chaos tests do.

mod operations;
mod reproductions;
mod twins;
mod world;

use operations::{Operation, Profile, operations};
use world::{Mutation, World};

/// Seeds per profile in a normal test run; `IM_SIMULATION_SEEDS` asks for more.
const SEEDS: u64 = 1_500;

fn seeds() -> u64 {
    std::env::var("IM_SIMULATION_SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(SEEDS)
}

fn run(operations: &[Operation], profile: Profile, mutation: Option<Mutation>) -> Result<(), String> {
    let mut world = World::new(profile, mutation);
    for (at, operation) in operations.iter().enumerate() {
        world.apply(*operation).map_err(|why| format!("after step {at}, {operation:?}: {why}"))?;
    }
    world.finish()
}

/// The first seed that fails, with its operations cut down to those that matter.
fn first_failure(profile: Profile, mutation: Option<Mutation>) -> Option<String> {
    (0..seeds()).find_map(|seed| {
        let all = operations(seed, profile);
        run(&all, profile, mutation).err()?;
        let needed = cut_down(all, |fewer| run(fewer, profile, mutation).is_err());
        let why = run(&needed, profile, mutation).unwrap_err();
        let listed: String =
            needed.iter().map(|operation| format!("  Operation::{operation:?},\n")).collect();
        Some(format!("seed {seed}: {why}\n{listed}"))
    })
}

/// Leaves out one operation after another as long as the rest still fails.
fn cut_down(mut operations: Vec<Operation>, fails: impl Fn(&[Operation]) -> bool) -> Vec<Operation> {
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
fn promises_hold_whatever_fails() {
    if let Some(failure) = first_failure(Profile::Rough, None) {
        panic!("{failure}");
    }
}

#[test]
fn nothing_is_corrected_while_no_number_is_lost() {
    if let Some(failure) = first_failure(Profile::Calm, None) {
        panic!("{failure}");
    }
}

/// The checks are worth something only if they notice a broken worker.
#[test]
fn broken_workers_are_noticed() {
    for (profile, mutation) in [
        (Profile::Calm, Mutation::GivesUpAtOnce),
        (Profile::Rough, Mutation::AcknowledgesOnDelivery),
        (Profile::Rough, Mutation::KeepsCorrectionsToItself),
        (Profile::Rough, Mutation::StoresTwice),
        (Profile::Rough, Mutation::ForgetsToAdvance),
        (Profile::Rough, Mutation::TrustsItsMemory),
        (Profile::Rough, Mutation::AcknowledgesBeforeItNotes),
    ] {
        let noticed = first_failure(profile, Some(mutation));
        assert!(noticed.is_some(), "{mutation:?} was not noticed in {} runs", seeds());
    }
}
