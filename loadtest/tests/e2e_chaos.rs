//! A short mix of faults, and single ones that need a look at their effect.

#![allow(clippy::unwrap_used)] // a failed helper is a failed test

use std::time::Duration;

use loadtest::chaos::{Course, Fault, Options, Outcome, run};
use loadtest::stack::Builder;

/// Enough for every shard to have something on its way at any moment; a debug build bears it.
const PER_SECOND: f64 = 150.0;

async fn outcome(course: Course, seed: u64) -> Outcome {
    let options = Options { course, seed, per_second: PER_SECOND, readers: 15 };
    let mut system = Builder::new().unlimited().linked().on_own_servers().await.unwrap();
    let outcome = run(&mut system, &options, |_| {}).await.unwrap();
    if !outcome.is_good() {
        system.keep_logs();
    }
    println!("{outcome}");
    system.stop().await;
    outcome
}

#[tokio::test(flavor = "multi_thread")]
async fn a_short_mix_of_faults_breaks_no_promise() {
    // Other seeds, and longer ones, are for `make chaos`.
    let outcome = outcome(Course::Mix(Duration::from_secs(25)), 3).await;
    assert!(outcome.is_good(), "{outcome}");
    assert!(outcome.faults.len() >= 2, "{outcome}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_broker_refuses_and_what_a_dead_worker_committed_is_stored_once() {
    let faults =
        vec![Fault::WorkerDiesUnacked, Fault::QueuesFull, Fault::RedisBack, Fault::PushQueuesDeleted];
    let outcome = outcome(Course::Each(faults), 1).await;
    assert!(outcome.is_good(), "{outcome}");
    assert!(outcome.faults[1].refused > 0, "a full queue was felt\n{outcome}");
    assert!(outcome.acked > 1_000, "{outcome}");
}
