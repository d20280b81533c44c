//! `loadtest capacity`.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;
use loadtest::capacity::{Check, Demand, FULL, Inputs, Need, Plan, check, measure};
use loadtest::report::Record;
use loadtest::scenario::Target;
use serde::{Deserialize, Serialize};
use testbed::stack::{Builder, Install, parse_setting, require};

use super::deployed::without_secrets;
use super::output::write_figures;
use super::{raise_file_limit, until_interrupted, usage};

/// A prediction is good within this share of what was measured.
const TOLERANCE: f64 = 0.25;

/// Measure the inputs of the capacity model (docs/scaling.md), and predict what a load needs.
///
/// A system is started for the run. Measure on a machine that does nothing else. Exit code 1: with --check, a prediction is more
/// than 25 % off.
#[derive(Debug, Args, Serialize)]
pub(crate) struct Capacity {
    /// Messages of each burst.
    #[arg(long, default_value_t = 200_000)]
    messages: usize,
    /// Seconds of each steady load.
    #[arg(long, default_value_t = 30.0)]
    seconds: f64,
    /// Idle connections, whose memory and heartbeats are measured; 0 leaves them out.
    #[arg(long, default_value_t = 5_000)]
    connections: usize,
    /// Bytes of each message.
    #[arg(long, default_value_t = 200)]
    size: usize,
    /// Run three loads that the model predicts, and compare.
    #[arg(long)]
    check: bool,
    /// Take the inputs from this file that --json wrote, and measure nothing.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["check", "json", "install", "settings"])]
    inputs: Option<PathBuf>,
    /// Predict for this number of messages per second.
    #[arg(long, value_name = "MESSAGES")]
    rate: Option<f64>,
    /// Connected members who get each message, for --rate.
    #[arg(long, value_name = "MEMBERS", default_value_t = 4.0)]
    pushes: f64,
    /// Connections on all gateways together, for --rate.
    #[arg(long, value_name = "CONNECTIONS", default_value_t = 0.0)]
    clients: f64,
    /// A setting of the gateways and workers, such as limits.batches_at_once=8; repeatable.
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = parse_setting)]
    #[serde(serialize_with = "without_secrets")]
    settings: Vec<(String, String)>,
    /// Write inputs, prediction and checks to this file as JSON.
    #[arg(long, value_name = "FILE")]
    #[serde(skip)]
    json: Option<PathBuf>,
    /// Install missing servers with apt-get, if allowed.
    #[arg(long)]
    install: bool,
}

#[derive(Serialize)]
struct Written<'w> {
    record: Record,
    inputs: &'w Inputs,
    prediction: Option<(Demand, Need)>,
    checks: &'w [Check],
}

/// What is read of a file that was written before.
#[derive(Deserialize)]
struct Read {
    inputs: Inputs,
}

impl Capacity {
    pub(crate) async fn run(self) -> anyhow::Result<ExitCode> {
        self.check_options()?;
        let record = Record::new(serde_json::to_value(&self)?, &[]);
        let (inputs, checks) = match &self.inputs {
            Some(file) => {
                let text = std::fs::read_to_string(file).with_context(|| file.display().to_string())?;
                let read: Read = serde_json::from_str(&text).with_context(|| {
                    format!("{}: not written by loadtest capacity --json", file.display())
                })?;
                (read.inputs, Vec::new())
            }
            None => self.measured().await?,
        };
        println!("{inputs}");
        let prediction = self.demand().map(|demand| (demand, inputs.predict(&demand)));
        if let Some((demand, need)) = &prediction {
            println!("{demand}: {need}");
            println!("with processes that are at most {:.0} % busy:", FULL * 100.0);
            for (name, cores) in &need.cores {
                println!("    {name:<12} {:>5.1} cores", cores / FULL);
            }
        }
        for check in &checks {
            println!("{check}");
        }
        write_figures(
            self.json.as_deref(),
            &Written { record, inputs: &inputs, prediction, checks: &checks },
        )?;
        let off = checks.iter().filter(|check| (check.ratio() - 1.0).abs() > TOLERANCE).count();
        if off > 0 {
            println!("{off} of {} predictions are more than {:.0} % off", checks.len(), TOLERANCE * 100.0);
            return Ok(ExitCode::FAILURE);
        }
        Ok(ExitCode::SUCCESS)
    }

    fn check_options(&self) -> anyhow::Result<()> {
        if !(1..=4096).contains(&self.size) {
            return Err(usage("--size is between 1 and 4096"));
        }
        if self.messages < 1_000 || self.seconds.is_nan() || self.seconds < 1.0 {
            return Err(usage("--messages is at least 1000, and --seconds at least 1"));
        }
        if self.rate.is_some_and(|rate| rate.is_nan() || rate <= 0.0) {
            return Err(usage("--rate must be above 0"));
        }
        if self.inputs.is_some() && self.rate.is_none() {
            return Err(usage("--inputs without --rate predicts nothing"));
        }
        Ok(())
    }

    fn demand(&self) -> Option<Demand> {
        Some(Demand { cores: None, rate: self.rate?, pushes: self.pushes, connections: self.clients })
    }

    async fn measured(&self) -> anyhow::Result<(Inputs, Vec<Check>)> {
        require(Install::when(self.install)).await?;
        raise_file_limit();
        eprintln!("starting a system");
        let builder = Builder::new().unlimited();
        let builder = self.settings.iter().fold(builder, |builder, (key, value)| builder.set(key, value));
        let mut target = Target::own(builder.on_own_servers().await?);
        let plan = Plan {
            messages: self.messages,
            seconds: self.seconds,
            connections: self.connections,
            size: self.size,
        };
        let work = async {
            let tell = |step: &str| eprintln!("{step}");
            let inputs = measure(&mut target, &plan, tell).await?;
            let checks =
                if self.check { check(&mut target, &inputs, &plan, tell).await? } else { Vec::new() };
            Ok((inputs, checks))
        };
        let done = until_interrupted(work).await;
        if done.is_err() {
            target.keep_logs();
        }
        target.stop().await;
        done
    }
}
