//! The command line.

mod capacity;
mod chaos;
mod clusters;
mod compare;
mod deployed;
mod everyday;
mod glossary;
mod limits;
mod load;
mod output;
mod overload;
mod scenario;
mod stack;

use std::process::ExitCode;

use clap::Subcommand;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Start a whole system, or servers for another program.
    #[command(subcommand)]
    Stack(stack::Stack),
    /// Send a burst, measure it, and judge whether every promise was kept.
    Burst(load::Burst),
    /// Send at a steady rate, with a spike if wanted; measure and judge.
    Rate(load::Steady),
    /// Open idle connections; measure a gateway's memory for each.
    Idle(load::IdleArguments),
    /// Inject faults while messages flow, and judge whether every promise was kept.
    Chaos(chaos::Chaos),
    /// Lose servers of clusters while messages flow, and judge whether every promise was kept.
    Clusters(clusters::Clusters),
    /// Send several times the peak, and check that every request is answered in time.
    Overload(overload::Overload),
    /// Compare this system with simpler ones, in alternating rounds.
    Compare(compare::Compare),
    /// Measure latency and processor time per message at everyday rates, by turns with another build if wanted.
    Everyday(everyday::EverydayArguments),
    /// Measure each part of the message path alone, and the bound for the whole.
    Limits(limits::LimitsArguments),
    /// Measure the inputs of the capacity model, and predict what a load needs.
    Capacity(capacity::Capacity),
    /// Run scenarios by name: measured, judged and drawn.
    Scenario(scenario::ScenarioArguments),
    /// 2,000 users reconnect at the same moment, sync and pull: measure when they are current.
    Storm(scenario::StormArguments),
    /// Draw reports that were written as JSON.
    Report(scenario::ReportArguments),
}

impl Command {
    /// Runs it until its end, Ctrl-C or SIGTERM.
    pub(crate) async fn run(self) -> anyhow::Result<ExitCode> {
        match self {
            // Stops its processes in order.
            Self::Stack(stack) => stack.run().await,
            // Dropped before its end, a command ends all processes and removes all folders that it has made.
            other => until_interrupted(Box::pin(other.run_to_its_end())).await,
        }
    }

    async fn run_to_its_end(self) -> anyhow::Result<ExitCode> {
        match self {
            Self::Stack(stack) => stack.run().await,
            Self::Burst(burst) => burst.run().await,
            Self::Rate(rate) => rate.run().await,
            Self::Idle(idle) => idle.run().await,
            Self::Chaos(chaos) => chaos.run().await,
            Self::Clusters(clusters) => clusters.run().await,
            Self::Overload(overload) => overload.run().await,
            Self::Compare(compare) => compare.run().await,
            Self::Everyday(everyday) => everyday.run().await,
            Self::Limits(limits) => Box::pin(limits.run()).await,
            Self::Capacity(capacity) => Box::pin(capacity.run()).await,
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

/// Runs `run` until its end, or until Ctrl-C or SIGTERM, which is an error.
async fn until_interrupted<T>(run: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::select! {
        done = Box::pin(run) => done,
        stopped = interrupted() => {
            stopped?;
            anyhow::bail!("interrupted")
        }
    }
}

/// Options that cannot be used as they are.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Usage(String);

/// An error that ends the process with exit code 2.
fn usage(sentence: impl Into<String>) -> anyhow::Error {
    Usage(sentence.into()).into()
}

/// For 50,000 connections, both ends.
const FILES_WANTED: u64 = 150_000;

/// Raises the limit of open files: each connection is one, and the usual limit is 1,024. Children inherit it.
fn raise_file_limit() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    // Only root may raise the hard limit; other users get as many as it allows.
    if setrlimit(Resource::RLIMIT_NOFILE, FILES_WANTED, FILES_WANTED).is_ok() {
        return;
    }
    if let Ok((_, most)) = getrlimit(Resource::RLIMIT_NOFILE) {
        let _ = setrlimit(Resource::RLIMIT_NOFILE, most, most);
    }
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory as _, Parser};

    use super::*;

    #[derive(Debug, Parser)]
    struct Cli {
        #[command(subcommand)]
        command: Command,
    }

    fn parsed(line: &str) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(std::iter::once("loadtest").chain(line.split_whitespace()))
    }

    #[test]
    fn the_options_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn options_without_effect_are_refused() {
        const GATEWAY: &str = "--gateway ws://127.0.0.1:8080/ws";
        for command in ["burst", "rate", "idle", "scenario burst", "storm", "overload"] {
            assert!(parsed(&format!("{command} {GATEWAY}")).is_ok(), "{command}");
            for tokens in ["--hs256-secret-file secret", "--operator-key-file key"] {
                assert!(parsed(&format!("{command} {GATEWAY} {tokens}")).is_ok(), "{command} {tokens}");
                assert!(
                    parsed(&format!("{command} {tokens}")).is_err(),
                    "{command} {tokens} without --gateway"
                );
            }
            let both = "--hs256-secret-file secret --operator-key-file key";
            assert!(parsed(&format!("{command} {GATEWAY} {both}")).is_err(), "{command} {both}");
            assert!(parsed(&format!("{command} {GATEWAY} --install")).is_err(), "{command} --install");
        }
        let urls = "--mysql-url mysql://u@h/s --redis-url redis://h --amqp-url amqp://h";
        for command in ["burst", "rate", "idle"] {
            for option in ["--set limits.batches_at_once=8", urls] {
                assert!(parsed(&format!("{command} {option}")).is_ok(), "{command} {option}");
                assert!(parsed(&format!("{command} {GATEWAY} {option}")).is_err(), "{command} {option}");
            }
        }
        for option in ["--set limits.batches_at_once=8", "--workers 3", "--gateways 3"] {
            assert!(parsed(&format!("scenario burst {option}")).is_ok(), "{option}");
            assert!(parsed(&format!("scenario burst {GATEWAY} {option}")).is_err(), "{option}");
            assert!(parsed(&format!("scenario {option}")).is_err(), "{option} without a scenario");
        }
        assert!(parsed("burst --gateway wss://h/ws --ca ca.pem").is_ok());
        assert!(parsed("burst --ca ca.pem").is_err(), "--ca without --gateway");
        assert!(parsed("rate --window 3").is_err());
    }

    #[test]
    fn the_help_explains_the_words_of_the_results() {
        for name in ["burst", "rate", "idle", "scenario", "storm"] {
            let mut cli = Cli::command();
            let command = cli.find_subcommand_mut(name).unwrap();
            let help = command.render_long_help().to_string();
            for word in [
                "window",
                "open loop",
                "accepted",
                "stored",
                "judge",
                "lost",
                "doubled",
                "misnumbered",
                "altered",
                "foreign",
                "unordered",
                "reordered",
                "different",
                "undercut",
                "Exit codes",
            ] {
                assert!(help.contains(word), "{name}: {word}");
            }
        }
    }
}
