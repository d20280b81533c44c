//! Deciding what becomes of each message, and making it durable.
//!
//! [`plan`] holds the rules and touches nothing; whose messages are refused follows from [`rights`]. [`committer`] carries a plan out in one transaction of the [`ledger`]
//! and keeps between batches what must wait: held messages in [`holes`], numbers that nobody will bring in [`spent`],
//! messages that need a fresh number in [`renumber`].

pub mod batch;
pub mod committer;
pub mod facts;
pub mod holes;
pub mod ledger;
pub mod pending;
pub mod plan;
pub mod renumber;
pub mod rights;
pub mod spent;
pub mod verdict;
