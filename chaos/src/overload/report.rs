//! What an overload is, what it measured, and how that is shown.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;
use testbed::judge::Verdict;

/// Describes an overload.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Overload {
    /// Connections that send.
    pub connections: usize,
    /// The offered load as a multiple of the peak.
    pub factor: f64,
    /// How long it lasts.
    pub seconds: f64,
    /// Only texts. Otherwise every other group has edits and reactions between them.
    pub texts_only: bool,
    /// With a delay to RabbitMQ, so that the peak is below what this machine can offer.
    pub narrow: bool,
}

/// The result of an overload.
#[derive(Debug, Clone, Serialize)]
pub struct OverloadReport {
    /// As given.
    pub overload: Overload,
    /// Messages accepted per second while each connection waits for answers.
    pub peak_per_second: f64,
    /// Messages sent per second during the overload.
    pub offered_per_second: f64,
    /// Messages accepted per second during the overload.
    pub goodput_per_second: f64,
    /// Answers 429 and 503 during the overload, and changes whose message was not found.
    pub refused: u64,
    /// Messages that a client did not send, because too many were unanswered.
    pub held_back: u64,
    /// Milliseconds until any answer: the 50th, 99th and 100th percentile.
    pub answer_ms: [f64; 3],
    /// Answers after their deadline.
    pub late: u64,
    /// Requests without any answer.
    pub unanswered: u64,
    /// Answers other than 0, 429 and 503.
    pub odd: u64,
    /// The highest memory of each process, in MiB.
    pub memory_mib: BTreeMap<String, u64>,
    /// Seconds after the overload until messages were stored promptly again.
    pub recovered_after_s: f64,
    /// The judge's.
    pub verdict: Verdict,
}

impl OverloadReport {
    /// Whether every request was answered in time, and every accepted message is stored.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.verdict.is_good() && self.late == 0 && self.unanswered == 0 && self.odd == 0
    }
}

impl fmt::Display for OverloadReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [half, most, all] = self.answer_ms;
        writeln!(f, "peak       {:>9.0} /s", self.peak_per_second)?;
        writeln!(f, "offered    {:>9.0} /s for {} s", self.offered_per_second, self.overload.seconds)?;
        let part = 100.0 * self.goodput_per_second / self.peak_per_second;
        writeln!(f, "accepted   {:>9.0} /s, {part:.0} % of the peak", self.goodput_per_second)?;
        writeln!(f, "refused    {:>9}, held back by clients {}", self.refused, self.held_back)?;
        writeln!(f, "answers    p50 {half:.0} ms, p99 {most:.0} ms, max {all:.0} ms")?;
        writeln!(f, "           late {}, missing {}, odd {}", self.late, self.unanswered, self.odd)?;
        for (process, mib) in &self.memory_mib {
            writeln!(f, "memory     {mib:>9} MiB at most: {process}")?;
        }
        writeln!(f, "recovered  after {:.1} s", self.recovered_after_s)?;
        write!(f, "promises   {}", self.verdict)
    }
}
