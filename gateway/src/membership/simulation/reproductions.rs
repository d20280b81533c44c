//! Failures that the simulation found once, as lists of operations.

use super::operations::{Change, Operation};
use super::run;

/// The list of changes said that a user had joined who was a member here already. A reading that was on its way was
/// older and removed it, and the next one did not ask about it.
#[test]
fn a_user_in_the_list_of_changes_survives_an_older_reading() {
    let operations = [
        Operation::Block { by: 1, user: 2, blocked: true },
        Operation::JoinHere { gateway: 1, group: 1, user: 1 },
        Operation::Change { group: 1, change: Change::Join { user: 2 }, late: true },
        Operation::JoinHere { gateway: 1, group: 0, user: 0 },
        Operation::Change { group: 0, change: Change::Join { user: 3 }, late: false },
        Operation::Block { by: 0, user: 3, blocked: true },
        Operation::Change { group: 1, change: Change::Join { user: 0 }, late: false },
        Operation::Deliver { gateway: 2, which: 455 },
        Operation::Connect { gateway: 2, user: 0, device: 1 },
        Operation::Require { gateway: 2, group: 0, user: 0 },
        Operation::Connect { gateway: 2, user: 3, device: 0 },
        Operation::Login { gateway: 2, which: 499 },
        Operation::Login { gateway: 2, which: 617 },
        Operation::Tick { ms: 134 },
        Operation::Reload { gateway: 2, which: 817 },
        Operation::Lose { gateway: 2, which: 263 },
        Operation::Deliver { gateway: 2, which: 352 },
        Operation::Change { group: 0, change: Change::Dismiss, late: false },
        Operation::Lose { gateway: 2, which: 544 },
        Operation::Change { group: 1, change: Change::MuteAll { on: true }, late: true },
        Operation::Reload { gateway: 2, which: 801 },
        Operation::JoinHere { gateway: 1, group: 0, user: 3 },
    ];
    run(&operations, None).unwrap();
}

/// The first member of a group logged in after another connected user had joined, whose event was lost. The version in
/// the list of changes was no news.
#[test]
fn a_join_before_the_first_login_of_a_group_is_found_in_the_list_of_changes() {
    let operations = [
        Operation::Connect { gateway: 0, user: 3, device: 0 },
        Operation::Login { gateway: 0, which: 0 },
        Operation::Login { gateway: 0, which: 0 },
        Operation::JoinHere { gateway: 1, group: 1, user: 3 },
        Operation::Lose { gateway: 0, which: 0 },
        Operation::Connect { gateway: 0, user: 1, device: 1 },
        Operation::JoinHere { gateway: 0, group: 1, user: 1 },
    ];
    run(&operations, None).unwrap();
}

/// Changes were removed from the list unread, and one of them was a join to a group without members here.
#[test]
fn a_join_that_was_removed_unread_is_found() {
    let operations = [
        Operation::Connect { gateway: 0, user: 1, device: 1 },
        Operation::Login { gateway: 0, which: 0 },
        Operation::Login { gateway: 0, which: 0 },
        Operation::Change { group: 0, change: Change::Join { user: 1 }, late: false },
        Operation::Lose { gateway: 0, which: 0 },
        Operation::MissLog { gateway: 0 },
    ];
    run(&operations, None).unwrap();
}
