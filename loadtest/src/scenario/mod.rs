//! Loads.

mod backlog;
mod big_group;
mod catalog;
mod growth;
mod idle;
mod many;
mod outcome;
mod pages;
mod pulls;
mod run;
mod sampler;
mod slow_readers;
mod steady;
mod storm;
mod sync_storm;

pub use catalog::{SCENARIOS, Scale, Scenario, find};
pub use idle::{Idle, idle};
pub use outcome::{Figure, Goal, Latency, Mark, Outcome, Sample, number};
pub use run::{Figures, Load, Rate, joined, run, run_watched};
pub use sampler::Sampler;
