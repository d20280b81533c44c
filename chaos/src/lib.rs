//! Injects faults while messages flow, and judges whether every promise was kept.
//!
//! Senders and readers use the public protocol as an app does. Faults happen to real processes, real servers and the wires
//! between them.

mod cluster_fault;
mod cluster_injector;
mod disk;
mod fault;
mod hostile;
mod injector;
mod monitor;
mod notified;
mod outcome;
pub mod overload;
mod participants;
mod push_check;
mod reshard;
mod run;
mod service_fault;
mod webhook;

pub use cluster_fault::{Cluster, ClusterFault};
pub use fault::{Damage, Fault, Wire};
pub use outcome::{Injection, Outcome, Progress};
pub use run::{Course, Options, run};
pub use webhook::JudgedWebhook;
