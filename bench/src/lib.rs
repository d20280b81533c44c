//! The pure parts of a message's way, each as a case that can be run over and over: for time (`cargo bench -p bench`)
//! and for instructions (`make bench-check`), which do not depend on what else the machine does.

mod cases;
pub mod instructions;

pub use cases::{BATCH, CASES, Case, MEMBERS, find};
