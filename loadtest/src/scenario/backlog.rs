//! Messages that wait in the queue because no worker runs.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::load::{FIFTY_SENDERS, Load, Rate};
use super::outcome::{Goal, Outcome, Sample};
use super::run::run;
use super::sampler::Sampler;
use super::scale::Scale;
use super::steady::{as_f64, gone_after};
use super::target::Target;
use testbed::client::Report;
use testbed::meter::Used;

const WORKERS: usize = 2;
const AWAY_FROM: Duration = Duration::from_secs(10);
const AWAY_FOR: Duration = Duration::from_secs(30);
const AWAY_SECONDS: f64 = 70.0;
const AWAY_PER_SECOND: f64 = 3_000.0;
const MILLION: usize = 1_000_000;

/// All workers are killed for 30 s while messages are sent.
pub(super) async fn worker_away(target: &mut Target, scale: &Scale) -> anyhow::Result<Outcome> {
    let (report, deployment) = (Arc::new(Report::default()), target.deployment().clone());
    let sampler = Sampler::start("worker-away", target, &report).await?;
    let system = target.system()?;
    let rate = Rate { per_second: AWAY_PER_SECOND * scale.factor, seconds: AWAY_SECONDS, spike: None };
    let load = Load { rate: Some(rate), listeners: 1, ..FIFTY_SENDERS };
    let faults = async {
        tokio::time::sleep(AWAY_FROM).await;
        for n in 0..WORKERS {
            system.worker(n).kill();
        }
        sampler.mark("workers killed");
        tokio::time::sleep(AWAY_FOR).await;
        let back = sampler.elapsed_s();
        sampler.mark("workers started");
        for n in 0..WORKERS {
            system.worker(n).start_again().await?;
        }
        sampler.update_processes(system);
        anyhow::Ok(back)
    };
    let running = Box::pin(run(&load, &deployment, "away", &report, Used::default));
    let (figures, back) = tokio::try_join!(running, faults)?;
    let (samples, marks) = sampler.finish();
    let gone = gone_after(&samples, back, rate.per_second * 0.25).unwrap_or(f64::INFINITY);
    let most = samples.iter().map(backlog_of).fold(0.0, f64::max);
    let mut outcome = Outcome { samples, marks, load: serde_json::to_value(&load)?, ..Outcome::default() };
    outcome.what = format!(
        "{:.0} messages/s for {AWAY_SECONDS:.0} s; both workers killed at 10 s and started again at 40 s",
        rate.per_second
    );
    outcome.figure("messages lost", as_f64(figures.verdict.lost as u64), "", Some(Goal::Exactly(0.0)));
    outcome.figure("largest backlog", most, "messages", None);
    outcome.figure("backlog gone after the workers' start", gone, "s", None);
    outcome.figure("ack p50, workers away or not", figures.ack.at(50.0), "ms", None);
    outcome.figure("ack p99, workers away or not", figures.ack.at(99.0), "ms", None);
    outcome.figure("messages refused and sent again", as_f64(figures.refused), "times", None);
    figures.add_to(&mut outcome);
    outcome.latencies.push(figures.ack);
    Ok(outcome)
}

fn backlog_of(sample: &Sample) -> f64 {
    as_f64(sample.acked.saturating_sub(sample.stored))
}

/// A million messages are accepted without a worker, then drained.
pub(super) async fn backlog(target: &mut Target, scale: &Scale) -> anyhow::Result<Outcome> {
    let messages = scale.of(MILLION);
    let (report, deployment) = (Arc::new(Report::default()), target.deployment().clone());
    for n in 0..WORKERS {
        target.system()?.worker(n).terminate().await;
    }
    let sampler = Sampler::start("backlog", target, &report).await?;
    let system = target.system()?;
    let load = Load { messages, ..FIFTY_SENDERS };
    let starting = async {
        while report.acked.load(Ordering::Relaxed) < messages as u64 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        sampler.mark("all accepted; workers started");
        let back = sampler.elapsed_s();
        for n in 0..WORKERS {
            system.worker(n).launch()?;
        }
        sampler.update_processes(system);
        anyhow::Ok(back)
    };
    let running = Box::pin(run(&load, &deployment, "million", &report, Used::default));
    let (figures, back) = tokio::try_join!(running, starting)?;
    let (samples, marks) = sampler.finish();
    let (first, all) = drained(&samples, messages as u64);
    let mut outcome = Outcome { samples, marks, load: serde_json::to_value(&load)?, ..Outcome::default() };
    outcome.what = format!("{messages} messages accepted while no worker ran, then drained by two");
    let rate = as_f64(messages as u64) / (all - first).max(0.001);
    outcome.figure("drained and committed", rate, "messages/s", Some(Goal::AtLeast(40_000.0)));
    outcome.figure("from the workers' start to the first commit", first - back, "s", None);
    outcome.figure("accepted meanwhile", figures.acked_per_second, "messages/s", None);
    outcome.figure("messages lost", as_f64(figures.verdict.lost as u64), "", Some(Goal::Exactly(0.0)));
    figures.add_to(&mut outcome);
    Ok(outcome)
}

/// The times of the first commit and of the last one.
fn drained(samples: &[Sample], all: u64) -> (f64, f64) {
    // The sample before the first commit: the commit came after it.
    let first =
        samples.iter().take_while(|sample| sample.stored == 0).last().map_or(0.0, |sample| sample.at_s);
    let last = samples.iter().find(|sample| sample.stored >= all).map_or(f64::INFINITY, |sample| sample.at_s);
    (first, last)
}
