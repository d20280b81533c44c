//! The work of one round, and its figures.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

/// The work, the same for every contender.
#[derive(Debug, Clone, Serialize)]
pub struct Work {
    /// Conversations.
    pub groups: usize,
    /// Senders in each of them; each is a member, and has a connection of its own.
    pub senders_per_group: usize,
    /// Messages that each sender may have unanswered.
    pub window: usize,
    /// Bytes of each message.
    pub size: usize,
    /// How long new messages are sent; all of them are answered before the round ends.
    pub seconds: f64,
}

impl Work {
    /// One message at a time, by one sender.
    #[must_use]
    pub fn alone(&self, seconds: f64) -> Self {
        Self { groups: 1, senders_per_group: 1, window: 1, size: self.size, seconds }
    }

    /// The same for another duration.
    #[must_use]
    pub fn lasting(&self, seconds: f64) -> Self {
        Self { seconds, ..self.clone() }
    }

    /// The members of a group, in a run of this name.
    pub(super) fn members(&self, name: &str, group: usize) -> Vec<String> {
        (0..self.senders_per_group).map(|place| format!("{name}.{group}.{place}")).collect()
    }
}

/// Figures of one round.
#[derive(Debug, Clone, Serialize)]
pub struct Round {
    /// Messages acknowledged.
    pub acked: u64,
    /// From the first message to the last acknowledgement.
    pub acked_per_second: f64,
    /// Messages in MySQL per second, counted when the last one was acknowledged; for this system, when all were stored.
    pub stored_per_second: f64,
    /// Messages not stored when the last one was acknowledged.
    pub backlog: u64,
    /// Messages stored per second after the last one was sent, if there was a backlog.
    pub drained_per_second: Option<f64>,
    /// Milliseconds from sending to the acknowledgement, by percentile.
    pub ack_ms: BTreeMap<String, f64>,
    /// Seconds of processor time per 1,000 acknowledged messages, by process.
    pub cpu_seconds_per_1000: BTreeMap<String, f64>,
}

/// Percentiles in milliseconds of a histogram in microseconds.
pub(super) fn percentiles(latency: &Histogram<u64>) -> BTreeMap<String, f64> {
    #[expect(clippy::cast_precision_loss, reason = "below 2^52")]
    let ms = |micros: u64| micros as f64 / 1000.0;
    [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999), ("max", 1.0)]
        .map(|(name, quantile)| (name.to_owned(), ms(latency.value_at_quantile(quantile))))
        .into()
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
pub(super) fn per_second(messages: u64, time: Duration) -> f64 {
    messages as f64 / time.as_secs_f64()
}
