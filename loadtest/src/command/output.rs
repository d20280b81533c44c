//! Files and exit codes of a run.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;
use loadtest::report::{Record, Run, page, write_json};
use loadtest::scenario::{Conclusion, Figures, Outcome};
use serde::Serialize;

/// Where a report goes.
#[derive(Debug, Args, Serialize)]
pub(super) struct Output {
    /// Write all figures to this file as JSON; `loadtest report` draws it.
    #[arg(long, value_name = "FILE")]
    #[serde(skip)]
    json: Option<PathBuf>,
    /// Write a page with all figures and plots to this file.
    #[arg(long, value_name = "FILE")]
    #[serde(skip)]
    html: Option<PathBuf>,
}

/// The conclusion of a run as the exit code of the process.
pub(super) fn exit_code(conclusions: impl Iterator<Item = Conclusion>) -> ExitCode {
    ExitCode::from(code(conclusions.max().unwrap_or(Conclusion::Complete)))
}

fn code(conclusion: Conclusion) -> u8 {
    match conclusion {
        Conclusion::Complete => 0,
        Conclusion::Broken => 1,
        Conclusion::Incomplete => 3,
    }
}

impl Output {
    /// Writes the files, and returns the exit code.
    pub(super) fn finish(
        &self,
        record: Record,
        outcome: Outcome,
        figures: Option<&Figures>,
    ) -> anyhow::Result<ExitCode> {
        let code = exit_code([outcome.conclusion()].into_iter());
        let figures = figures.map(serde_json::to_value).transpose()?;
        self.write(&[Run { record, outcome, figures }])?;
        Ok(code)
    }

    /// Writes the files.
    pub(super) fn write(&self, runs: &[Run]) -> anyhow::Result<()> {
        if let Some(file) = &self.json {
            write_json(file, runs)?;
        }
        if let Some(file) = &self.html {
            write_page(file, runs)?;
        }
        Ok(())
    }
}

/// Writes the figures of a command that has no outcomes, if a file for them was given.
pub(super) fn write_figures(file: Option<&Path>, figures: &impl Serialize) -> anyhow::Result<()> {
    let Some(file) = file else { return Ok(()) };
    std::fs::write(file, serde_json::to_vec_pretty(figures)?).with_context(|| file.display().to_string())
}

/// Writes a page with all figures and plots.
pub(super) fn write_page(file: &Path, runs: &[Run]) -> anyhow::Result<()> {
    std::fs::write(file, page(runs)).with_context(|| file.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broken_promise_counts_more_than_an_incomplete_run() {
        use Conclusion::{Broken, Complete, Incomplete};
        for (conclusions, expected) in [
            (vec![], 0),
            (vec![Complete, Complete], 0),
            (vec![Complete, Incomplete], 3),
            (vec![Broken, Incomplete, Complete], 1),
        ] {
            assert_eq!(exit_code(conclusions.into_iter()), ExitCode::from(expected));
        }
    }
}
