//! What a command prints, and how it ends.

use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;

use serde::Serialize;

/// How a command ends. Together with [`UNANSWERED`] these are all exit codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// Nothing is wrong.
    Good,
    /// The command answered, and something is wrong.
    Finding,
    /// The command could not answer, in whole or in part.
    Unknown,
}

/// The exit code of [`Ending::Unknown`], and of wrong arguments.
pub(crate) const UNANSWERED: u8 = 2;

impl Ending {
    /// [`Self::Finding`] if there are findings.
    pub(crate) fn of<T>(findings: &[T]) -> Self {
        if findings.is_empty() { Self::Good } else { Self::Finding }
    }
}

impl From<Ending> for ExitCode {
    fn from(ending: Ending) -> Self {
        match ending {
            Ending::Good => Self::SUCCESS,
            Ending::Finding => Self::FAILURE,
            Ending::Unknown => Self::from(UNANSWERED),
        }
    }
}

/// Prints results to standard output: one JSON document, or text.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Output {
    json: bool,
}

impl Output {
    /// Output as JSON or as text.
    pub(crate) fn new(json: bool) -> Self {
        Self { json }
    }

    /// Prints `result`; `text` renders it for a person.
    ///
    /// # Errors
    /// Standard output cannot be written.
    pub(crate) fn show<T: Serialize>(
        self,
        result: &T,
        text: impl FnOnce(&T) -> String,
    ) -> anyhow::Result<()> {
        let shown = if self.json { serde_json::to_string_pretty(result)? } else { text(result) };
        let mut out = std::io::stdout().lock();
        writeln!(out, "{}", shown.trim_end())?;
        Ok(out.flush()?)
    }
}

/// Lines about the progress of a long command, on standard error: they replace each other on a terminal, and are not shown
/// elsewhere.
#[derive(Debug)]
pub(crate) struct Progress {
    is_shown: bool,
    last: std::time::Instant,
}

/// The shortest time between two lines of progress.
const INTERVAL: std::time::Duration = std::time::Duration::from_millis(200);

impl Progress {
    /// Of a command that has just begun.
    pub(crate) fn new() -> Self {
        Self { is_shown: std::io::stderr().is_terminal(), last: std::time::Instant::now() }
    }

    /// Shows `line`, unless another one was shown a moment ago.
    pub(crate) fn show(&mut self, line: impl FnOnce() -> String) {
        if self.is_shown && self.last.elapsed() >= INTERVAL {
            self.last = std::time::Instant::now();
            // Without a terminal that takes it, the command goes on.
            let _ = write!(std::io::stderr(), "\r\u{1b}[K{}", line());
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.is_shown {
            let _ = write!(std::io::stderr(), "\r\u{1b}[K");
        }
    }
}
