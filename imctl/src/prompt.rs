//! Asking for confirmation.

use std::io::{BufRead as _, IsTerminal as _, Write as _};

/// Asks on standard error whether to do what `question` says; `yes` answers in advance.
///
/// # Errors
/// There is nobody to ask, or the answer is not `yes`.
pub(crate) fn confirm(question: &str, yes: bool) -> anyhow::Result<()> {
    if yes {
        return Ok(());
    }
    let stdin = std::io::stdin();
    anyhow::ensure!(stdin.is_terminal(), "{question} Nothing was done: confirm with --yes");
    eprint!("{question} Type yes: ");
    std::io::stderr().flush()?;
    let mut answer = String::new();
    stdin.lock().read_line(&mut answer)?;
    anyhow::ensure!(answer.trim() == "yes", "nothing was done");
    Ok(())
}
