//! `loadtest limits`.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;
use loadtest::limits::{Limits, Settings, limits};
use loadtest::report::Record;
use serde::Serialize;
use testbed::stack::{Install, require};

/// Measures what each part of the message path can do alone, and from that what the whole can do at most.
///
/// Servers are started for the run; no gateway, no worker.
#[derive(Debug, Args)]
pub(crate) struct LimitsArguments {
    /// Seconds that count, for each part.
    #[arg(long, default_value_t = 4.0)]
    seconds: f64,
    /// Messages in one script call, one body, one statement.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u16).range(1..=1000))]
    batch: u16,
    /// Bytes of each message.
    #[arg(long, default_value_t = 200)]
    size: usize,
    /// Sockets that send, and sockets that a push goes to.
    #[arg(long, default_value_t = 50)]
    sockets: usize,
    /// Messages in one push frame.
    #[arg(long, default_value_t = 20)]
    messages_per_push: usize,
    /// Write all figures to this file as JSON.
    #[arg(long, value_name = "FILE")]
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
    pub(crate) async fn run(self) -> anyhow::Result<ExitCode> {
        anyhow::ensure!((0.5..=600.0).contains(&self.seconds), "--seconds is between 0.5 and 600");
        anyhow::ensure!((1..=4096).contains(&self.size), "--size is between 1 and 4096");
        anyhow::ensure!(
            self.sockets > 0 && self.messages_per_push > 0,
            "--sockets and --messages-per-push must be above 0"
        );
        require(if self.install { Install::Allowed } else { Install::No })?;
        let record = Record::here_and_now();
        let settings = Settings {
            seconds: self.seconds,
            batch: usize::from(self.batch),
            size: self.size,
            sockets: self.sockets,
            messages_per_push: self.messages_per_push,
        };
        let folder = tempfile::tempdir()?;
        eprintln!("starting MySQL, Redis and RabbitMQ");
        let measured = limits(&settings, folder.path(), |part| eprintln!("{part}")).await?;
        println!("{measured}");
        if let Some(file) = &self.json {
            let written = Written { record, limits: &measured };
            std::fs::write(file, serde_json::to_vec_pretty(&written)?)
                .with_context(|| file.display().to_string())?;
        }
        Ok(ExitCode::SUCCESS)
    }
}
