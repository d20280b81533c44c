//! What is kept of a run: figures with where they come from, as JSON and as one HTML page with plots.

mod html;
mod plot;
mod plots;
mod record;

use std::path::Path;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

pub use html::page;
pub use plot::{Line, Plot};
pub use plots::plots;
pub use record::{Machine, Record};

use crate::scenario::Outcome;

/// One scenario's outcome with where it comes from: a JSON file holds a list of these.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Run {
    /// Where from.
    pub record: Record,
    /// What came out.
    pub outcome: Outcome,
}

/// Reads what [`write_json`] wrote.
///
/// # Errors
/// If the file cannot be read, or is something else.
pub fn read_json(file: &Path) -> anyhow::Result<Vec<Run>> {
    let text = std::fs::read(file).with_context(|| file.display().to_string())?;
    serde_json::from_slice(&text).with_context(|| format!("{} is no outcome of a scenario", file.display()))
}

/// Writes runs for [`read_json`] and other programs.
///
/// # Errors
/// If the file cannot be written.
pub fn write_json(file: &Path, runs: &[Run]) -> anyhow::Result<()> {
    std::fs::write(file, serde_json::to_vec_pretty(runs)?).with_context(|| file.display().to_string())
}
