//! What a run measured, and how it is shown.

use std::fmt;

use serde::Serialize;
use testbed::judge::Verdict;

/// The effect of one fault.
#[derive(Debug, Clone, Serialize)]
pub struct Injection {
    /// The fault's name.
    pub fault: String,
    /// The index of the gateway or worker.
    pub to: usize,
    /// From the begin until everything that was broken ran again.
    pub lasted_s: f64,
    /// From then on until nobody waited for longer than a second. Within a mix, known for the last fault only.
    pub recovered_after_s: Option<f64>,
    /// From the begin until nobody waited for longer than a second any more, whether the fault was over or not.
    pub served_after_s: f64,
    /// The longest time in which no message at all was accepted.
    pub silence_s: f64,
    /// The longest time that one message waited to be accepted.
    pub longest_answer_s: f64,
    /// The longest time that a reader was without an accepted message.
    pub longest_lag_s: f64,
    /// 99 % of the messages were accepted within this time.
    pub p99_ms: f64,
    /// Answers 429 and 503.
    pub refused: u64,
    /// Readers that lost their connection.
    pub returned: usize,
    /// Seconds after which 50, 99 and 100 % of them were connected again and had pulled all that they had missed.
    pub returned_after_s: [f64; 3],
    /// The fault could not be injected, or a process did not start again.
    pub error: Option<String>,
}

impl Injection {
    /// The head of a table of injections.
    pub const HEAD: &str = "fault                        to   lasted recovered   served  silence   answer      lag        p99  refused";
}

impl fmt::Display for Injection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let recovered = self.recovered_after_s.map_or("-".to_owned(), |s| format!("{s:.1} s"));
        write!(
            f,
            "{:<28} {:>2} {:>6.1} s {:>9} {:>6.1} s {:>6.1} s {:>6.1} s {:>6.1} s {:>7.0} ms {:>8}",
            self.fault,
            self.to,
            self.lasted_s,
            recovered,
            self.served_after_s,
            self.silence_s,
            self.longest_answer_s,
            self.longest_lag_s,
            self.p99_ms,
            self.refused
        )?;
        if self.returned > 0 {
            let [half, most, all] = self.returned_after_s;
            write!(
                f,
                "  {} readers were back after {half:.1} s (50 %), {most:.1} s (99 %), {all:.1} s (all)",
                self.returned
            )?;
        }
        self.error.iter().try_for_each(|error| write!(f, "\n  {error}"))
    }
}

/// The progress of a run.
#[derive(Debug)]
pub enum Progress<'a> {
    /// The present step, in a few words.
    Step(String),
    /// A fault is over.
    Injected(&'a Injection),
}

/// The result of a run.
#[derive(Debug, Clone, Serialize)]
pub struct Outcome {
    /// As given.
    pub seed: u64,
    /// In order.
    pub faults: Vec<Injection>,
    /// Accepted messages.
    pub acked: u64,
    /// Messages whose sender was told another sequence number later on.
    pub corrected: u64,
    /// Times that a sender or reader connected again.
    pub reconnects: u64,
    /// Events that the reader of the change feed recorded; `None` without a feed.
    pub feed_events: Option<u64>,
    /// Notifications that devices received, and those among them that they had shown before; `None` without notifications.
    pub notifications: Option<(usize, usize)>,
    /// Events that the endpoint of a webhook received, each once; `None` without webhooks.
    pub webhook_events: Option<u64>,
    /// Senders that did not get an answer to every message, and what the reader of the feed complains of, with the reason.
    pub unanswered: Vec<String>,
    /// Readers whose connection is open, but received no push of a fresh message.
    pub deaf: Vec<String>,
    /// It took too long until nobody waited any more.
    pub restless: bool,
    /// The judge's.
    pub verdict: Verdict,
}

impl Outcome {
    /// Whether every promise was kept.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.verdict.is_good()
            && self.unanswered.is_empty()
            && self.deaf.is_empty()
            && !self.restless
            && self.faults.iter().all(|fault| fault.error.is_none())
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seed, acked, corrected, reconnects, .. } = self;
        writeln!(f, "seed {seed}, {acked} acked, {corrected} corrected, {reconnects} reconnects")?;
        if let Some(events) = self.feed_events {
            writeln!(f, "{events} events of the change feed")?;
        }
        if let Some((all, repeated)) = self.notifications {
            writeln!(f, "{all} notifications, {repeated} of them again")?;
        }
        if let Some(events) = self.webhook_events {
            writeln!(f, "{events} events of a webhook")?;
        }
        for (what, all) in [("unanswered", &self.unanswered), ("deaf", &self.deaf)] {
            for one in all {
                writeln!(f, "{what}: {one}")?;
            }
        }
        if self.restless {
            writeln!(f, "it took too long until nobody waited any more")?;
        }
        write!(f, "promises {}", self.verdict)
    }
}
