//! `loadtest chaos`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use chaos::{Cluster, Course, Fault, Injection, Options, Outcome, Progress, run};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use testbed::stack::{Builder, Install, require_for_chaos};

/// Inject faults while messages flow, and judge whether every promise was kept.
///
/// Starts gateways and two workers on private servers, with a wire between each two that can be cut. Every other
/// conversation has edits and reactions between its texts. Senders retry messages without an answer; readers apply pushes and pull from their cursors. In the end the judge compares what was
/// accepted, stored and read. Exit code 0: nothing is lost, duplicated or reordered, and every connection receives pushes.
#[derive(Debug, Args)]
pub(crate) struct Chaos {
    /// Inject this fault (see --list), or `all` of them, one after the other; may be given several times.
    #[arg(long, value_name = "NAME", conflicts_with = "minutes")]
    fault: Vec<String>,
    /// Inject a random mix of faults for this time.
    #[arg(long, default_value_t = 1.0)]
    minutes: f64,
    /// Seed of the random choices: the mix, and the gateway or worker of each fault.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Messages per second in all; five times as many in the last of each ten seconds.
    #[arg(long, default_value_t = 200.0)]
    per_second: f64,
    /// Number of gateways. With four or more, events of private chats and small groups go only to those of their members.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=32))]
    gateways: u16,
    /// The fewest readers; twenty are in a group.
    #[arg(long, default_value_t = 15)]
    readers: usize,
    /// List the faults.
    #[arg(long)]
    list: bool,
    /// Write the result to this file as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Run the first gateway and the first worker of another version, from this folder.
    #[arg(long, value_name = "FOLDER")]
    previous: Option<PathBuf>,
    /// The folder of logs and data, which stays. Without it: a temporary folder.
    #[arg(long, value_name = "FOLDER")]
    data: Option<PathBuf>,
    /// Install missing servers with apt-get, if allowed.
    #[arg(long)]
    install: bool,
}

impl Chaos {
    pub(crate) async fn run(self) -> anyhow::Result<ExitCode> {
        if self.list {
            Fault::all().for_each(|fault| println!("{:<28} {}", fault.name(), fault.description()));
            return Ok(ExitCode::SUCCESS);
        }
        anyhow::ensure!(
            self.per_second > 0.0 && self.minutes > 0.0,
            "--per-second and --minutes must be above 0"
        );
        super::raise_file_limit();
        require_for_chaos(Install::when(self.install)).await?;
        let course = self.course()?;
        let has = |fault| matches!(&course, Course::Each(faults) if faults.contains(&fault));
        anyhow::ensure!(
            self.previous.is_some() || !has(Fault::VersionChange),
            "version-change needs --previous"
        );
        let builder = self.builder(&course);
        let options = Options { course, seed: self.seed, per_second: self.per_second, readers: self.readers };
        let outcome = run_shown(builder, &options, Some(Injection::HEAD)).await?;
        if let Some(file) = self.json {
            std::fs::write(&file, serde_json::to_vec_pretty(&outcome)?)
                .with_context(|| file.display().to_string())?;
        }
        Ok(if outcome.is_good() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    fn course(&self) -> anyhow::Result<Course> {
        if self.fault.is_empty() {
            return Ok(Course::Mix(Duration::from_secs_f64(self.minutes * 60.0)));
        }
        let mut faults = Vec::new();
        for name in &self.fault {
            match name.as_str() {
                "all" => faults.extend(Fault::all().filter(|fault| !fault.needs_own_system())),
                name => faults.push(name.parse().map_err(anyhow::Error::msg)?),
            }
        }
        anyhow::ensure!(
            faults.len() == 1 || !faults.contains(&Fault::DiskFull),
            "give disk-full alone: MySQL's small disk ends with MySQL, which other faults kill"
        );
        let clusters: Vec<Cluster> = faults.iter().filter_map(|fault| fault.cluster()).collect();
        anyhow::ensure!(
            clusters.is_empty() || !faults.iter().any(|f| matches!(f, Fault::Wire(..))),
            "faults of clusters and faults of wires cannot be combined: the connections to a cluster are not wires of the testbed"
        );
        anyhow::ensure!(
            clusters.iter().all(|one| clusters.iter().all(|other| one.fits(*other))),
            "give faults of one kind of Redis and one kind of MySQL: Sentinel or Cluster, HAProxy or none"
        );
        Ok(Course::Each(faults))
    }

    fn builder(&self, course: &Course) -> Builder {
        let has = |fault| matches!(course, Course::Each(faults) if faults.contains(&fault));
        let mut builder = Builder::new().gateways(self.gateways.into()).unlimited().many_shards().linked();
        if has(Fault::DiskFull) {
            builder = builder.small_disk();
        }
        if let Course::Each(faults) = course {
            let clusters = faults.iter().filter_map(|fault| fault.cluster());
            builder = clusters.fold(builder, |builder, cluster| cluster.of(builder));
        }
        builder = match &self.previous {
            // It may not know the change feed.
            Some(folder) => builder.previous(folder),
            None => builder.webhooks().notifications(),
        };
        if let Some(folder) = &self.data {
            builder = builder.folder(folder);
        }
        builder
    }
}

/// Runs the faults of `options` on a system of its own, with its progress on the terminal; `head` stands above the faults.
pub(super) async fn run_shown(
    builder: Builder,
    options: &Options,
    head: Option<&str>,
) -> anyhow::Result<Outcome> {
    let bar = ProgressBar::new_spinner();
    bar.set_style(ProgressStyle::with_template("{elapsed} {wide_msg}")?);
    bar.set_message("starting the system");
    let mut system = builder.on_own_servers().await?;
    if let Some(head) = head {
        bar.suspend(|| println!("{head}"));
    }
    let tell = |progress: Progress<'_>| match progress {
        Progress::Step(text) => bar.set_message(text),
        Progress::Injected(injection) => bar.suspend(|| println!("{injection}")),
    };
    let outcome = run(&mut system, options, tell).await;
    bar.finish_and_clear();
    if !outcome.as_ref().is_ok_and(Outcome::is_good) {
        system.keep_logs();
    }
    system.stop().await;
    let outcome = outcome?;
    println!("{outcome}");
    Ok(outcome)
}
