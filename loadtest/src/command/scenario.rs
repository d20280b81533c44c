//! `loadtest scenario`, `storm` and `report`.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;
use loadtest::report::{Record, Run, plots, read_json};
use loadtest::scenario::{SCENARIOS, Scale, Scenario, Target, find};
use serde::Serialize;
use testbed::stack::{Install, parse_setting, require};

use super::deployed::{Tokens, gateway, without_secrets};
use super::glossary::GLOSSARY;
use super::output::{Output, exit_code, write_page};
use super::{raise_file_limit, until_interrupted, usage};

/// Run scenarios one after the other, each on a system of its own or against a running deployment: measure, judge, and draw.
#[derive(Debug, Args, Serialize)]
#[command(after_long_help = GLOSSARY)]
pub(crate) struct ScenarioArguments {
    /// Names of scenarios, or `all`; without a name, all are listed.
    names: Vec<String>,
    /// Share of the full size (connections, groups, messages): 0.1 for a quick look.
    #[arg(long, default_value_t = 1.0)]
    scale: f64,
    /// Messages per second that are taken as the peak by `steady` and `spike`. Without it, a burst measures the peak first.
    #[arg(long, requires = "names")]
    peak: Option<f64>,
    /// Number of gateways that are started, instead of the scenario's own number (two in most).
    #[arg(long, requires = "names")]
    gateways: Option<usize>,
    /// Number of workers that are started, likewise.
    #[arg(long, requires = "names")]
    workers: Option<usize>,
    /// A setting of the gateways and workers that are started, such as limits.batches_at_once=8; repeatable.
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = parse_setting, requires = "names")]
    #[serde(serialize_with = "without_secrets")]
    settings: Vec<(String, String)>,
    /// A gateway of a running deployment, ws://host:port/ws or wss://host:port/ws; repeatable. Without it, a system is started for each scenario.
    #[arg(
        long,
        value_name = "URL",
        value_parser = gateway,
        requires = "names",
        conflicts_with_all = ["settings", "install", "gateways", "workers"]
    )]
    gateway: Vec<String>,
    #[command(flatten)]
    #[serde(flatten)]
    tokens: Tokens,
    #[command(flatten)]
    #[serde(flatten)]
    output: Output,
    /// Install missing servers with apt-get, if allowed.
    #[arg(long, requires = "names")]
    install: bool,
}

/// The scenario `storm`: 2,000 users reconnect at the same moment, sync, and pull.
#[derive(Debug, Args)]
#[command(after_long_help = GLOSSARY)]
pub(crate) struct StormArguments {
    /// Share of the full size (2,000 users): 0.1 for a quick look.
    #[arg(long, default_value_t = 1.0)]
    scale: f64,
    /// A gateway of a running deployment, ws://host:port/ws or wss://host:port/ws; repeatable. Without it, a system is started for the run.
    #[arg(long, value_name = "URL", value_parser = gateway, conflicts_with = "install")]
    gateway: Vec<String>,
    #[command(flatten)]
    tokens: Tokens,
    #[command(flatten)]
    output: Output,
    /// Install missing servers with apt-get, if allowed.
    #[arg(long)]
    install: bool,
}

impl StormArguments {
    pub(crate) async fn run(self) -> anyhow::Result<ExitCode> {
        let Self { scale, gateway, tokens, output, install } = self;
        let storm = ScenarioArguments {
            names: vec!["storm".to_owned()],
            scale,
            peak: None,
            gateways: None,
            workers: None,
            settings: Vec::new(),
            gateway,
            tokens,
            output,
            install,
        };
        storm.run().await
    }
}

/// Draw what `--json` wrote.
#[derive(Debug, Args)]
pub(crate) struct ReportArguments {
    /// Files that `--json` wrote.
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// Write a page with all figures and plots to this file.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Write each plot as SCENARIO-PLOT.svg into this folder.
    #[arg(long, value_name = "FOLDER")]
    svg: Option<PathBuf>,
}

impl ScenarioArguments {
    pub(crate) async fn run(self) -> anyhow::Result<ExitCode> {
        let chosen = self.chosen()?;
        if chosen.is_empty() {
            for Scenario { name, about, needs_own, .. } in SCENARIOS {
                let mark = if needs_own.is_some() { "*" } else { " " };
                println!("{name:<22}{mark} {about}");
            }
            println!(
                "\n* needs a system of its own; all others also run against a running deployment (--gateway)"
            );
            return Ok(ExitCode::SUCCESS);
        }
        if self.gateway.is_empty() {
            require(Install::when(self.install)).await?;
        }
        raise_file_limit();
        let scale = Scale { factor: self.scale, peak: self.peak };
        let mut runs = Vec::new();
        for scenario in chosen {
            let run = until_interrupted(self.measure(scenario, &scale)).await.context(scenario.name)?;
            print!("{}", run.outcome);
            runs.push(run);
            // After each scenario, so that a later failure loses nothing.
            self.output.write(&runs)?;
        }
        Ok(exit_code(runs.iter().map(|run| run.outcome.conclusion())))
    }

