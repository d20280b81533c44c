//! `loadtest everyday`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use loadtest::everyday::{Everyday, EverydayPlan, GOALS, measure_everyday};
use loadtest::report::Record;
use serde::Serialize;
use testbed::stack::{Install, parse_setting, require};

use super::deployed::without_secrets;
use super::glossary::GLOSSARY;
use super::output::write_figures;
use super::{raise_file_limit, until_interrupted, usage};

/// Measure latency and processor time per message at everyday rates, by turns with another build if wanted.
///
/// Ten groups of five connected members, all of which send at fixed times (open loop). The load of each rate is judged. Each
/// build has servers of its own; its gateways and workers run during its turns only.
#[derive(Debug, Args, Serialize)]
#[command(after_long_help = GLOSSARY)]
pub(crate) struct EverydayArguments {
    /// Messages per second, one load each.
    #[arg(long, value_delimiter = ',', default_values_t = GOALS.map(|goal| goal.rate))]
    rates: Vec<f64>,
    /// Seconds of each load.
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
    /// Rounds; in each, every build has one turn.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Seconds of observation with 1,000 idle connections after the loads; 0: none.
    #[arg(long, default_value_t = 30.0, allow_negative_numbers = true)]
    rest_seconds: f64,
    /// The folder of another build's programs gateway and worker, such as target/release of another checkout.
    #[arg(long, value_name = "FOLDER")]
    against: Option<PathBuf>,
    /// A setting of this build's gateways and workers, such as limits.batches_at_once=8; repeatable.
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = parse_setting)]
    #[serde(serialize_with = "without_secrets")]
    settings: Vec<(String, String)>,
    /// A setting of the other build's gateways and workers; repeatable.
    #[arg(long = "against-set", value_name = "KEY=VALUE", value_parser = parse_setting, requires = "against")]
    #[serde(serialize_with = "without_secrets")]
    against_settings: Vec<(String, String)>,
    /// Write all figures, those of each turn too, to this file as JSON.
    #[arg(long, value_name = "FILE")]
    #[serde(skip)]
    json: Option<PathBuf>,
    /// Install missing servers with apt-get, if allowed.
    #[arg(long)]
    install: bool,
}

#[derive(Serialize)]
struct Written<'a> {
    record: Record,
    everyday: &'a Everyday,
}

impl EverydayArguments {
    pub(crate) async fn run(self) -> anyhow::Result<ExitCode> {
        let plan = self.plan()?;
        let record = Record::new(serde_json::to_value(&self)?, &[]);
        require(Install::when(self.install)).await?;
        raise_file_limit();
        let measuring = measure_everyday(&plan, |line| eprintln!("{line}"));
        let everyday = Box::pin(until_interrupted(measuring)).await?;
        println!("{everyday}");
        write_figures(self.json.as_deref(), &Written { record, everyday: &everyday })?;
        Ok(ExitCode::SUCCESS)
    }

    fn plan(&self) -> anyhow::Result<EverydayPlan> {
        if self.rounds == 0 || self.rates.is_empty() {
            return Err(usage("--rounds must be above 0, and --rates needs at least one rate"));
        }
        if !self.rates.iter().all(|rate| (1.0..=1_000_000.0).contains(rate)) {
            return Err(usage("each of --rates is between 1 and 1000000"));
        }
        if !(1.0..=3_600.0).contains(&self.seconds) || !(0.0..=3_600.0).contains(&self.rest_seconds) {
            return Err(usage("--seconds is between 1 and 3600, --rest-seconds between 0 and 3600"));
        }
        if let Some(folder) = &self.against {
            for program in ["gateway", "worker"] {
                if !folder.join(program).is_file() {
                    return Err(usage(format!(
                        "--against: there is no {program} in {}; build it with cargo build --release --bins",
                        folder.display()
                    )));
                }
            }
        }
        Ok(EverydayPlan {
            rates: self.rates.clone(),
            seconds: self.seconds,
            rounds: self.rounds,
            rest_seconds: self.rest_seconds,
            settings: self.settings.clone(),
            against: self.against.clone(),
            against_settings: self.against_settings.clone(),
        })
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Cli {
        #[command(flatten)]
        arguments: EverydayArguments,
    }

    #[test]
    fn what_cannot_be_measured_is_refused_with_the_reason() {
        for (line, part) in [
            ("--rounds 0", "--rounds must be above 0"),
            ("--rates 0", "each of --rates"),
            ("--rates 500,NaN", "each of --rates"),
            ("--seconds 0", "--seconds is between"),
            ("--rest-seconds -1", "--rest-seconds between"),
            ("--against /nonexistent", "there is no gateway in /nonexistent"),
        ] {
            let words = ["everyday"].into_iter().chain(line.split_whitespace());
            let refused = Cli::try_parse_from(words).map_err(|error| error.to_string());
            let sentence = match refused {
                Ok(cli) => cli.arguments.plan().err().map(|error| error.to_string()).unwrap_or_default(),
                Err(sentence) => sentence,
            };
            assert!(sentence.contains(part), "{line}: {sentence}");
        }
        let plan = Cli::parse_from(["everyday"]).arguments.plan().unwrap();
        assert_eq!((plan.rates.len(), plan.rounds), (GOALS.len(), 3));
        assert!(
            Cli::try_parse_from(["everyday", "--against-set", "runtime.threads=1"]).is_err(),
            "without --against"
        );
    }
}
