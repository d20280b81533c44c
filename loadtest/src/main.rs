//! `loadtest`: starts a system or takes a running deployment, loads it, and judges it.

mod command;

use std::process::ExitCode;

use clap::Parser;

/// Exit code of options that cannot be used; clap has the same.
const USAGE: u8 = 2;
/// Exit code of a run that could not be completed. 1 is a broken promise.
const FAILED: u8 = 4;

/// Start the chat system on this machine, or take a running deployment; load it, break it, measure it, and judge whether
/// every promise was kept. `loadtest burst --help` explains the words.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: command::Command,
}

#[tokio::main]
async fn main() -> ExitCode {
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .with_writer(std::io::stderr)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
        .init();
    match Arguments::parse().command.run().await {
        Ok(code) => code,
        Err(error) => {
            eprintln!("loadtest: {error:#}");
            ExitCode::from(if error.is::<command::Usage>() { USAGE } else { FAILED })
        }
    }
}
