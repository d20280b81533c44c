//! The gateway process.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::LazyLock;

use clap::{Parser, Subcommand};
use gateway::app;
use gateway::config::Config;
use shared::config::ConfigError;
use shared::health_command::HealthCommand;
use shared::runtime;

#[cfg(feature = "jemalloc")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

const COMMIT: &str = shared::build_commit!();

static VERSION: LazyLock<String> =
    LazyLock::new(|| format!("{} (commit {COMMIT})", env!("CARGO_PKG_VERSION")));

/// Serves the clients of the chat backend over WebSocket and HTTP. Without a command, it runs until SIGTERM.
///
/// Every setting can be given in the configuration file or as an environment variable: `listen.address` is
/// IM__LISTEN__ADDRESS. See deploy/config/gateway.toml for all of them.
#[derive(Debug, Parser)]
#[command(version = VERSION.as_str())]
struct Arguments {
    /// Configuration file (TOML). Without it: defaults and environment.
    #[arg(long, value_name = "FILE", env = "IM_CONFIG", global = true)]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    Health(HealthCommand),
}

fn main() -> ExitCode {
    let Arguments { config, command } = Arguments::parse();
    let load = move || Config::load(config.as_deref());
    // A configuration that cannot be used is reported where it is used.
    let threads = load().map(|config| config.runtime).unwrap_or_default();
    runtime::run("gateway", threads, run(command, load))
}

async fn run(
    command: Option<Command>,
    load: impl Fn() -> Result<Config, ConfigError> + Send + Sync + 'static,
) -> ExitCode {
    match command {
        None => app::run(Box::new(load), COMMIT).await,
        Some(Command::Health(command)) => {
            command.run("gateway", load().map(|config| config.ops.address)).await
        }
    }
}
