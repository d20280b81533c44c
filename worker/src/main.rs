//! The worker process: arguments, configuration, start, signal, drain.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::LazyLock;

use clap::{Parser, Subcommand};
use shared::config::ConfigError;
use shared::health_command::HealthCommand;
use shared::runtime;
use worker::app;
use worker::config::Config;
use worker::dead_letters_command::{self, DeadLettersCommand};

#[cfg(feature = "jemalloc")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

const COMMIT: &str = shared::build_commit!();

static VERSION: LazyLock<String> =
    LazyLock::new(|| format!("{} (commit {COMMIT})", env!("CARGO_PKG_VERSION")));

/// Commits chat messages from RabbitMQ to MySQL and announces them to the gateways. Without a command, it runs until
/// SIGTERM.
///
/// Each setting can be given in the configuration file or as an environment variable: `mysql.url` is IM__MYSQL__URL. See
/// deploy/config/worker.toml for all of them. After SIGTERM, the worker finishes its current batches and releases its
/// shards.
#[derive(Debug, Parser)]
#[command(version = VERSION.as_str())]
struct Arguments {
    /// Configuration file (TOML). Without it, defaults and environment apply.
    #[arg(long, value_name = "FILE", env = "IM_CONFIG", global = true)]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    #[command(subcommand)]
    DeadLetters(DeadLettersCommand),
    Health(HealthCommand),
}

fn main() -> ExitCode {
    let Arguments { config, command } = Arguments::parse();
    let load = move || Config::load(config.as_deref());
    // A configuration that cannot be used is reported where it is used.
    let threads = load().map(|config| config.runtime).unwrap_or_default();
    runtime::run("worker", threads, run(command, load))
}

async fn run(
    command: Option<Command>,
    load: impl Fn() -> Result<Config, ConfigError> + Send + Sync + 'static,
) -> ExitCode {
    match command {
        None => app::run(Box::new(load), COMMIT).await,
        Some(Command::Health(command)) => {
            command.run("worker", load().map(|config| config.ops.address)).await
        }
        Some(Command::DeadLetters(command)) => dead_letters_command::run(command, load()).await,
    }
}
