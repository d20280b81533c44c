//! `loadtest scenario` and `loadtest report`.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;
use loadtest::report::{Record, Run, page, plots, read_json, write_json};
use loadtest::scenario::{SCENARIOS, Scale, Scenario, find};
use testbed::stack::{Install, require};

use super::interrupted;
use super::load::setting;
use super::raise_file_limit;

/// Runs scenarios one after the other, each on a system of its own; measures, judges, and draws.
#[derive(Debug, Args)]
pub(crate) struct ScenarioArguments {
    /// Which; without a name they are listed. `all` for all.
    names: Vec<String>,
    /// Share of the full size (connections, groups, messages): 0.1 for a quick look.
    #[arg(long, default_value_t = 1.0)]
    scale: f64,
    /// Messages per second taken for the peak, where one is needed. Without it a burst finds it out first.
    #[arg(long)]
    peak: Option<f64>,
    /// How many gateways run, instead of the scenario's own number (two in most).
    #[arg(long)]
    gateways: Option<usize>,
    /// How many workers, likewise.
    #[arg(long)]
    workers: Option<usize>,
    /// A setting of gateways and workers, such as limits.batches_at_once=8; may be given several times.
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = setting)]
    settings: Vec<(String, String)>,
    /// Write everything to this file as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write one page with all figures and plots.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Install missing servers with apt-get, if allowed.
    #[arg(long)]
    install: bool,
}

/// Everyone comes back at once and syncs: the scenario of that name.
#[derive(Debug, Args)]
pub(crate) struct StormArguments {
    /// Share of the full size (2,000 users): 0.1 for a quick look.
    #[arg(long, default_value_t = 1.0)]
    scale: f64,
    /// Write everything to this file as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Install missing servers with apt-get, if allowed.
    #[arg(long)]
    install: bool,
}

impl StormArguments {
    pub(crate) async fn run(self) -> anyhow::Result<ExitCode> {
        let Self { scale, json, install } = self;
        let names = vec!["storm".to_owned()];
        let storm = ScenarioArguments {
            names,
            scale,
            peak: None,
            gateways: None,
            workers: None,
            settings: Vec::new(),
            json,
            html: None,
            install,
        };
        storm.run().await
    }
}

/// Draws what `scenario --json` wrote.
#[derive(Debug, Args)]
pub(crate) struct ReportArguments {
    /// What to draw.
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// Write one page with all figures and plots.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Write each plot as SCENARIO-PLOT.svg into this folder.
    #[arg(long, value_name = "FOLDER")]
    svg: Option<PathBuf>,
}

impl ScenarioArguments {
    pub(crate) async fn run(self) -> anyhow::Result<ExitCode> {
        anyhow::ensure!(self.scale > 0.0 && self.scale <= 10.0, "--scale is above 0 and at most 10");
        let some = [self.gateways, self.workers].iter().all(|count| *count != Some(0));
        anyhow::ensure!(some, "--gateways and --workers are at least 1");
        let chosen = self.chosen()?;
        if chosen.is_empty() {
            for Scenario { name, about, .. } in SCENARIOS {
                println!("{name:<22} {about}");
            }
            return Ok(ExitCode::SUCCESS);
        }
        require(if self.install { Install::Allowed } else { Install::No })?;
        raise_file_limit();
        let stop = interrupted();
        tokio::pin!(stop);
        let scale = Scale { factor: self.scale, peak: self.peak };
        let mut runs = Vec::new();
        for scenario in chosen {
            // Dropped half way, the system takes with it whatever it had started.
            let run = tokio::select! {
                run = Box::pin(self.measure(scenario, &scale)) => run.with_context(|| scenario.name)?,
                stopped = &mut stop => {
                    stopped?;
                    return Ok(ExitCode::FAILURE);
                }
            };
            print!("{}", run.outcome);
            runs.push(run);
            self.write(&runs)?;
        }
        let kept = runs.iter().all(|run| run.outcome.is_kept());
        Ok(if kept { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    async fn measure(&self, scenario: &'static Scenario, scale: &Scale) -> anyhow::Result<Run> {
        let record = Record::here_and_now();
        eprintln!("{}: bringing a system up", scenario.name);
        let mut builder = scenario.builder();
        if let Some(gateways) = self.gateways {
            builder = builder.gateways(gateways);
        }
        if let Some(workers) = self.workers {
            builder = builder.workers(workers);
        }
        let builder = self.settings.iter().fold(builder, |builder, (key, value)| builder.set(key, value));
        let mut system = builder.on_own_servers().await?;
        let outcome = scenario.run(&mut system, scale).await;
        if outcome.is_err() {
            system.keep_logs();
        }
        system.stop().await;
        Ok(Run { record, outcome: outcome? })
    }

    fn chosen(&self) -> anyhow::Result<Vec<&'static Scenario>> {
        if self.names.iter().any(|name| name == "all") {
            return Ok(SCENARIOS.iter().collect());
        }
        let find = |name: &String| find(name).with_context(|| format!("there is no scenario {name}"));
        self.names.iter().map(find).collect()
    }

    /// After each scenario, so that a later one that fails takes nothing along.
    fn write(&self, runs: &[Run]) -> anyhow::Result<()> {
        if let Some(file) = &self.json {
            write_json(file, runs)?;
        }
        if let Some(file) = &self.html {
            std::fs::write(file, page(runs)).with_context(|| file.display().to_string())?;
        }
        Ok(())
    }
}

impl ReportArguments {
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        let mut runs = Vec::new();
        for file in &self.files {
            runs.extend(read_json(file)?);
        }
        if let Some(file) = &self.html {
            std::fs::write(file, page(&runs)).with_context(|| file.display().to_string())?;
        }
        if let Some(folder) = &self.svg {
            std::fs::create_dir_all(folder)?;
            for Run { outcome, .. } in &runs {
                for (name, plot) in plots(outcome) {
                    // Alone, it has no page that would give it a ground.
                    let svg = plot.svg().replacen("<svg ", "<svg style=\"background:#fff\" ", 1);
                    std::fs::write(folder.join(format!("{}-{name}.svg", outcome.name)), svg)?;
                }
            }
        }
        for run in &runs {
            print!("{}", run.outcome);
        }
        Ok(ExitCode::SUCCESS)
    }
}