    async fn measure(&self, scenario: &'static Scenario, scale: &Scale) -> anyhow::Result<Run> {
        let record = Record::new(serde_json::to_value(self)?, &self.gateway);
        let mut target = self.target(scenario).await?;
        let outcome = Box::pin(scenario.run(&mut target, scale)).await;
        if outcome.is_err() {
            target.keep_logs();
        }
        target.stop().await;
        let mut outcome = outcome?;
        if !self.gateway.is_empty() {
            outcome = outcome.without_performance_goals();
        }
        Ok(Run { record, outcome, figures: None })
    }

    async fn target(&self, scenario: &Scenario) -> anyhow::Result<Target> {
        if !self.gateway.is_empty() {
            return Ok(Target::given(self.tokens.deployment(&self.gateway).await?));
        }
        eprintln!("{}: starting a system", scenario.name);
        let mut builder = scenario.builder();
        if let Some(gateways) = self.gateways {
            builder = builder.gateways(gateways);
        }
        if let Some(workers) = self.workers {
            builder = builder.workers(workers);
        }
        let builder = self.settings.iter().fold(builder, |builder, (key, value)| builder.set(key, value));
        Ok(Target::own(builder.on_own_servers().await?))
    }

    /// The scenarios, after the options were checked against them.
    fn chosen(&self) -> anyhow::Result<Vec<&'static Scenario>> {
        if !(self.scale > 0.0 && self.scale <= 10.0) {
            return Err(usage("--scale is above 0 and at most 10"));
        }
        if [self.gateways, self.workers].contains(&Some(0)) {
            return Err(usage("--gateways and --workers are at least 1"));
        }
        let chosen: Vec<_> = if self.names.iter().any(|name| name == "all") {
            SCENARIOS.iter().collect()
        } else {
            let named =
                |name: &String| find(name).ok_or_else(|| usage(format!("there is no scenario {name}")));
            self.names.iter().map(named).collect::<anyhow::Result<_>>()?
        };
        self.check(&chosen)?;
        Ok(chosen)
    }

    /// Refuses scenarios that a running deployment cannot run, and options without effect.
    fn check(&self, chosen: &[&'static Scenario]) -> anyhow::Result<()> {
        if !self.gateway.is_empty() {
            let own: Vec<_> =
                chosen.iter().filter_map(|s| Some(format!("{} ({})", s.name, s.needs_own?))).collect();
            if !own.is_empty() {
                return Err(usage(format!(
                    "run without --gateway, on a system of their own: {}",
                    own.join(", ")
                )));
            }
        }
        if self.peak.is_some() && !chosen.iter().any(|scenario| scenario.needs_peak) {
            return Err(usage("--peak has no effect: only steady and spike need a peak"));
        }
        for (option, given) in
            [("--gateways", self.gateways.is_some()), ("--workers", self.workers.is_some())]
        {
            let fixed = chosen.iter().find(|scenario| given && scenario.fixes(option));
            if let Some(scenario) = fixed {
                return Err(usage(format!(
                    "{option} has no effect on {}: its number is fixed",
                    scenario.name
                )));
            }
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
            write_page(file, &runs)?;
        }
        if let Some(folder) = &self.svg {
            std::fs::create_dir_all(folder)?;
            for Run { outcome, .. } in &runs {
                for (name, plot) in plots(outcome) {
                    // A file of its own has no page that sets a background.
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

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Cli {
        #[command(flatten)]
        arguments: ScenarioArguments,
    }

    fn refused(line: &str) -> Option<String> {
        let words = std::iter::once("scenario").chain(line.split_whitespace());
        Cli::parse_from(words).arguments.chosen().err().map(|error| error.to_string())
    }

    #[test]
    fn what_a_running_deployment_cannot_do_is_refused_with_the_reason() {
        for (line, part) in [
            ("worker-away --gateway ws://h:1/ws", "worker-away (it stops workers)"),
            ("burst backlog --gateway ws://h:1/ws", "backlog (it stops workers)"),
            ("all --gateway ws://h:1/ws", "growth-history (it copies rows in MySQL"),
            ("burst --peak 1000", "--peak has no effect"),
            ("growth-gateways --gateways 3", "--gateways has no effect on growth-gateways"),
            ("worker-away --workers 1", "--workers has no effect on worker-away"),
            ("burst --scale 0", "--scale is above 0"),
            ("burst --workers 0", "at least 1"),
            ("nothing", "there is no scenario nothing"),
        ] {
            let sentence = refused(line).unwrap_or_default();
            assert!(sentence.contains(part), "{line}: {sentence}");
        }
        for line in
            ["", "burst steady --peak 1000", "idle storm --gateway ws://h:1/ws", "all", "burst --workers 3"]
        {
            assert_eq!(refused(line), None, "{line}");
        }
    }
}
