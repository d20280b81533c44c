//! Everyday load: latency and processor time per message at rates that a machine carries easily, by turns with another build.

mod goals;
mod summary;
mod table;
mod turns;

pub use goals::{EverydayGoal, GOALS, REST_GOAL};
pub use summary::{Build, Everyday, Figures, Rest};
pub use turns::{EverydayPlan, measure_everyday};
