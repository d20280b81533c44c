//! Loads a running system, measures it, and compares it with alternatives.
//!
//! The system, its clients and the judge are `testbed`'s; faults are done by `chaos`.

pub mod baseline;
pub mod capacity;
pub mod everyday;
pub mod limits;
pub mod report;
pub mod scenario;
mod statistics;
