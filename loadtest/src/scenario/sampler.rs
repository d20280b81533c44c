//! Samples counters and processes four times a second while a scenario runs: for the plots and the progress line.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use parking_lot::Mutex;
use sqlx::mysql::MySqlConnection;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::task::AbortOnDropHandle;

use super::outcome::{Mark, Sample, number};
use super::target::Target;
use testbed::client::Report;
use testbed::meter::{cpu_of, processes, resident_of};
use testbed::stack::System;

const INTERVAL: Duration = Duration::from_millis(250);

/// Samples until it is finished or dropped.
#[derive(Debug)]
pub struct Sampler {
    shared: Arc<Samples>,
    _task: AbortOnDropHandle<()>,
}

#[derive(Debug)]
struct Samples {
    started: Instant,
    report: Arc<Report>,
    samples: Mutex<Vec<Sample>>,
    marks: Mutex<Vec<Mark>>,
    processes: Mutex<Vec<(String, u32)>>,
}

impl Sampler {
    /// Starts sampling. `name` begins the progress line. Of a running deployment only the clients' counters are sampled.
    ///
    /// # Errors
    /// If the MySQL of a system of its own cannot be reached.
    pub async fn start(name: &str, target: &mut Target, report: &Arc<Report>) -> anyhow::Result<Self> {
        let mut mysql = target.mysql().await?;
        let before = match &mut mysql {
            Some(mysql) => stored(mysql).await?,
            None => 0,
        };
        let shared = Arc::new(Samples {
            started: Instant::now(),
            report: Arc::clone(report),
            samples: Mutex::default(),
            marks: Mutex::default(),
            processes: Mutex::new(target.own_system().map(processes).unwrap_or_default()),
        });
        let task = tokio::spawn(sample(Arc::clone(&shared), mysql, before, progress(name)));
        Ok(Self { shared, _task: AbortOnDropHandle::new(task) })
    }

    /// Records an event.
    pub fn mark(&self, text: &str) {
        let at_s = self.shared.started.elapsed().as_secs_f64();
        self.shared.marks.lock().push(Mark { at_s, text: text.to_owned() });
    }

    /// Looks up the processes again, after some were started or stopped.
    pub fn update_processes(&self, system: &mut System) {
        *self.shared.processes.lock() = processes(system);
    }

    /// Seconds since the start.
    #[must_use]
    pub fn elapsed_s(&self) -> f64 {
        self.shared.started.elapsed().as_secs_f64()
    }

    /// Ends sampling; returns all samples and events.
    #[must_use]
    pub fn finish(self) -> (Vec<Sample>, Vec<Mark>) {
        (std::mem::take(&mut self.shared.samples.lock()), std::mem::take(&mut self.shared.marks.lock()))
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

async fn sample(shared: Arc<Samples>, mut mysql: Option<MySqlConnection>, before: u64, bar: ProgressBar) {
    let mut ticks = tokio::time::interval(INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut last = Sample::default();
    loop {
        ticks.tick().await;
        // While MySQL does not answer, or slowly, samples are further apart.
        let stored = match &mut mysql {
            Some(mysql) => stored(mysql).await.map_or(last.stored, |now| now.saturating_sub(before)),
            None => 0,
        };
        let now = shared.take(stored);
        bar.set_message(line(&last, &now));
        bar.tick();
        last = now.clone();
        shared.samples.lock().push(now);
    }
}

/// Sequence numbers have no gaps unless a message was lost before it was published, so their sum counts messages.
async fn stored(mysql: &mut MySqlConnection) -> sqlx::Result<u64> {
    let sum = "SELECT CAST(COALESCE(SUM(last_seq), 0) AS UNSIGNED) FROM conversation";
    sqlx::query_scalar(sum).fetch_one(mysql).await
}

impl Samples {
    fn take(&self, stored: u64) -> Sample {
        let count = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
        let mut sample = Sample {
            at_s: self.started.elapsed().as_secs_f64(),
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
            #[expect(clippy::cast_precision_loss, reason = "below 2^52")]
            let mib = memory as f64 / f64::from(1 << 20);
            *sample.memory_mib.entry(kind.clone()).or_default() += mib;
        }
        sample
    }
}

fn line(last: &Sample, now: &Sample) -> String {
    let span = (now.at_s - last.at_s).max(0.001);
    #[expect(clippy::cast_precision_loss, reason = "below 2^52")]
    let rate = |last: u64, now: u64| number((now.saturating_sub(last) as f64 / span).round());
    #[expect(clippy::cast_precision_loss, reason = "below 2^52")]
    let backlog = number(now.acked.saturating_sub(now.stored) as f64);
    let stored = match now.stored {
        0 => String::new(),
        _ => format!("{}/s stored, backlog {backlog}, ", rate(last.stored, now.stored)),
    };
    format!(
        "{} acked, {}/s acked, {stored}{}/s delivered, {} refused",
        number(now.acked as f64),
        rate(last.acked, now.acked),
        rate(last.delivered, now.delivered),
        now.refused
    )
}
