//! Things that break while messages flow, and the verdict on what was promised.
//!
//! Senders and readers use the public protocol as an app would; faults are done to real processes, real servers and the
//! wires between them.

mod fault;
mod hostile;
mod inflict;
mod monitor;
pub mod overload;
mod run;

pub use fault::{Damage, Fault, Wire};
pub use inflict::{Inflictor, MysqlDisk};
pub use run::{Course, Inflicted, News, Options, Outcome, run};
