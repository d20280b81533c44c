//! The command line.

mod chaos;
mod compare;
mod limits;
mod load;
mod overload;
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
    /// Break things while messages flow, and judge whether every promise was kept.
    Chaos(chaos::Chaos),
    /// Send several times what the system can take, and see that everyone is answered in time.
    Overload(overload::Overload),
    /// Measure this system beside simpler ones, by turns.
    Compare(compare::Compare),
    /// Measure what each part of the message path can do alone, and the bound for the whole.
    Limits(limits::LimitsArguments),
    /// Run scenarios: measured, judged and drawn.
    Scenario(scenario::ScenarioArguments),
    /// 2,000 users come back at once, sync and pull: until when are they current?
    Storm(scenario::StormArguments),
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
            Self::Chaos(chaos) => chaos.run().await,
            Self::Overload(overload) => overload.run().await,
            Self::Compare(compare) => compare.run().await,
            Self::Limits(limits) => limits.run().await,
            Self::Scenario(scenario) => scenario.run().await,
            Self::Storm(storm) => storm.run().await,
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

/// For 50,000 connections, both ends.
const FILES_WANTED: u64 = 150_000;

/// Each connection is a file; the usual limit of 1,024 is soon reached. Children inherit it.
fn raise_file_limit() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    // As many as root may have; others, as many as they are allowed.
    if setrlimit(Resource::RLIMIT_NOFILE, FILES_WANTED, FILES_WANTED).is_ok() {
        return;
    }
    if let Ok((_, most)) = getrlimit(Resource::RLIMIT_NOFILE) {
        let _ = setrlimit(Resource::RLIMIT_NOFILE, most, most);
    }
}
