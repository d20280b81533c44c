//! Starts the whole system, talks to it as its clients do, breaks it, and judges what it did.
//!
//! Knows the public protocol and nothing of the other crates, so that a mistake there cannot hide here.

pub mod baseline;
pub mod chaos;
pub mod client;
pub mod demo;
pub mod judge;
pub mod limits;
pub mod meter;
pub mod report;
pub mod scenario;
pub mod stack;
