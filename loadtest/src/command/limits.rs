//! `loadtest limits`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use loadtest::limits::{Limits, Settings, limits};
use loadtest::report::Record;
use serde::Serialize;
use testbed::stack::{Install, TemporaryFolder, require};

use super::output::write_figures;
use super::usage;

/// Measure each part of the message path alone, and compute the bound for the whole.
///
/// Servers are started for the run, but no gateway and no worker.
#[derive(Debug, Args, Serialize)]
pub(crate) struct LimitsArguments {
    /// Measured seconds of each part.
    #[arg(long, default_value_t = 4.0)]
    seconds: f64,
    /// Messages in one script call, one body, one statement.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u16).range(1..=1000))]
    batch: u16,
    /// Bytes of each message.
    #[arg(long, default_value_t = 200)]
    size: usize,
    /// Sockets that send, and sockets that receive each push.
    #[arg(long, default_value_t = 50)]
    sockets: usize,
    /// Messages in one push frame.
    #[arg(long, default_value_t = 20)]
    messages_per_push: usize,
    /// Write all figures to this file as JSON.
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
    limits: &'a Limits,
}

impl LimitsArguments {
    fn check(&self) -> anyhow::Result<()> {
        if !(0.5..=600.0).contains(&self.seconds) {
            return Err(usage("--seconds is between 0.5 and 600"));
        }
        if !(1..=4096).contains(&self.size) {
            return Err(usage("--size is between 1 and 4096"));
        }
        if self.sockets == 0 || self.messages_per_push == 0 {
            return Err(usage("--sockets and --messages-per-push must be above 0"));
        }
        Ok(())
    }

    pub(crate) async fn run(self) -> anyhow::Result<ExitCode> {
        self.check()?;
        require(Install::when(self.install)).await?;
        let record = Record::new(serde_json::to_value(&self)?, &[]);
        let settings = Settings {
            seconds: self.seconds,
            batch: usize::from(self.batch),
            size: self.size,
            sockets: self.sockets,
            messages_per_push: self.messages_per_push,
        };
        let folder = TemporaryFolder::new()?;
        eprintln!("starting MySQL, Redis and RabbitMQ");
        let measured = limits(&settings, folder.path(), |part| eprintln!("{part}")).await?;
        println!("{measured}");
        write_figures(self.json.as_deref(), &Written { record, limits: &measured })?;
        Ok(ExitCode::SUCCESS)
    }
}
