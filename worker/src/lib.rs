//! The worker: takes numbered messages from the queues, commits them in order, and announces them to the gateways.
//!
//! The way of a message:
//!
//! 1. `shards::heartbeat` decides with `shards::assignment` which shards this worker consumes.
//! 2. `shards::shard_task` runs one shard: the following steps in this order, batch after batch.
//! 3. `intake::consumer` receives the bodies that have gathered, and decodes them. What can never be stored goes to
//!    `intake::dead_letter_publisher`.
//! 4. `commit::committer` adds held messages (`commit::gap_buffer`), and opens a transaction (`commit::ledger`), in which
//!    [`commit::plan`] decides about each message: stored, held because a lower sequence number is missing, renumbered
//!    (`commit::renumber`), known already, or refused because its sender may not send any more
//!    (`commit::permission_cache`). The committed messages of a conversation are a settled prefix at any moment, so
//!    readers need no checks.
//! 5. [`announce::events`] announces the committed messages to the gateways in one batch of events, and
//!    `announce::inbox_writer` records the conversations in the inboxes of their members.
//! 6. `settle` acknowledges the deliveries, as the last step.
//!
//! A worker can die between any two steps: the broker delivers again what was not acknowledged, and each step can be
//! repeated. The `simulation` module (tests) does so in some thousand runs.

#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "the tasks of a test end with its runtime"))]

pub mod announce;
pub mod app;
pub mod commit;
pub mod config;
pub mod dead_letters_command;
mod feed_pruner;
mod files;
pub mod intake;
pub(crate) mod settle;
pub mod shards;
#[cfg(test)]
mod simulation;
