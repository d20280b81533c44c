//! The command line.

mod compare;
mod limits;
mod load;
mod scenario;
mod stack;

use std::process::ExitCode;

use clap::Subcommand;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Bring the system up, or its servers for another program.
    #[command(subcommand)]
    Stack(stack::Stack),
    /// Send a burst, measure it, and judge whether every promise was kept.
    Burst(load::Burst),
    /// Send at a steady rate, with a spike if wanted; measure and judge.
    Rate(load::Steady),
    /// Measure a gateway's memory per idle connection.
    Idle(load::IdleArguments),
    /// Measure this system beside simpler ones, by turns.
    Compare(compare::Compare),
    /// Measure what each part of the message path can do alone, and the bound for the whole.
    Limits(limits::LimitsArguments),
    /// Run scenarios: measured, judged and drawn.
    Scenario(scenario::ScenarioArguments),
    /// Draw what scenarios have written.
    Report(scenario::ReportArguments),
}

impl Command {
    pub(crate) async fn run(self) -> anyhow::Result<ExitCode> {
        match self {
            Self::Stack(stack) => stack.run().await,
            Self::Burst(burst) => burst.run().await,
            Self::Rate(rate) => rate.run().await,
            Self::Idle(idle) => idle.run().await,
            Self::Compare(compare) => compare.run().await,
            Self::Limits(limits) => limits.run().await,
            Self::Scenario(scenario) => scenario.run().await,
            Self::Report(report) => report.run(),
        }
    }
}

/// Resolves at Ctrl-C or SIGTERM.
async fn interrupted() -> std::io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    Ok(())
}
