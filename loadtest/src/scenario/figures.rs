//! The figures of a load.

use std::collections::BTreeMap;
use std::fmt;

use hdrhistogram::Histogram;
use serde::Serialize;

use super::load::Load;
use super::outcome::{Latency, Outcome};
use testbed::client::Refusal;
use testbed::judge::Verdict;

/// The figures of a load.
#[derive(Debug, Clone, Serialize)]
pub struct Figures {
    /// The load.
    pub load: Load,
    /// Messages acknowledged.
    pub acked: u64,
    /// From the first message to the last acknowledgement.
    pub acked_per_second: f64,
    /// From the first message until the last one can be pulled.
    pub persisted_per_second: f64,
    /// Messages pushed to members.
    pub pushes: u64,
    /// Messages pushed to listeners.
    pub heard: u64,
    /// Pushes that were due to listeners: one for each message and each listener of its group.
    pub heard_due: u64,
    /// From the first message to the last push.
    pub pushes_per_second: f64,
    /// Messages refused with 429, 500 or 503; each was sent again.
    pub refused: u64,
    /// Refusals by code, with the setting that most likely caused them.
    pub refusals: Vec<Refusal>,
    /// Connections after the first one of each sender.
    pub reconnects: u64,
    /// Milliseconds from sending (or the scheduled moment) to the acknowledgement, by percentile.
    pub ack_ms: BTreeMap<String, f64>,
    /// The same, as a curve.
    pub ack: Latency,
    /// From sending (or the scheduled moment) to the push; one listener of each group measures.
    pub delivery: Option<Latency>,
    /// Seconds of processor time per 1,000 messages, by process; empty where the processes are not known.
    pub cpu_seconds_per_1000: BTreeMap<String, f64>,
    /// The judge's verdict.
    pub verdict: Verdict,
}

pub(super) fn percentiles(latency: &Histogram<u64>) -> BTreeMap<String, f64> {
    #[expect(clippy::cast_precision_loss, reason = "below 2^52")]
    let ms = |micros: u64| micros as f64 / 1000.0;
    let at = |name: &str, quantile| (name.to_owned(), ms(latency.value_at_quantile(quantile)));
    [at("p50", 0.5), at("p90", 0.9), at("p99", 0.99), at("p99.9", 0.999), at("max", 1.0)].into()
}

impl Figures {
    /// Pushes that were due to listeners and did not come.
    #[must_use]
    pub fn pushes_missing(&self) -> u64 {
        self.heard_due.saturating_sub(self.heard)
    }

    /// Adds what decides whether a run was complete.
    pub(super) fn add_to(&self, outcome: &mut Outcome) {
        outcome.refusals.clone_from(&self.refusals);
        outcome.pushes_due += self.heard_due;
        outcome.pushes_missing += self.pushes_missing();
        outcome.verdict = Some(self.verdict.clone());
    }

    /// An outcome with all figures, for a report.
    #[must_use]
    pub fn outcome(&self, name: &str) -> Outcome {
        let load = &self.load;
        let mut outcome = Outcome { name: name.to_owned(), what: self.what(), ..Outcome::default() };
        outcome.load = serde_json::to_value(load).unwrap_or_default();
        outcome.figure("acked", self.acked_per_second, "messages/s", None);
        outcome.figure("acked and persisted", self.persisted_per_second, "messages/s", None);
        for (name, ms) in ["p50", "p90", "p99", "p99.9", "max"]
            .iter()
            .filter_map(|name| Some((name, self.ack_ms.get(*name)?)))
        {
            outcome.figure(&format!("ack {name}"), *ms, "ms", None);
        }
        if let Some(delivery) = &self.delivery {
            outcome.figure("send to push p50", delivery.at(50.0), "ms", None);
            outcome.figure("send to push p99", delivery.at(99.0), "ms", None);
        }
        #[expect(clippy::cast_precision_loss, reason = "below 2^52")]
        let count = |count: u64| count as f64;
        outcome.figure("pushes", self.pushes_per_second, "messages/s", None);
        if self.heard_due > 0 {
            outcome.figure("pushes that were due to listeners", count(self.heard_due), "", None);
            outcome.figure("  of them received", count(self.heard), "", None);
        }
        outcome.figure("messages refused and sent again", count(self.refused), "times", None);
        outcome.figure("reconnects", count(self.reconnects), "", None);
        for (process, seconds) in &self.cpu_seconds_per_1000 {
            outcome.figure(&format!("processor time per message: {process}"), seconds * 1000.0, "us", None);
        }
        outcome.latencies.push(self.ack.clone());
        outcome.latencies.extend(self.delivery.clone());
        self.add_to(&mut outcome);
        outcome
    }

    fn what(&self) -> String {
        let Load { groups, senders, listeners, size, window, stored, rate, .. } = &self.load;
        let when = if *stored { "stored" } else { "accepted" };
        let pace = match rate {
            Some(rate) => format!("{} messages/s for {} s (open loop)", rate.per_second, rate.seconds),
            None => format!("window {window}"),
        };
        format!(
            "{} messages of {size} bytes; groups {groups}, senders each {senders}, listeners each {listeners}, {pace}, \
             acknowledged when {when}",
            self.acked
        )
    }
}

/// As `loadtest burst` and `loadtest rate` print it.
impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.what())?;
        writeln!(f, "acked      {:>9.0} /s", self.acked_per_second)?;
        writeln!(f, "persisted  {:>9.0} /s", self.persisted_per_second)?;
        let ms = |name: &str| self.ack_ms.get(name).copied().unwrap_or_default();
        writeln!(
            f,
            "ack        p50 {:.2} ms, p90 {:.2}, p99 {:.2}, p99.9 {:.2}, max {:.2}",
            ms("p50"),
            ms("p90"),
            ms("p99"),
            ms("p99.9"),
            ms("max")
        )?;
        writeln!(f, "refused    {}, reconnects {}", self.refused, self.reconnects)?;
        writeln!(f, "pushes     {}, {:.0} /s", self.pushes, self.pushes_per_second)?;
        if self.heard_due > 0 {
            writeln!(f, "heard      {} of {} pushes due to listeners", self.heard, self.heard_due)?;
        }
        if let Some(delivery) = &self.delivery {
            writeln!(f, "delivered  p50 {:.2} ms, p99 {:.2}", delivery.at(50.0), delivery.at(99.0))?;
        }
        for (process, seconds) in &self.cpu_seconds_per_1000 {
            writeln!(f, "cpu        {seconds:.4} s per 1,000 messages: {process}")?;
        }
        write!(f, "promises   {}", self.verdict)
    }
}
