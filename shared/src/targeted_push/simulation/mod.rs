//! Gateways, clients, a worker and one Redis, in every order: no client that is connected misses a message for good.
//!
//! Both sides' rules are the real ones. Redis does what the scripts do. A client pulls after its login, after a resync, and when
//! a push shows a gap; it sends no heartbeat, which would repair the rest. Each rule is also taken away, and then the promise
//! must break: a simulation that cannot fail proves nothing.

mod redis;
mod world;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use world::World;

const GATEWAYS: u64 = 6;
const USERS: usize = 3;

/// A rule that is taken away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Without {
    Nothing,
    /// A login is answered before its user is recorded.
    LoginWait,
    /// A login that was answered before gets no resync.
    LateResync,
    /// The worker looks up before it commits.
    LookupAfterCommit,
    /// All runs of Redis are alike to the worker.
    Runs,
    /// A new run counts at once.
    NewRunPause,
    /// A gateway that finds its entries lost sends no resync.
    LostResync,
    /// A write that arrives behind a later one is applied.
    Revisions,
    /// An event is published to some gateways although one of an earlier version is concerned.
    EarlierVersions,
}

#[derive(Debug, Clone, Copy)]
enum Operation {
    Login(usize, u64),
    Logout(usize),
    Pull(usize),
    /// A gateway records what is next; the answer may be lost, and then the write may arrive later.
    Record(u64, Answer),
    Deliver(u64),
    /// One more step of the worker: read the gateways, commit, look up, publish.
    ReadGateways,
    Commit(usize),
    LookUp,
    Publish,
    /// A write whose answer was lost arrives.
    ArriveLate,
    Restart {
        keeps: bool,
    },
    Flush,
    Cut(u64),
    Mend(u64),
    Pass(u64),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    Arrives,
    /// The write was recorded.
    IsLost,
    /// The write was not recorded yet.
    WriteIsLate,
}

fn operations() -> impl Strategy<Value = Vec<Operation>> {
    let answer =
        prop_oneof![8 => Just(Answer::Arrives), 1 => Just(Answer::IsLost), 1 => Just(Answer::WriteIsLate)];
    let operation = prop_oneof![
        8 => (0..USERS, 0..GATEWAYS).prop_map(|(user, gateway)| Operation::Login(user, gateway)),
        2 => (0..USERS).prop_map(Operation::Logout),
        6 => (0..USERS).prop_map(Operation::Pull),
        16 => (0..GATEWAYS, answer).prop_map(|(gateway, answer)| Operation::Record(gateway, answer)),
        4 => (0..GATEWAYS).prop_map(Operation::Deliver),
        3 => Just(Operation::ReadGateways),
        6 => (0..USERS).prop_map(Operation::Commit),
        6 => Just(Operation::LookUp),
        6 => Just(Operation::Publish),
        2 => Just(Operation::ArriveLate),
        1 => any::<bool>().prop_map(|keeps| Operation::Restart { keeps }),
        1 => Just(Operation::Flush),
        1 => (0..GATEWAYS).prop_map(Operation::Cut),
        2 => (0..GATEWAYS).prop_map(Operation::Mend),
        6 => prop_oneof![Just(10), Just(600), Just(2_500), Just(12_000)].prop_map(Operation::Pass),
    ];
    proptest::collection::vec(operation, 0..150)
}

fn run(without: Without, operations: &[Operation]) -> World {
    let mut world = World::new(without);
    operations.iter().for_each(|operation| world.apply(*operation));
    world.settle();
    world
}

fn runner(cases: u32) -> TestRunner {
    TestRunner::new(Config { cases, failure_persistence: None, ..Config::default() })
}

/// Runs many histories, more with `IM_SIMULATION_CASES`.
#[test]
fn no_connected_client_misses_a_message_for_good() {
    let cases = std::env::var("IM_SIMULATION_CASES").ok().and_then(|cases| cases.parse().ok());
    let checked = runner(cases.unwrap_or(1_500)).run(&operations(), |operations| {
        let behind = run(Without::Nothing, &operations).behind();
        prop_assert!(behind.is_empty(), "{behind:?}");
        Ok(())
    });
    checked.unwrap();
}

/// For each rule a history that needs it.
#[test]
fn each_rule_is_needed() {
    use Operation::{
        ArriveLate, Commit, Cut, Flush, Login, Logout, LookUp, Mend, Pass, Publish, Pull, Restart,
    };
    let record = |answer| Operation::Record(1, answer);
    let recorded = record(Answer::Arrives);
    let histories: [(Without, &[Operation]); 8] = [
        (Without::LoginWait, &[Login(0, 1), Pull(0), Commit(0), LookUp, Publish]),
        (
            Without::LateResync,
            &[Cut(1), Login(0, 1), Pass(2_500), Pull(0), Commit(0), LookUp, Publish, Mend(1)],
        ),
        (Without::LookupAfterCommit, &[Commit(0), Login(0, 1), recorded, Pull(0), Commit(0), Publish]),
        (
            Without::Runs,
            &[Login(0, 1), recorded, Pull(0), Restart { keeps: false }, Commit(0), LookUp, Publish],
        ),
        (
            Without::NewRunPause,
            &[
                Login(0, 1),
                recorded,
                Pull(0),
                Cut(1),
                Restart { keeps: false },
                Pass(2_500),
                Pass(600),
                Commit(0),
                LookUp,
                Publish,
                Mend(1),
            ],
        ),
        (Without::LostResync, &[Login(0, 1), recorded, Pull(0), Flush, Commit(0), LookUp, Publish]),
        (
            Without::Revisions,
            &[
                Login(0, 1),
                recorded,
                Pull(0),
                Logout(0),
                record(Answer::WriteIsLate),
                Login(0, 1),
                recorded,
                Pull(0),
                ArriveLate,
                Commit(0),
                LookUp,
                Publish,
            ],
        ),
        (
            Without::EarlierVersions,
            &[Login(0, 0), Operation::Record(0, Answer::Arrives), Pull(0), Commit(0), LookUp, Publish],
        ),
    ];
    for (without, history) in histories {
        assert_eq!(run(Without::Nothing, history).behind(), [0; 0], "{history:?}");
        assert_eq!(run(without, history).behind(), [0], "without {without:?}: {history:?}");
    }
}
