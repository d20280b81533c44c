//! `loadtest overload`.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use chaos::overload::{self, OverloadReport, Site};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use testbed::stack::{Builder, Install, parse_setting, require};

use super::deployed::{Tokens, gateway};

/// Send several times the peak, and check that every request is answered in time.
///
/// Measures the peak first. Exit code 0: every request was answered with 0, 429 or 503 by its deadline, and every accepted
/// message is stored once.
#[derive(Debug, Args)]
pub(crate) struct Overload {
    /// Connections that send.
    #[arg(long, default_value_t = 200)]
    connections: usize,
    /// The offered load as a multiple of the peak.
    #[arg(long, default_value_t = 3.0)]
    factor: f64,
    /// How long the overload lasts.
    #[arg(long, default_value_t = 60.0)]
    seconds: f64,
    /// Send only texts. Otherwise every other group has edits and reactions between its texts.
    #[arg(long)]
    texts_only: bool,
    /// Add a delay to RabbitMQ, so that the peak is below what this machine can send.
    #[arg(long)]
    narrow: bool,
    /// A gateway of a running deployment, ws://host:port/ws or wss://host:port/ws; repeatable. Without it, a system is started
    /// for the run.
    #[arg(long, value_name = "URL", value_parser = gateway, conflicts_with_all = ["settings", "install", "narrow"])]
    gateway: Vec<String>,
    #[command(flatten)]
    tokens: Tokens,
    /// A setting of gateways and workers, such as limits.batch_messages_max=1000; may be given several times.
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = parse_setting)]
    settings: Vec<(String, String)>,
    /// Write the result to this file as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Install missing servers with apt-get, if allowed.
    #[arg(long)]
    install: bool,
}

impl Overload {
    pub(crate) async fn run(self) -> anyhow::Result<ExitCode> {
        anyhow::ensure!(
            self.connections > 0 && self.factor > 0.0 && self.seconds > 0.0,
            "--connections, --factor and --seconds must be above 0"
        );
        super::raise_file_limit();
        let overload = overload::Overload {
            connections: self.connections,
            factor: self.factor,
            seconds: self.seconds,
            texts_only: self.texts_only,
            narrow: self.narrow,
        };
        let bar = ProgressBar::new_spinner();
        bar.set_style(ProgressStyle::with_template("{elapsed} {wide_msg}")?);
        let report = match self.gateway.is_empty() {
            true => self.of_own_system(overload, &bar).await,
            false => self.of_deployment(overload, &bar).await,
        };
        bar.finish_and_clear();
        let report = report?;
        println!("{report}");
        if let Some(file) = self.json {
            std::fs::write(&file, serde_json::to_vec_pretty(&report)?)
                .with_context(|| file.display().to_string())?;
        }
        Ok(if report.is_good() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    async fn of_own_system(
        &self,
        overload: overload::Overload,
        bar: &ProgressBar,
    ) -> anyhow::Result<OverloadReport> {
        require(Install::when(self.install)).await?;
        bar.set_message("starting the system");
        let mut builder = Builder::new().unlimited();
        if self.narrow {
            builder = builder.linked().set("IM__LIMITS__BATCH_MESSAGES_MAX", 16);
        }
        let builder = self.settings.iter().fold(builder, |builder, (key, value)| builder.set(key, value));
        let mut system = builder.on_own_servers().await?;
        let report = overload::overload(&mut system, overload, |step| bar.set_message(step)).await;
        system.stop().await;
        report
    }

    /// Of users and groups with names of their own, which stay there.
    async fn of_deployment(
        &self,
        overload: overload::Overload,
        bar: &ProgressBar,
    ) -> anyhow::Result<OverloadReport> {
        let deployment = self.tokens.deployment(&self.gateway).await?;
        bar.set_message("making groups");
        let site = Site {
            gateways: deployment.gateways().to_vec(),
            credentials: deployment.credentials().clone(),
            prefix: deployment.name(""),
            system: None,
        };
        for (group, members) in site.groups(overload.connections) {
            deployment.make_group(&group, &members).await?;
        }
        overload::overload(site, overload, |step| bar.set_message(step)).await
    }
}
