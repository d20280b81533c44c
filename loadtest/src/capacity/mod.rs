//! The capacity model of docs/scaling.md: its inputs are measured on a system of its own, and it predicts the processor time of
//! other loads.
//!
//! [`model`] is pure. [`measure`] runs the loads. [`table`] prints.

mod measure;
mod model;
mod table;

pub use measure::{Check, Plan, check, measure};
pub use model::{Connections, Cost, Demand, FULL, Inputs, Need, Storage};
