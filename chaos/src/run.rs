//! One run: load, faults, recovery, verdict.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::Context as _;
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{RngExt as _, SeedableRng as _};
use testbed::client::Report;
use testbed::judge::{judge_and_keep, judge_feed, judge_follower};
use testbed::stack::System;
use tokio::time::Instant;

use crate::fault::Fault;
use crate::injector::FaultInjector;
use crate::monitor::{Longest, Monitor};
use crate::outcome::{Injection, Outcome, Progress};
use crate::participants::{KnownReader, Participants};
use crate::push_check::without_pushes;

/// Load before the first fault and after the last one.
const QUIET: Duration = Duration::from_secs(3);
/// Until nobody waits and nobody is behind.
const RECOVERY_TIMEOUT: Duration = Duration::from_secs(90);
/// Pause between two faults of a mix, in milliseconds.
const PAUSE_MS: std::ops::Range<u64> = 0..4_000;
/// Between two reports of the progress.
const REPORT_INTERVAL: Duration = Duration::from_millis(200);

/// The faults of a run.
#[derive(Debug, Clone)]
pub enum Course {
    /// These faults, each after the recovery from the one before.
    Each(Vec<Fault>),
    /// Random faults one after the other, with hardly a pause, for this time.
    Mix(Duration),
}

/// A run.
#[derive(Debug, Clone)]
pub struct Options {
    /// The faults.
    pub course: Course,
    /// Seed of all random choices.
    pub seed: u64,
    /// Messages per second in all, without the bursts.
    pub per_second: f64,
    /// The fewest readers.
    pub readers: usize,
}

/// The faults of a mix: those that leave the machine as it was, and take less than a minute.
fn in_a_mix() -> Vec<Fault> {
    let excluded = [Fault::Nothing, Fault::MysqlAway];
    Fault::all().filter(|fault| !excluded.contains(fault) && !fault.needs_own_system()).collect()
}

/// Runs it. `system` must be linked, with private servers; `tell` is called with the progress.
///
/// # Errors
/// If the participants cannot connect, or the messages cannot be read in the end.
pub async fn run(
    system: &mut System,
    options: &Options,
    tell: impl Fn(Progress<'_>) + Send + Sync,
) -> anyhow::Result<Outcome> {
    let report = Arc::new(Report::default());
    let mut participants = Participants::start(system, options.readers, options.per_second, &report).await?;
    let monitor = Arc::new(Monitor::new(std::mem::take(&mut participants.watched), Arc::clone(&report)));
    let watching = tokio::spawn({
        let monitor = Arc::clone(&monitor);
        async move { monitor.run().await }
    });
    let step = Mutex::new("load before the first fault".to_owned());
    let inject = async {
        tokio::time::sleep(QUIET).await;
        let tell = |progress: Progress<'_>| match progress {
            Progress::Step(text) => *step.lock() = text,
            injected => tell(injected),
        };
        let faults = Faults {
            injector: FaultInjector::new(system, participants.groups()),
            participants: &participants,
            monitor: &monitor,
            report: &report,
            random: StdRng::seed_from_u64(options.seed),
            tell,
            injections: Vec::new(),
            restless: false,
        };
        faults.inject(&options.course).await
    };
    let (faults, restless) = tokio::select! {
        faults = inject => faults?,
        never = tell_figures(&monitor, &report, &step, &tell) => match never {},
    };
    tokio::time::sleep(QUIET).await;
    watching.abort();
    let gateways = system.ws_urls();
    let outcome = judge(&gateways, participants, &report, tell).await?;
    Ok(Outcome { seed: options.seed, faults, restless, ..outcome })
}

