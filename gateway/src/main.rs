//! The gateway process.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::LazyLock;

use clap::{Parser, Subcommand};
use gateway::app;
use gateway::config::Config;
use shared::health_command::HealthCommand;

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

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let load = move || Config::load(arguments.config.as_deref());
    match arguments.command {
        None => app::run(Box::new(load), COMMIT).await,
        Some(Command::Health(command)) => {
            command.run("gateway", load().map(|config| config.ops.address)).await
        }
    }
}
