//! A short mix of faults, and single faults whose effect is checked.

#![expect(clippy::unwrap_used, reason = "a failed helper is a failed test")]

use std::time::Duration;

use chaos::overload::{Overload, overload};
use chaos::{Course, Fault, Options, Outcome, run};
use testbed::stack::Builder;

/// Enough for every shard to have messages in flight at any moment, and not too much for a debug build.
const PER_SECOND: f64 = 150.0;

async fn outcome(course: Course, seed: u64) -> Outcome {
    outcome_on(Builder::new(), course, seed).await
}

async fn outcome_on(builder: Builder, course: Course, seed: u64) -> Outcome {
    let options = Options { course, seed, per_second: PER_SECOND, readers: 15 };
    let mut system =
        builder.unlimited().webhooks().notifications().many_shards().linked().on_own_servers().await.unwrap();
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
async fn messages_that_the_broker_refused_or_a_dead_worker_committed_are_stored_once() {
    let faults =
        vec![Fault::WorkerDiesUnacked, Fault::QueuesFull, Fault::RedisBack, Fault::PushQueuesDeleted];
    let outcome = outcome(Course::Each(faults), 1).await;
    assert!(outcome.is_good(), "{outcome}");
    assert!(outcome.faults[1].refused > 0, "a full queue refused nothing\n{outcome}");
    assert!(outcome.acked > 1_000, "{outcome}");
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_beyond_the_peak_are_answered_in_time() {
    // A delay to RabbitMQ and small batches, so that a debug build can be overloaded.
    let builder = Builder::new().unlimited().linked().set("IM__LIMITS__BATCH_MESSAGES_MAX", 4);
    let mut system = builder.on_own_servers().await.unwrap();
    let how = Overload { connections: 40, factor: 3.0, seconds: 10.0, texts_only: false, narrow: true };
    let report = overload(&mut system, how, |_| {}).await.unwrap();
    println!("{report}");
    system.stop().await;
    assert!(report.is_good(), "{report}");
    assert!(report.refused > 0, "it was no overload\n{report}");
    let ours =
        |(process, _): &(&String, &u64)| process.starts_with("gateway") || process.starts_with("worker");
    for (process, mib) in report.memory_mib.iter().filter(ours) {
        assert!(*mib < MEMORY_MIB_MAX, "{process}\n{report}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn gateways_notice_that_their_push_queues_get_nothing() {
    let outcome = outcome(Course::Each(vec![Fault::PushQueuesUnbound]), 1).await;
    assert!(outcome.is_good(), "{outcome}");
    let [injection] = &outcome.faults[..] else { panic!("{outcome}") };
    assert!(injection.longest_lag_s > 5.0, "no reader missed a push\n{injection}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_node_of_a_rabbitmq_cluster_is_replaced_by_the_others() {
    let builder = Builder::new().rabbit_nodes(3);
    let outcome = outcome_on(builder, Course::Each(vec![Fault::KillRabbitmqLeader]), 1).await;
    assert!(outcome.is_good(), "{outcome}");
    let [injection] = &outcome.faults[..] else { panic!("{outcome}") };
    // The node is away for 15 s. What was sent to it waits for an election and for another connection only.
    assert!(injection.longest_answer_s < 10.0, "{injection}");
}

/// Several times what a gateway or a worker needs, and much less than an unbounded queue would take.
const MEMORY_MIB_MAX: u64 = 200;

/// Set by `make rolling`: a folder with the gateway and the worker of an earlier commit.
const PREVIOUS_ENV: &str = "IM_PREVIOUS_BIN_DIR";

#[tokio::test(flavor = "multi_thread")]
async fn an_earlier_version_runs_beside_this_one_and_is_replaced() {
    let Some(folder) = std::env::var_os(PREVIOUS_ENV) else {
        println!("{PREVIOUS_ENV} is not set: there is no earlier version");
        return;
    };
    let builder = Builder::new().previous(folder.as_ref());
    let faults = vec![Fault::Nothing, Fault::KillWorker, Fault::KillGateway, Fault::VersionChange];
    let outcome = outcome_on(builder, Course::Each(faults), 1).await;
    assert!(outcome.is_good(), "{outcome}");
}
