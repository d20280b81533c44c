//! The worker process: arguments, configuration, start, signal, drain.

mod dead_letters_command;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use dead_letters_command::DeadLettersCommand;
use shared::process;
use worker::app::App;
use worker::config::Config;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Commits chat messages from RabbitMQ to MySQL and announces them to the gateways. Without a command, it runs until
/// SIGTERM.
///
/// Each setting can be given in the configuration file or as an environment variable: `mysql.url` is IM__MYSQL__URL. See
/// deploy/config/worker.toml for all of them. After SIGTERM, the worker finishes its current batches and releases its
/// shards.
#[derive(Debug, Parser)]
#[command(version)]
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
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let config = Config::load(arguments.config.as_deref());
    process::run("worker", config, async |config| match arguments.command {
        None => process::serve(config.log.clone(), Box::pin(start(config)), stop).await,
        Some(Command::DeadLetters(command)) => {
            shared::telemetry::init_tls();
            command.run(&config).await
        }
    })
    .await
}

async fn start(config: Config) -> anyhow::Result<App> {
    Ok(App::start(config).await?)
}

async fn stop(app: App) {
    tracing::info!("The worker stops; it finishes its current batches and releases its shards");
    app.stop().await;
}
