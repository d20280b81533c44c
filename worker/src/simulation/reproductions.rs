//! Failures that the simulation has found, as lists of operations.

use super::operations::{Operation, Profile, Publish};
use super::run;

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
