//! The worker: takes numbered messages from the queues, stores them in order, tells the gateways.
//!
//! A message on its way:
//!
//! 1. [`shards::heartbeat`] decides which shards this worker consumes, by [`shards::assignment`].
//! 2. [`shards::shard_task`] runs one shard. It is the spine: the steps below in their order, batch after batch.
//! 3. [`intake::consumer`] takes all bodies that have gathered and decodes them; what can never be stored goes to
//!    [`intake::dead_letters`].
//! 4. [`commit::committer`] adds what waited ([`commit::holes`]) and opens a transaction ([`commit::ledger`]), in which
//!    [`commit::plan`] decides what becomes of each message: taken, held for a lower number, given a fresh number
//!    ([`commit::renumber`]), known already, or refused because its sender may not send any more
//!    ([`commit::rights`]). What is committed is at every moment a settled prefix of its
//!    conversation, so a reader has nothing to check.
//! 5. [`announce::events`] tells the gateways what was committed, in one numbered batch, while [`announce::inboxes`]
//!    notes in the inboxes of those who may be away how far the conversation has come.
//! 6. [`settle`] acknowledges the deliveries, last of all.
//!
//! A worker that dies between any two steps does no harm: what is not acknowledged is delivered again, and every step
//! may be done twice. The `simulation` module (tests) does just that, a few hundred times with each test run.

#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "the tasks of a test end with its runtime"))]

pub mod announce;
pub mod app;
pub mod commit;
pub mod config;
pub mod intake;
pub mod settle;
pub mod shards;
#[cfg(test)]
mod simulation;
