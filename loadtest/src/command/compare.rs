//! `loadtest compare`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use loadtest::baseline::{Comparison, Plan, Work, compare};
use loadtest::report::Record;
use serde::Serialize;
use testbed::stack::{Builder, Install, System, require};

use super::output::write_figures;
use super::{until_interrupted, usage};

/// Compare this system with simpler ones, in one run and in alternating rounds.
///
/// MySQL only: a transaction per message that finds the next sequence number in MySQL and inserts one row. Redis seq: the
/// sequence number from Redis, and one insert per message; with and without the members' inboxes. Plain queue: the sequence
/// number from Redis, an unconfirmed publish per message and the acknowledgement at once; one consumer inserts row by row.
/// This system: through its gateways, by WebSocket, and judged. Servers are started for the run.
///
/// The baselines are called inside this process, without WebSockets: that favors them.
#[derive(Debug, Args, Serialize)]
pub(crate) struct Compare {
    /// Rounds of each contender that count; one more, shorter, warms up.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Seconds of each round and contender, with all senders.
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// Seconds of each round and contender, with one sender and one message at a time.
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
    /// Write all figures, those of each round too, to this file as JSON.
    #[arg(long, value_name = "FILE")]
    #[serde(skip)]
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
        let plan = self.plan()?;
        let record = Record::new(serde_json::to_value(&self)?, &[]);
        require(Install::when(self.install)).await?;
        let comparison = until_interrupted(measure(&plan)).await?;
        println!("{comparison}");
        write_figures(self.json.as_deref(), &Written { record, comparison: &comparison })?;
        Ok(ExitCode::SUCCESS)
    }

    fn plan(&self) -> anyhow::Result<Plan> {
        if [self.rounds, self.groups, self.senders, self.window].contains(&0) {
            return Err(usage("--rounds, --groups, --senders and --window must be above 0"));
        }
        if self.size > 4096 {
            return Err(usage("--size is at most 4096"));
        }
        for (name, seconds) in [("--seconds", self.seconds), ("--alone-seconds", self.alone_seconds)] {
            if !(0.1..=600.0).contains(&seconds) {
                return Err(usage(format!("{name} is between 0.1 and 600")));
            }
        }
        Ok(Plan {
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

async fn measure(plan: &Plan) -> anyhow::Result<Comparison> {
    eprintln!("starting a system");
    let mut system: System = Builder::new().unlimited().on_own_servers().await?;
    let measured = compare(plan, &mut system, |line| eprintln!("{line}")).await;
    if measured.is_err() {
        system.keep_logs();
    }
    system.stop().await;
    measured
}
