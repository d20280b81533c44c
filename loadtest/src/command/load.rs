//! `loadtest burst`, `rate` and `idle`.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;
use loadtest::report::Record;
use loadtest::scenario::{Figures, Load, Rate, idle, run};
use serde::Serialize;
use testbed::meter::used;
use testbed::stack::{Builder, System, require};

use super::raise_file_limit;
use super::stack::Where;

/// Everyone sends as fast as the window lets them.
#[derive(Debug, Args)]
pub(crate) struct Burst {
    /// Messages in all.
    #[arg(long, default_value_t = 20_000)]
    messages: usize,
    /// Messages that each sender may have unanswered.
    #[arg(long, default_value_t = 64)]
    window: usize,
    #[command(flatten)]
    common: Common,
}

/// Messages go out at fixed moments, whatever is answered. Latency counts from those moments.
#[derive(Debug, Args)]
pub(crate) struct Steady {
    /// Messages per second in all.
    #[arg(long, default_value_t = 1000.0)]
    per_second: f64,
    /// For how many seconds.
    #[arg(long, default_value_t = 30.0)]
    seconds: f64,
    /// For a while faster: factor,from,to in seconds, such as 10,10,20.
    #[arg(long, value_parser = spike)]
    spike: Option<(f64, f64, f64)>,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Args)]
struct Common {
    #[arg(long, default_value_t = 10)]
    groups: usize,
    /// Members of each group that send.
    #[arg(long, default_value_t = 5)]
    senders: usize,
    /// Members of each group that are connected and only listen.
    #[arg(long, default_value_t = 0)]
    listeners: usize,
    /// Bytes of each message.
    #[arg(long, default_value_t = 200)]
    size: usize,
    /// Ask for replies at the commit.
    #[arg(long)]
    stored: bool,
    /// Write the figures to this file as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    #[command(flatten)]
    target: Target,
}

/// Where to.
#[derive(Debug, Args)]
struct Target {
    /// A running gateway, ws://host:port/ws; may be given several times. Without it: a system is brought up for the run.
    #[arg(long = "gateway", value_name = "URL")]
    gateways: Vec<String>,
    /// A setting of gateways and workers, such as limits.batches_at_once=8; may be given several times.
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = setting)]
    settings: Vec<(String, String)>,
    #[command(flatten)]
    servers: Where,
}

/// Memory per idle connection.
#[derive(Debug, Args)]
pub(crate) struct IdleArguments {
    #[arg(long, default_value_t = 5_000)]
    connections: usize,
    #[command(flatten)]
    servers: Where,
}

#[derive(Serialize)]
struct Written<'a> {
    record: Record,
    figures: &'a Figures,
}

/// A setting as in the files (`limits.batches_at_once=8`) or as in the environment (`IM__LIMITS__BATCHES_AT_ONCE=8`).
pub(super) fn setting(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("give KEY=VALUE")?;
    let key = match key.split_once('.') {
        Some((section, name)) => format!("IM__{section}__{name}").to_uppercase(),
        None => key.to_owned(),
    };
    if key.starts_with("IM__") {
        Ok((key, value.to_owned()))
    } else {
        // The processes would take no notice of it, and the figures would be of something else.
        Err(format!("{key} is no setting: give one such as limits.batches_at_once=8"))
    }
}

fn spike(text: &str) -> Result<(f64, f64, f64), String> {
    let numbers: Result<Vec<f64>, _> = text.split(',').map(str::parse).collect();
    match numbers.as_deref() {
        Ok([factor, from, to]) if *factor > 0.0 && from < to => Ok((*factor, *from, *to)),
        _ => Err("give factor,from,to, such as 10,10,20".to_owned()),
    }
}

impl Burst {
    pub(crate) async fn run(self) -> anyhow::Result<ExitCode> {
        self.common.run(self.messages, self.window, None).await
    }
}

impl Steady {
    pub(crate) async fn run(self) -> anyhow::Result<ExitCode> {
        anyhow::ensure!(
            self.per_second > 0.0 && self.seconds > 0.0,
            "--per-second and --seconds must be above 0"
        );
        let rate = Rate { per_second: self.per_second, seconds: self.seconds, spike: self.spike };
        self.common.run(0, 0, Some(rate)).await
    }
}

impl Common {
    async fn run(self, messages: usize, window: usize, rate: Option<Rate>) -> anyhow::Result<ExitCode> {
        anyhow::ensure!(self.groups > 0 && self.senders > 0, "--groups and --senders must be above 0");
        anyhow::ensure!(self.size <= 4096, "--size is at most 4096");
        anyhow::ensure!(rate.is_some() || window > 0, "--window must be above 0");
        raise_file_limit();
        let record = Record::here_and_now();
        let load = Load {
            groups: self.groups,
            listeners: self.listeners,
            senders: self.senders,
            messages,
            window,
            size: self.size,
            stored: self.stored,
            rate,
        };
        let mut system = if self.target.gateways.is_empty() {
            Some(bring_up(&self.target.servers, &self.target.settings).await?)
        } else {
            None
        };
        let gateways = system.as_ref().map_or(self.target.gateways, System::ws_urls);
        let name = uuid::Uuid::new_v4().simple().to_string();
        let figures =
            run(&load, &gateways, &name[..8], || system.as_mut().map(used).unwrap_or_default()).await?;
        figures.print()?;
        if let Some(file) = self.json {
            let written = Written { record, figures: &figures };
            std::fs::write(&file, serde_json::to_vec_pretty(&written)?)
                .with_context(|| file.display().to_string())?;
        }
        if let Some(system) = system {
            system.stop().await;
        }
        Ok(if figures.verdict.is_good() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

impl IdleArguments {
    pub(crate) async fn run(self) -> anyhow::Result<ExitCode> {
        raise_file_limit();
        let mut system = bring_up(&self.servers, &[]).await?;
        let measured = idle(&mut system, self.connections, false).await?;
        println!(
            "{} idle connections: {} bytes each ({:.1} KiB); the gateway went from {:.1} to {:.1} MiB",
            measured.connections,
            measured.bytes_per_connection,
            kib(measured.bytes_per_connection),
            kib(measured.before_bytes) / 1024.0,
            kib(measured.after_bytes) / 1024.0
        );
        system.stop().await;
        Ok(ExitCode::SUCCESS)
    }
}

#[allow(clippy::cast_precision_loss)] // far below 2^52
fn kib(bytes: u64) -> f64 {
    bytes as f64 / 1024.0
}

/// A system of its own, without a limit per user.
async fn bring_up(servers: &Where, settings: &[(String, String)]) -> anyhow::Result<System> {
    let builder = Builder::new().unlimited();
    let builder = settings.iter().fold(builder, |builder, (key, value)| builder.set(key, value));
    eprintln!("bringing the system up");
    match servers.given() {
        Some(urls) => builder.on(urls).await,
        None => {
            require(servers.install())?;
            builder.on_own_servers().await
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_is_written_as_in_a_file_or_as_in_the_environment() {
        for text in ["limits.batches_at_once=8", "IM__LIMITS__BATCHES_AT_ONCE=8"] {
            assert_eq!(setting(text), Ok(("IM__LIMITS__BATCHES_AT_ONCE".to_owned(), "8".to_owned())));
        }
        assert!(setting("batches_at_once=8").is_err() && setting("limits.batches_at_once").is_err());
    }
}
