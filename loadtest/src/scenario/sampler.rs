//! Looks around four times a second while a scenario runs: for the plots, and for the line that shows how it goes.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use parking_lot::Mutex;
use sqlx::ConnectOptions as _;
use sqlx::mysql::{MySqlConnectOptions, MySqlConnection};
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::task::AbortOnDropHandle;

use super::outcome::{Mark, Sample, number};
use testbed::client::Report;
use testbed::meter::{cpu_of, processes, resident_of};
use testbed::stack::System;

const INTERVAL: Duration = Duration::from_millis(250);

/// Samples until it is finished or dropped.
#[derive(Debug)]
pub struct Sampler {
    seen: Arc<Seen>,
    _task: AbortOnDropHandle<()>,
}

#[derive(Debug)]
struct Seen {
    begun: Instant,
    report: Arc<Report>,
    samples: Mutex<Vec<Sample>>,
    marks: Mutex<Vec<Mark>>,
    processes: Mutex<Vec<(String, u32)>>,
}

impl Sampler {
    /// Begins now. `name` is shown.
    ///
    /// # Errors
    /// If MySQL cannot be reached.
    pub async fn start(name: &str, system: &mut System, report: &Arc<Report>) -> anyhow::Result<Self> {
        let options: MySqlConnectOptions = system.urls.mysql.parse()?;
        let mut mysql = options.disable_statement_logging().connect().await?;
        let before = stored(&mut mysql).await?;
        let seen = Arc::new(Seen {
            begun: Instant::now(),
            report: Arc::clone(report),
            samples: Mutex::default(),
            marks: Mutex::default(),
            processes: Mutex::new(processes(system)),
        });
        let task = tokio::spawn(sample(Arc::clone(&seen), mysql, before, progress(name)));
        Ok(Self { seen, _task: AbortOnDropHandle::new(task) })
    }

    /// Notes what happens now.
    pub fn mark(&self, text: &str) {
        let at_s = self.seen.begun.elapsed().as_secs_f64();
        self.seen.marks.lock().push(Mark { at_s, text: text.to_owned() });
    }

    /// Processes have gone or come.
    pub fn look_again(&self, system: &mut System) {
        *self.seen.processes.lock() = processes(system);
    }

    /// What was seen last.
    #[must_use]
    pub fn last(&self) -> Sample {
        self.seen.samples.lock().last().cloned().unwrap_or_default()
    }

    /// Seconds since the beginning.
    #[must_use]
    pub fn elapsed_s(&self) -> f64 {
        self.seen.begun.elapsed().as_secs_f64()
    }

    /// Everything that was seen.
    #[must_use]
    pub fn finish(self) -> (Vec<Sample>, Vec<Mark>) {
        (std::mem::take(&mut self.seen.samples.lock()), std::mem::take(&mut self.seen.marks.lock()))
    }
}

fn progress(name: &str) -> ProgressBar {
    let bar = ProgressBar::new_spinner();
    if let Ok(style) = ProgressStyle::with_template("{spinner} {prefix} {elapsed} {wide_msg}") {
        bar.set_style(style);
    }
    bar.set_prefix(name.to_owned());
    bar
}

async fn sample(seen: Arc<Seen>, mut mysql: MySqlConnection, before: u64, bar: ProgressBar) {
    let mut ticks = tokio::time::interval(INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut last = Sample::default();
    loop {
        ticks.tick().await;
        // While MySQL is away, or has much else to do, samples are further apart.
        let stored = stored(&mut mysql).await.map_or(last.stored, |now| now.saturating_sub(before));
        let now = seen.look(stored);
        bar.set_message(line(&last, &now));
        bar.tick();
        last = now.clone();
        seen.samples.lock().push(now);
    }
}

/// Numbers are given without gaps unless a message was lost on its way, so their sum counts messages.
async fn stored(mysql: &mut MySqlConnection) -> sqlx::Result<u64> {
    let sum = "SELECT CAST(COALESCE(SUM(last_seq), 0) AS UNSIGNED) FROM conversation";
    sqlx::query_scalar(sum).fetch_one(mysql).await
}

impl Seen {
    fn look(&self, stored: u64) -> Sample {
        let count = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
        let mut sample = Sample {
            at_s: self.begun.elapsed().as_secs_f64(),
            sent: count(&self.report.sent),
            acked: count(&self.report.acked),
            stored,
            delivered: count(&self.report.pushed),
            refused: count(&self.report.refused),
            ..Sample::default()
        };
        for (kind, process) in &*self.processes.lock() {
            let (Some(cpu), Some(memory)) = (cpu_of(*process), resident_of(*process)) else { continue };
            *sample.cpu_s.entry(kind.clone()).or_default() += cpu.as_secs_f64();
            #[allow(clippy::cast_precision_loss)] // below 2^52
            let mib = memory as f64 / f64::from(1 << 20);
            *sample.memory_mib.entry(kind.clone()).or_default() += mib;
        }
        sample
    }
}

fn line(last: &Sample, now: &Sample) -> String {
    let span = (now.at_s - last.at_s).max(0.001);
    #[allow(clippy::cast_precision_loss)] // below 2^52
    let rate = |last: u64, now: u64| number((now.saturating_sub(last) as f64 / span).round());
    #[allow(clippy::cast_precision_loss)] // below 2^52
    let backlog = number(now.acked.saturating_sub(now.stored) as f64);
    format!(
        "{}/s acked, {}/s stored, {}/s delivered, backlog {backlog}, {} refused",
        rate(last.acked, now.acked),
        rate(last.stored, now.stored),
        rate(last.delivered, now.delivered),
        now.refused
    )
}
