//! `loadtest chaos`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use chaos::{Course, Fault, Inflicted, News, Options, Outcome, run};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use testbed::stack::{Builder, Install, System, require_for_chaos};

/// Break things while messages flow, and judge whether every promise was kept.
///
/// Two gateways and two workers on servers of their own, with a wire that can be cut between each two. Senders send again
/// what was not answered; readers apply pushes and pull from their cursors. In the end everything is compared. Exit code 0:
/// nothing lost, doubled, reordered, nobody deaf.
#[derive(Debug, Args)]
pub(crate) struct Chaos {
    /// Do these faults, one after the other (see --list); may be given several times, or `all`.
    #[arg(long, value_name = "NAME", conflicts_with = "minutes")]
    fault: Vec<String>,
    /// Do a random mix of faults for so long.
    #[arg(long, default_value_t = 1.0)]
    minutes: f64,
    /// Decides the mix, and which gateway or worker is concerned.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Messages per second in all, five times as many in the last second of each ten.
    #[arg(long, default_value_t = 200.0)]
    per_second: f64,
    /// Readers at least, twenty to a group.
    #[arg(long, default_value_t = 15)]
    readers: usize,
    /// Say what faults there are.
    #[arg(long)]
    list: bool,
    /// Write the outcome to this file as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// The first gateway and the first worker are another version's, which are in this folder.
    #[arg(long, value_name = "FOLDER")]
    previous: Option<PathBuf>,
    /// Keep logs and data here.
    #[arg(long, value_name = "FOLDER")]
    data: Option<PathBuf>,
    /// Install missing servers with apt-get, if allowed.
    #[arg(long)]
    install: bool,
}

impl Chaos {
    pub(crate) async fn run(self) -> anyhow::Result<ExitCode> {
        if self.list {
            Fault::all().for_each(|fault| println!("{:<24} {}", fault.name(), fault.what()));
            return Ok(ExitCode::SUCCESS);
        }
        anyhow::ensure!(
            self.per_second > 0.0 && self.minutes > 0.0,
            "--per-second and --minutes must be above 0"
        );
        super::raise_file_limit();
        require_for_chaos(if self.install { Install::Allowed } else { Install::No })?;
        let course = self.course()?;
        let changes = matches!(&course, Course::Each(faults) if faults.contains(&Fault::VersionChange));
        anyhow::ensure!(!changes || self.previous.is_some(), "version-change needs --previous");
        let disk_full = matches!(&course, Course::Each(faults) if faults.contains(&Fault::DiskFull));
        let options = Options { course, seed: self.seed, per_second: self.per_second, readers: self.readers };
        let bar = ProgressBar::new_spinner();
        bar.set_style(ProgressStyle::with_template("{elapsed} {wide_msg}")?);
        bar.set_message("bringing the system up");
        let mut system = self.bring_up(disk_full).await?;
        bar.suspend(|| println!("{}", Inflicted::HEAD));
        let news = |news: News<'_>| match news {
            News::Doing(what) => bar.set_message(what),
            News::Done(done) => bar.suspend(|| println!("{done}")),
        };
        let outcome = run(&mut system, &options, news).await;
        bar.finish_and_clear();
        if !outcome.as_ref().is_ok_and(Outcome::is_good) {
            system.keep_logs();
        }
        system.stop().await;
        let outcome = outcome?;
        println!("{outcome}");
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
                // Its disk does not outlive MySQL, which others kill.
                "all" => faults.extend(
                    Fault::all().filter(|fault| !matches!(fault, Fault::DiskFull | Fault::VersionChange)),
                ),
                name => faults.push(name.parse().map_err(anyhow::Error::msg)?),
            }
        }
        anyhow::ensure!(
            faults.len() == 1 || !faults.contains(&Fault::DiskFull),
            "disk-full must be alone: MySQL's small disk is gone when MySQL is"
        );
        Ok(Course::Each(faults))
    }

    async fn bring_up(&self, disk_full: bool) -> anyhow::Result<System> {
        let mut builder = Builder::new().unlimited().many_shards().linked();
        if disk_full {
            builder = builder.small_disk();
        }
        if let Some(folder) = &self.previous {
            builder = builder.previous(folder);
        }
        if let Some(folder) = &self.data {
            builder = builder.folder(folder);
        }
        builder.on_own_servers().await
    }
}
