//! Loads.

mod idle;
mod run;

pub use idle::{Idle, idle};
pub use run::{Figures, Load, Rate, run};