/// Ends the load and judges it. The faults are missing in the outcome.
async fn judge(
    gateways: &[String],
    mut participants: Participants,
    report: &Report,
    tell: impl Fn(Progress<'_>),
) -> anyhow::Result<Outcome> {
    tell(Progress::Step("the last messages".to_owned()));
    let (mut senders, mut unanswered) = participants.finish_senders().await;
    tell(Progress::Step("a fresh message for each reader".to_owned()));
    let deaf = without_pushes(gateways, &mut senders, &participants.readers).await?;
    tell(Progress::Step("judging".to_owned()));
    let (mut verdict, lists) = judge_and_keep(gateways, &senders).await?;
    let readers = participants.finish_readers(&lists).await?;
    for reader in &readers {
        judge_follower(reader, lists.get(&reader.conversation).map_or(&[], Vec::as_slice), &mut verdict);
    }
    let mut feed_events = None;
    if let Some((shards, complaints)) = participants.finish_feed().await? {
        feed_events = Some(shards.iter().map(Vec::len).sum::<usize>() as u64);
        judge_feed(&shards, &lists, &mut verdict);
        unanswered.extend(complaints.into_iter().map(|complaint| format!("feed: {complaint}")));
    }
    tell(Progress::Step("notifications".to_owned()));
    let notifications = participants.finish_notified(&lists, &mut verdict).await?;
    let mut webhook_events = None;
    if let Some((shards, complaints)) = participants.finish_webhook().await? {
        webhook_events = Some(shards.iter().map(Vec::len).sum::<usize>() as u64);
        judge_feed(&shards, &lists, &mut verdict);
        unanswered.extend(complaints.into_iter().map(|complaint| format!("webhook: {complaint}")));
    }
    let by_readers: usize = readers.iter().map(|reader| reader.reconnects).sum();
    Ok(Outcome {
        seed: 0,
        faults: Vec::new(),
        acked: report.acked.load(Ordering::Relaxed),
        corrected: report.corrected.load(Ordering::Relaxed),
        reconnects: report.reconnects.load(Ordering::Relaxed) + by_readers as u64,
        unanswered,
        deaf,
        restless: false,
        feed_events,
        notifications,
        webhook_events,
        verdict,
    })
}

/// Reports the present step and figures at intervals.
async fn tell_figures(
    monitor: &Monitor,
    report: &Report,
    step: &Mutex<String>,
    tell: &(impl Fn(Progress<'_>) + Sync),
) -> Infallible {
    loop {
        let Longest { answer, lag, .. } = monitor.now();
        tell(Progress::Step(format!(
            "{} | {} acked, {} refused, longest wait {:.1} s, lag {:.1} s",
            step.lock(),
            report.acked.load(Ordering::Relaxed),
            report.refused.load(Ordering::Relaxed),
            answer.as_secs_f64(),
            lag.as_secs_f64()
        )));
        tokio::time::sleep(REPORT_INTERVAL).await;
    }
}

/// Injects the faults of a run, and measures the effect of each.
struct Faults<'r, T> {
    injector: FaultInjector<'r>,
    participants: &'r Participants,
    monitor: &'r Monitor,
    report: &'r Report,
    random: StdRng,
    tell: T,
    injections: Vec<Injection>,
    restless: bool,
}

/// What holds at the begin of a fault.
struct Begin {
    at: Instant,
    refused: u64,
}

impl<T: Fn(Progress<'_>)> Faults<'_, T> {
    /// Returns what each fault did, and whether a recovery took too long.
    async fn inject(mut self, course: &Course) -> anyhow::Result<(Vec<Injection>, bool)> {
        match course {
            Course::Each(faults) => {
                for (n, fault) in faults.iter().enumerate() {
                    if n > 0 {
                        self.participants.return_home();
                        tokio::time::sleep(QUIET).await;
                        self.recover().await;
                    }
                    let (mut injection, begin) = self.one(*fault, fault.to_string()).await?;
                    injection.recovered_after_s = self.recover().await;
                    self.finish(injection, &begin);
                }
            }
            Course::Mix(duration) => self.mix(*duration).await?,
        }
        Ok((self.injections, self.restless))
    }

    async fn mix(&mut self, duration: Duration) -> anyhow::Result<()> {
        let (faults, deadline) = (in_a_mix(), Instant::now() + duration);
        loop {
            let fault = *faults.choose(&mut self.random).context("there are faults")?;
            let pause = self.random.random_range(PAUSE_MS);
            let step = format!("{fault} (number {})", self.injections.len() + 1);
            let (mut injection, begin) = self.one(fault, step).await?;
            let last = Instant::now() >= deadline;
            if last {
                (self.tell)(Progress::Step("recovery".to_owned()));
                injection.recovered_after_s = self.recover().await;
            } else {
                tokio::time::sleep(Duration::from_millis(pause)).await;
            }
            self.finish(injection, &begin);
            if last {
                return Ok(());
            }
        }
    }

    /// Injects `fault`, and returns when it is over.
    async fn one(&mut self, fault: Fault, step: String) -> anyhow::Result<(Injection, Begin)> {
        (self.tell)(Progress::Step(step));
        let to = self.injector.target(fault, &mut self.random).await?;
        self.monitor.take_longest();
        self.monitor.take_waited_until(Instant::now());
        self.report.take_latency(0.99);
        let begin = Begin { at: Instant::now(), refused: self.report.refused.load(Ordering::Relaxed) };
        let result = self.injector.inject(fault, to).await;
        let injection = Injection {
            fault: fault.name(),
            to,
            lasted_s: begin.at.elapsed().as_secs_f64(),
            recovered_after_s: None,
            served_after_s: 0.0,
            silence_s: 0.0,
            longest_answer_s: 0.0,
            longest_lag_s: 0.0,
            p99_ms: 0.0,
            refused: 0,
            returned: 0,
            returned_after_s: [0.0; 3],
            error: result.err().map(|error| format!("{error:#}")),
        };
        Ok((injection, begin))
    }

    async fn recover(&mut self) -> Option<f64> {
        let recovered = self.monitor.recovered(RECOVERY_TIMEOUT).await;
        self.restless |= recovered.is_none();
        recovered.map(|after| after.as_secs_f64())
    }

    /// Adds the figures since the begin of the fault.
    fn finish(&mut self, mut injection: Injection, begin: &Begin) {
        let returned = returned_after_s(&self.participants.readers, begin.at);
        if let Some(last) = returned.len().checked_sub(1) {
            injection.returned = returned.len();
            injection.returned_after_s = [returned[last / 2], returned[last * 99 / 100], returned[last]];
        }
        let Longest { silence, answer, lag } = self.monitor.take_longest();
        injection.p99_ms = self.report.take_latency(0.99).as_secs_f64() * 1_000.0;
        injection.served_after_s = self.monitor.take_waited_until(begin.at).as_secs_f64();
        injection.silence_s = silence.as_secs_f64();
        injection.longest_answer_s = answer.as_secs_f64();
        injection.longest_lag_s = lag.as_secs_f64();
        injection.refused = self.report.refused.load(Ordering::Relaxed) - begin.refused;
        (self.tell)(Progress::Injected(&injection));
        self.injections.push(injection);
    }
}

/// For each reader that has connected since `begin` and pulled what it had missed: after how many seconds. In order.
fn returned_after_s(readers: &[KnownReader], begin: Instant) -> Vec<f64> {
    let since = readers.iter().filter_map(|reader| reader.reading.current_since());
    let mut after: Vec<_> =
        since.filter_map(|since| Some(since.checked_duration_since(begin)?.as_secs_f64())).collect();
    after.sort_unstable_by(f64::total_cmp);
    after
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::{Damage, Wire};

    #[test]
    fn a_mix_has_wires_and_processes_but_nothing_that_fills_a_disk() {
        let mix = in_a_mix();
        assert!(mix.contains(&Fault::KillRabbitmq));
        assert!(mix.contains(&Fault::Wire(Damage::Stall, Wire::WorkerMysql)));
        assert!(!mix.contains(&Fault::DiskFull));
    }
}
