//! The worker's process: arguments, configuration, start, signal, drain.

mod dead_letters_command;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use dead_letters_command::DeadLetters;
use worker::app::App;
use worker::config::Config;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Commits chat messages from RabbitMQ to MySQL and announces them to the gateways. Without a command: until SIGTERM.
///
/// Every setting can be given in the configuration file or as an environment variable: `mysql.url` is IM__MYSQL__URL.
/// See deploy/config/worker.toml for all of them. SIGTERM stops in order: shards are given up, batches at hand finished.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// Configuration file (TOML). Without it: defaults and environment.
    #[arg(long, value_name = "FILE", env = "IM_CONFIG", global = true)]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    #[command(subcommand)]
    DeadLetters(DeadLetters),
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let config = match Config::load(arguments.config.as_deref()) {
        Ok(config) => config,
        Err(error) => {
            eprintln!("worker: {error}");
            // EX_CONFIG of sysexits.h.
            return ExitCode::from(78);
        }
    };
    let done = match arguments.command {
        None => run(config).await,
        Some(Command::DeadLetters(command)) => {
            shared::telemetry::init_tls();
            command.run(&config).await
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("worker: {}", shared::telemetry::error_line(error.as_ref()));
            ExitCode::FAILURE
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
    tracing::info!("stopping");
    app.stop().await;
    Ok(())
}
