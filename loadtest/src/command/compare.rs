//! `loadtest compare`.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;
use loadtest::baseline::{Comparison, Contest, Work, compare};
use loadtest::report::Record;
use serde::Serialize;
use testbed::stack::{Builder, Install, System, require};

use super::interrupted;

/// Measures this system beside what one would otherwise have, in one run and by turns.
///
/// Stage one: a transaction per message that finds the next number in MySQL and inserts one row. Stage two: the number
/// from Redis, and one row; with and without the members' inboxes. Plain queue: the number from Redis, an unconfirmed
/// publish per message and the acknowledgement at once; one consumer inserts row by row. This system: through its
/// gateways, by WebSocket, and judged. Servers are started for the run.
///
/// The baselines are called inside this process and skip the WebSocket: that favours them.
#[derive(Debug, Args)]
pub(crate) struct Compare {
    /// Rounds of each contender that count; one more, shorter, warms up.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Seconds per round and contender, all senders together.
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// Seconds per round and contender of one sender with one message at a time.
    #[arg(long, default_value_t = 1.0)]
    alone_seconds: f64,
    /// Groups, each a conversation.
    #[arg(long, default_value_t = 10)]
    groups: usize,
    /// Senders in each group.
    #[arg(long, default_value_t = 5)]
    senders: usize,
    /// Messages that each sender may have unanswered.
    #[arg(long, default_value_t = 64)]
    window: usize,
    /// Bytes of each message.
    #[arg(long, default_value_t = 200)]
    size: usize,
    /// Connections to MySQL that the baselines share.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(2..=300))]
    connections: u32,
    /// Write all figures, of every round too, to this file as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Install missing servers with apt-get, if allowed.
    #[arg(long)]
    install: bool,
}

#[derive(Serialize)]
struct Written<'a> {
    record: Record,
    comparison: &'a Comparison,
}

impl Compare {
    pub(crate) async fn run(self) -> anyhow::Result<ExitCode> {
        let contest = self.contest()?;
        let record = Record::here_and_now();
        let stop = interrupted();
        tokio::pin!(stop);
        require(if self.install { Install::Allowed } else { Install::No })?;
        // Dropped half way, the system takes with it whatever it had started.
        let comparison = tokio::select! {
            measured = Box::pin(measure(&contest)) => measured?,
            stopped = &mut stop => {
                stopped?;
                return Ok(ExitCode::FAILURE);
            }
        };
        println!("{comparison}");
        if let Some(file) = &self.json {
            let written = Written { record, comparison: &comparison };
            std::fs::write(file, serde_json::to_vec_pretty(&written)?)
                .with_context(|| file.display().to_string())?;
        }
        Ok(ExitCode::SUCCESS)
    }

    fn contest(&self) -> anyhow::Result<Contest> {
        anyhow::ensure!(self.rounds > 0, "--rounds must be above 0");
        anyhow::ensure!(self.groups > 0 && self.senders > 0, "--groups and --senders must be above 0");
        anyhow::ensure!(self.window > 0, "--window must be above 0");
        anyhow::ensure!(self.size <= 4096, "--size is at most 4096");
        for (name, seconds) in [("--seconds", self.seconds), ("--alone-seconds", self.alone_seconds)] {
            anyhow::ensure!((0.1..=600.0).contains(&seconds), "{name} is between 0.1 and 600");
        }
        Ok(Contest {
            work: Work {
                groups: self.groups,
                senders_per_group: self.senders,
                window: self.window,
                size: self.size,
                seconds: self.seconds,
            },
            alone_seconds: self.alone_seconds,
            rounds: self.rounds,
            connections: self.connections,
        })
    }
}

async fn measure(contest: &Contest) -> anyhow::Result<Comparison> {
    eprintln!("bringing the system up");
    let mut system: System = Builder::new().unlimited().on_own_servers().await?;
    let measured = compare(contest, &mut system, |line| eprintln!("{line}")).await;
    if measured.is_err() {
        system.keep_logs();
    }
    system.stop().await;
    measured
}
