//! A simulation of the commit path with faults, in one thread.
//!
//! A run is a list of operations ([`operations`]) that is generated from a seed and executed in a [`world`]: two gateways
//! that number and publish, a queue, fake stores ([`fakes`]), and the worker's own
//! [`Committer`](crate::commit::committer), [`plan`](crate::commit::plan) and [`Deliveries`](crate::settle). The fake
//! stores can fail before or after each single step, which stands for a lost connection or a killed worker.
//!
//! Failures:
//!
//! * after any step: a row that appears at or below the last sequence number, changes, or repeats an id; an event about a
//!   message that is not stored; an acknowledged body with a message that is neither stored nor refused; a row of a user
//!   who may not send (any more); a number that the change feed has not, or has twice, or out of order; a refusal of a stored message, or of a user who may send.
//! * at the end, when all stores work: an accepted message that is neither stored nor refused (or a queue that is never
//!   empty); a conversation whose last row is not in the inboxes; a sender whose last reply is not the final sequence
//!   number; a message that was never announced; a message that does not show what its changes, in their order, make of
//!   it; a reaction that acts although its sender was told that it changes nothing; two messages of one connection in the wrong order, although neither was
//!   retried or renumbered.
//! * in a calm run (gateways may be slow and workers may die, but no sequence number is lost): a renumbered message.
//!
//! It does not cover the SQL and Lua, concurrent transactions, and events that are lost on their way. `worker/tests` and
//! the chaos tests do.

mod checks;
mod fakes;
mod operations;
mod reproductions;
mod workers;
mod world;

use operations::{Operation, Profile, operations};
use world::{Mutation, World};

/// Seeds per profile; `IM_SIMULATION_SEEDS` sets another number.
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

/// The first seed that fails, with its operations reduced to those that are needed.
fn first_failure(profile: Profile, mutation: Option<Mutation>) -> Option<String> {
    (0..seeds()).find_map(|seed| {
        let all = operations(seed, profile);
        run(&all, profile, mutation).err()?;
        let needed = minimize(all, |fewer| run(fewer, profile, mutation).is_err());
        let why = run(&needed, profile, mutation).unwrap_err();
        let listed: String =
            needed.iter().map(|operation| format!("  Operation::{operation:?},\n")).collect();
        Some(format!("seed {seed}: {why}\n{listed}"))
    })
}

/// Removes each operation without which the rest still fails.
fn minimize(mut operations: Vec<Operation>, fails: impl Fn(&[Operation]) -> bool) -> Vec<Operation> {
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
fn promises_hold_under_all_faults() {
    if let Some(failure) = first_failure(Profile::Rough, None) {
        panic!("{failure}");
    }
}

#[test]
fn no_message_is_renumbered_while_no_seq_is_lost() {
    if let Some(failure) = first_failure(Profile::Calm, None) {
        panic!("{failure}");
    }
}

/// The checks notice a broken worker.
#[test]
fn mutations_are_noticed() {
    for (profile, mutation) in [
        (Profile::Calm, Mutation::SkipsGapsAtOnce),
        (Profile::Rough, Mutation::AcknowledgesOnDelivery),
        (Profile::Rough, Mutation::HidesCorrections),
        (Profile::Rough, Mutation::StoresTwice),
        (Profile::Rough, Mutation::ForgetsToAdvance),
        (Profile::Rough, Mutation::TrustsStalePermissions),
        (Profile::Rough, Mutation::AssumesVersions),
        (Profile::Rough, Mutation::AcknowledgesBeforeInboxes),
        (Profile::Rough, Mutation::ForgetsUnchanged),
        (Profile::Rough, Mutation::FeedsOutsideOfTransaction),
    ] {
        let noticed = first_failure(profile, Some(mutation));
        assert!(noticed.is_some(), "{mutation:?} was not noticed in {} runs", seeds());
    }
}
