//! Deciding about each message, and making the decisions durable.
//!
//! [`plan`] holds the rules and does no I/O; the permissions that they check are in [`permission_cache`]. [`committer`]
//! executes a plan in one transaction of the [`ledger`] ([`foreseen`] if it can be made before the transaction), and keeps state between batches: held messages in [`gap_buffer`],
//! sequence numbers without a message in [`voided_seqs`], messages that need a fresh one in [`renumber`]. It returns
//! [`facts`]; [`feed`] has the rows of the change feed, and [`traces`] the spans of sampled messages.

mod aside;
pub mod batch;
pub(crate) mod changes;
pub(crate) mod committer;
mod counts;
pub(crate) mod facts;
mod feed;
mod foreseen;
pub(crate) mod gap_buffer;
mod head_cache;
pub(crate) mod ledger;
mod ledger_error;
pub(crate) mod mysql_ledger;
pub mod pending;
pub(crate) mod permission_cache;
pub mod plan;
mod remembered;
pub(crate) mod renumber;
pub(crate) mod traces;
pub(crate) mod verdict;
pub mod voided_seqs;
