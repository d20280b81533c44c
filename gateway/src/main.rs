//! The gateway's process: arguments, configuration, start, signal, drain.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use gateway::app::App;
use gateway::config::Config;
use shared::config::ConfigError;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Exit code for a configuration that cannot be used, as in sysexits.h.
const EX_CONFIG: u8 = 78;

/// Takes WebSocket clients of the chat backend.
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
    let config: Config = match shared::config::load(arguments.config.as_deref()).and_then(Config::validated) {
        Ok(config) => config,
        Err(error) => {
            eprintln!("gateway: {error}");
            return ExitCode::from(EX_CONFIG);
        }
    };
    match run(config).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("gateway: {}", shared::telemetry::error_line(error.as_ref()));
            if error.is::<ConfigError>() { ExitCode::from(EX_CONFIG) } else { ExitCode::FAILURE }
        }
    }
}

async fn run(config: Config) -> anyhow::Result<()> {
    shared::telemetry::init_logs(&config.log)?;
    shared::telemetry::init_tls();
    let stop = shared::shutdown::signal();
    tokio::pin!(stop);
    let app = tokio::select! {
        started = App::start(config) => started?,
        stopped = &mut stop => return Ok(stopped?),
    };
    stop.await?;
    app.drain().await;
    Ok(())
}
