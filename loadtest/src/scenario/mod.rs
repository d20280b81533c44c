//! Loads and scenarios: what is sent and read, against a system of its own or a running deployment.

mod backlog;
mod big_group;
mod catalog;
mod deployment;
mod fanout;
mod figures;
mod files;
mod growth;
mod idle;
mod listeners;
mod load;
mod many;
mod outcome;
mod pages;
mod pulls;
mod reactions;
mod run;
mod sampler;
mod scale;
mod slow_readers;
mod steady;
mod storm;
mod sync_storm;
mod target;

pub use catalog::{SCENARIOS, Scenario, find};
pub use deployment::Deployment;
pub use figures::Figures;
pub use idle::{Idle, Memory, idle, idle_outcome};
pub use load::{Load, Rate};
pub use outcome::{Conclusion, Figure, Goal, Latency, Mark, Outcome, Sample, number};
pub use run::run;
pub use sampler::Sampler;
pub use scale::Scale;
pub use steady::measure;
pub use target::Target;
