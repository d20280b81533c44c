//! Starts the whole system, talks to it as its clients do, and judges what it did.
//!
//! Used by `make run`, by the load tests and faults, and by the tests of the other crates. It knows the public protocol, by
//! the lower layer of the Rust client, and nothing of the server's crates, so that a mistake there cannot hide here.

#[cfg(feature = "certificates")]
pub mod certificates;
pub mod client;
pub mod demo;
pub mod example;
pub mod judge;
pub mod meter;
#[cfg(feature = "push_receivers")]
pub mod push;
pub mod stack;
