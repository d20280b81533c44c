//! A run with its origin, and JSON files of runs.

use std::path::Path;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use super::record::Record;
use crate::scenario::Outcome;

/// The outcome of a run with its origin; a JSON file holds a list of these.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Run {
    /// The origin of the figures.
    pub record: Record,
    /// The outcome.
    pub outcome: Outcome,
    /// All figures of `burst` and `rate`, for other programs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub figures: Option<serde_json::Value>,
}

/// Reads a file that [`write_json`] wrote.
///
/// # Errors
/// If the file cannot be read, or is something else.
pub fn read_json(file: &Path) -> anyhow::Result<Vec<Run>> {
    let text = std::fs::read(file).with_context(|| file.display().to_string())?;
    serde_json::from_slice(&text).with_context(|| format!("{} is no report of runs", file.display()))
}

/// Writes runs for [`read_json`] and other programs.
///
/// # Errors
/// If the file cannot be written.
pub fn write_json(file: &Path, runs: &[Run]) -> anyhow::Result<()> {
    std::fs::write(file, serde_json::to_vec_pretty(runs)?).with_context(|| file.display().to_string())
}
