//! The subcommands of `loadtest stack`.

use std::process::ExitCode;

use clap::Subcommand;

use super::exec::Exec;
use super::up::Up;

/// A whole system, or servers for another program.
#[derive(Debug, Subcommand)]
pub(crate) enum Stack {
    Up(Up),
    Exec(Exec),
}

impl Stack {
    pub(crate) async fn run(self) -> anyhow::Result<ExitCode> {
        match self {
            Self::Up(up) => up.run().await,
            Self::Exec(exec) => exec.run().await,
        }
    }
}
