//! `loadtest`: brings the system up, loads it, and judges it.

mod command;

use std::process::ExitCode;

use clap::Parser;

/// Exit code of options that cannot be used; clap has the same.
const USAGE: u8 = 2;
/// Exit code of a run that could not be completed. 1 is a broken promise.
const FAILED: u8 = 4;

/// Brings the whole chat system up on this machine, loads it, and judges what it did.
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
