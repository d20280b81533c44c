//! The gateway process.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use gateway::app;
use gateway::config::Config;

#[cfg(feature = "jemalloc")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// The commit of this build. The environment of the compiler names it, since sources without their repository are built,
/// too; only this file depends on it.
const COMMIT: &str = match option_env!("IM_COMMIT") {
    Some(commit) => commit,
    None => "unknown",
};

/// Serves the clients of the chat backend over WebSocket and HTTP.
///
/// Every setting can be given in the configuration file or as an environment variable: `listen.address` is
/// IM__LISTEN__ADDRESS. See deploy/config/gateway.toml for all of them.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// Configuration file (TOML). Without it: defaults and environment.
    #[arg(long, value_name = "FILE", env = "IM_CONFIG")]
    config: Option<PathBuf>,
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    app::run(Config::load(arguments.config.as_deref()), COMMIT).await
}
