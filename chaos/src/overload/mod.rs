//! More load than the system can handle: every request is answered in time, goodput stays high, memory stays bounded, and
//! the system recovers within seconds.

mod connection;
mod report;
mod run;

pub use report::{Overload, OverloadReport};
pub use run::{Site, overload};
