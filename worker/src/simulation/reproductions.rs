//! Failures that the simulation has found, as lists of operations, and one of a mutation that no seed finds.

use super::operations::{Change, Operation, Profile, Publish};
use super::run;
use super::world::Mutation;

const CONFIRMED: Publish = Publish::Confirmed;

/// The counter fell back while a message was in flight. The next message of the same connection got a lower sequence
/// number, which was unused, and was stored before it.
#[test]
fn a_counter_that_falls_back_does_not_reorder_a_connections_messages() {
    let operations = [
        Operation::Send { gateway: 0, user: 1, conversation: 1, count: 1 },
        Operation::Number { gateway: 0 },
        Operation::Send { gateway: 1, user: 1, conversation: 1, count: 3 },
        Operation::Publish { gateway: 0, fate: CONFIRMED },
        Operation::RestoreRedis,
        Operation::Number { gateway: 1 },
        Operation::Publish { gateway: 1, fate: CONFIRMED },
        Operation::Work { bodies: 1, fault: None },
        Operation::Work { bodies: 1, fault: None },
        Operation::HandOver,
        Operation::Work { bodies: 2, fault: None },
        Operation::Crash { requeue_to_back: false },
        Operation::Work { bodies: 2, fault: None },
        Operation::Send { gateway: 0, user: 1, conversation: 1, count: 1 },
        Operation::Number { gateway: 0 },
        Operation::Send { gateway: 0, user: 1, conversation: 1, count: 1 },
        Operation::LoseRedis,
    ];
    run(&operations, Profile::Rough, None).unwrap();
}

/// A worker that has lost its shard skips a gap after the new owner has refused the message above it, and the missing
/// message comes. The new owner knows an older head; no unique key protects the order here.
#[test]
fn a_head_that_another_worker_has_moved_is_noticed_before_it_is_moved_back() {
    let send = |gateway, user| Operation::Send { gateway, user, conversation: 0, count: 1 };
    let operations = [
        send(0, 0),
        Operation::Number { gateway: 0 },
        Operation::Publish { gateway: 0, fate: CONFIRMED },
        send(0, 0),
        Operation::Number { gateway: 0 },
        send(1, 1),
        Operation::Number { gateway: 1 },
        Operation::Publish { gateway: 1, fate: CONFIRMED },
        // 1 is stored, 3 is held, 2 is not published.
        Operation::Work { bodies: 2, fault: None },
        Operation::HandOver,
        Operation::Change { conversation: 0, change: Change::Leave { user: 1 } },
        Operation::Work { bodies: 1, fault: None },
        Operation::Change { conversation: 0, change: Change::Join { user: 1 } },
        // The new owner learns the head.
        Operation::Retry { gateway: 1, which: 0 },
        Operation::Number { gateway: 1 },
        Operation::Publish { gateway: 1, fate: CONFIRMED },
        Operation::Work { bodies: 1, fault: None },
        // The old owner stores 3.
        Operation::Tick { ms: 2_500 },
        Operation::Zombie { fault: None },
        Operation::Publish { gateway: 0, fate: CONFIRMED },
        Operation::Work { bodies: 1, fault: None },
    ];
    run(&operations, Profile::Rough, None).unwrap();
    let noticed = run(&operations, Profile::Rough, Some(Mutation::AssumesHeads));
    assert!(noticed.is_err_and(|why| why.contains("after step 20")), "by the last operation");
}

/// A message is refused, and its retry is stored although the answer to it is lost. What its sender was told before the
/// refusal does not count.
#[test]
fn a_refused_message_whose_retry_is_stored_without_an_answer_breaks_no_promise() {
    let send = |gateway, user, conversation, count| Operation::Send { gateway, user, conversation, count };
    let operations = [
        send(0, 0, 0, 1),
        send(1, 1, 1, 2),
        send(1, 1, 1, 3),
        send(0, 1, 0, 1),
        send(0, 1, 1, 1),
        Operation::Number { gateway: 1 },
        Operation::Change { conversation: 1, change: Change::Leave { user: 1 } },
        send(0, 0, 0, 3),
        Operation::Publish { gateway: 1, fate: CONFIRMED },
        send(1, 2, 0, 1),
        send(1, 2, 0, 2),
        send(1, 1, 1, 2),
        send(0, 2, 0, 2),
        Operation::Work { bodies: 2, fault: None },
        Operation::RestoreRedis,
        Operation::Publish { gateway: 1, fate: Publish::AnswerLost },
        send(0, 2, 1, 3),
        Operation::Publish { gateway: 0, fate: CONFIRMED },
        Operation::Number { gateway: 0 },
        Operation::Work { bodies: 1, fault: None },
        send(1, 1, 0, 1),
        Operation::Retry { gateway: 1, which: 353 },
        Operation::Number { gateway: 1 },
        Operation::Publish { gateway: 1, fate: Publish::AnswerLost },
        Operation::Crash { requeue_to_back: true },
        Operation::Change { conversation: 1, change: Change::Join { user: 1 } },
    ];
    run(&operations, Profile::Rough, None).unwrap();
}
