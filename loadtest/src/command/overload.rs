//! `loadtest overload`.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use chaos::overload;
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use testbed::stack::{Builder, Install, require};

use super::deployed::setting;

/// Send several times what the system can take, and see that everyone is answered in time.
///
/// Measures the peak first. Exit code 0: every request was answered with 0, 429 or 503 by its deadline, and what was
/// accepted is stored once.
#[derive(Debug, Args)]
pub(crate) struct Overload {
    #[arg(long, default_value_t = 200)]
    connections: usize,
    /// How many times what the system can take.
    #[arg(long, default_value_t = 3.0)]
    factor: f64,
    #[arg(long, default_value_t = 60.0)]
    seconds: f64,
    /// Long wires to RabbitMQ, so that the system can take less than this machine can send.
    #[arg(long)]
    narrow: bool,
    /// A setting of gateways and workers, such as limits.batch_messages_max=1000; may be given several times.
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = setting)]
    settings: Vec<(String, String)>,
    /// Write the outcome to this file as JSON.
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
        require(if self.install { Install::Allowed } else { Install::No })?;
        let bar = ProgressBar::new_spinner();
        bar.set_style(ProgressStyle::with_template("{elapsed} {wide_msg}")?);
        bar.set_message("bringing the system up");
        let mut builder = Builder::new().unlimited();
        if self.narrow {
            builder = builder.linked().set("IM__LIMITS__BATCH_MESSAGES_MAX", 16);
        }
        let builder = self.settings.iter().fold(builder, |builder, (key, value)| builder.set(key, value));
        let mut system = builder.on_own_servers().await?;
        let how = overload::Overload {
            connections: self.connections,
            factor: self.factor,
            seconds: self.seconds,
            narrow: self.narrow,
        };
        let endured = overload::overload(&mut system, how, |what| bar.set_message(what)).await;
        bar.finish_and_clear();
        system.stop().await;
        let endured = endured?;
        println!("{endured}");
        if let Some(file) = self.json {
            std::fs::write(&file, serde_json::to_vec_pretty(&endured)?)
                .with_context(|| file.display().to_string())?;
        }
        Ok(if endured.is_good() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}
