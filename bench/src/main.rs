//! `instructions`: counts the instructions of the hot functions, and compares with the counts that are stored.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use bench::instructions::{Counts, count, dearer};
use clap::{Parser, Subcommand};

#[derive(Debug, Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run one case so many times; what valgrind looks at.
    Run { case: String, repetitions: u64 },
    /// Count, and fail if something became dearer than it was.
    Check { file: PathBuf },
    /// Count, and store the counts.
    Store { file: PathBuf },
}

fn main() -> anyhow::Result<ExitCode> {
    match Arguments::parse().command {
        Command::Run { case, repetitions } => {
            let case = bench::find(&case).with_context(|| format!("there is no case {case}"))?;
            let mut run = (case.prepare)();
            (0..repetitions).for_each(|_| run());
        }
        Command::Check { file } => {
            let text = std::fs::read(&file).with_context(|| file.display().to_string())?;
            let (before, now): (Counts, Counts) = (serde_json::from_slice(&text)?, count()?);
            show(&now, &before);
            let dearer = dearer(&before, &now);
            if !dearer.is_empty() {
                dearer.iter().for_each(|line| eprintln!("{line}"));
                eprintln!(
                    "mend it, or store the new counts and say why: instructions store {}",
                    file.display()
                );
                return Ok(ExitCode::FAILURE);
            }
        }
        Command::Store { file } => {
            let now = count()?;
            show(&now, &now);
            std::fs::write(&file, serde_json::to_vec_pretty(&now)?)
                .with_context(|| file.display().to_string())?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn show(now: &Counts, before: &Counts) {
    for (name, count) in now {
        println!("{name:<40} {count:>9}  (stored {})", before.get(name).copied().unwrap_or_default());
    }
}
