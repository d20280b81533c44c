//! The outcome of a run: figures and goals, latencies, samples over time, refusals, and the judge's verdict.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use testbed::client::Refusal;
use testbed::judge::Verdict;

/// The outcome of one scenario.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Outcome {
    /// The name of the scenario or command.
    pub name: String,
    /// A sentence that describes the run.
    pub what: String,
    /// In order of importance.
    pub figures: Vec<Figure>,
    /// Distributions of times.
    pub latencies: Vec<Latency>,
    /// Counters over time.
    pub samples: Vec<Sample>,
    /// Events with their times.
    pub marks: Vec<Mark>,
    /// The judge's verdict, where messages were sent.
    pub verdict: Option<Verdict>,
    /// The load.
    pub load: serde_json::Value,
    /// Refusals by code, with the setting that most likely caused them.
    #[serde(default)]
    pub refusals: Vec<Refusal>,
    /// Pushes that were due to listeners.
    #[serde(default)]
    pub pushes_due: u64,
    /// Pushes that were due to listeners and did not come.
    #[serde(default)]
    pub pushes_missing: u64,
}

/// The conclusion of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Conclusion {
    /// All promises were kept, nothing was refused, and every push that was due came.
    Complete,
    /// All promises were kept, but messages were refused first, or pushes are missing: the figures describe a smaller load.
    Incomplete,
    /// A promise was broken.
    Broken,
}

/// A named value.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Figure {
    /// The quantity; two spaces at the beginning mark a part of the figure above.
    pub name: String,
    /// The value.
    pub value: f64,
    /// The unit.
    pub unit: String,
    /// The goal, if there is one.
    pub goal: Option<Goal>,
}

/// The goal of a figure.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub enum Goal {
    /// This value or more.
    AtLeast(f64),
    /// Less than this value.
    Under(f64),
    /// This value.
    Exactly(f64),
}

impl Goal {
    /// Whether `value` reaches the goal.
    #[must_use]
    pub fn is_met(self, value: f64) -> bool {
        match self {
            Self::AtLeast(least) => value >= least,
            Self::Under(most) => value < most,
            Self::Exactly(exact) => (value - exact).abs() < f64::EPSILON,
        }
    }
}

/// A distribution of times.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Latency {
    /// The time that was measured.
    pub name: String,
    /// The number of measurements.
    pub count: u64,
    /// Percentile and milliseconds, rising.
    pub curve: Vec<(f64, f64)>,
}

/// Counters at one moment, since the start of the run.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// Seconds after the start.
    pub at_s: f64,
    /// Messages sent, or due.
    pub sent: u64,
    /// Messages acknowledged.
    pub acked: u64,
    /// Messages in MySQL; 0 where the database is not known.
    pub stored: u64,
    /// Pushed messages that clients received.
    pub delivered: u64,
    /// Messages refused with 429, 500 or 503.
    pub refused: u64,
    /// Processor seconds used, by process.
    pub cpu_s: BTreeMap<String, f64>,
    /// Resident memory, by process.
    pub memory_mib: BTreeMap<String, f64>,
}

/// An event.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Mark {
    /// Seconds after the start.
    pub at_s: f64,
    /// A short description.
    pub text: String,
}

/// Percentiles of a curve.
const PERCENTILES: [f64; 16] =
    [1.0, 5.0, 10.0, 25.0, 50.0, 75.0, 80.0, 90.0, 95.0, 98.0, 99.0, 99.5, 99.9, 99.95, 99.99, 100.0];

impl Latency {
    /// The distribution of a histogram in microseconds.
    #[must_use]
    pub fn of(name: &str, micros: &Histogram<u64>) -> Self {
        #[expect(clippy::cast_precision_loss, reason = "below 2^52")]
        let ms = |percentile: f64| micros.value_at_percentile(percentile) as f64 / 1000.0;
        let curve = PERCENTILES.iter().map(|percentile| (*percentile, ms(*percentile))).collect();
        Self { name: name.to_owned(), count: micros.len(), curve }
    }

    /// Milliseconds at one of the curve's percentiles.
    #[must_use]
    pub fn at(&self, percentile: f64) -> f64 {
        let found = self.curve.iter().find(|(at, _)| *at >= percentile);
        found.map_or(0.0, |(_, ms)| *ms)
    }
}

impl Outcome {
    /// Adds a figure.
    pub fn figure(&mut self, name: &str, value: f64, unit: &str, goal: Option<Goal>) {
        self.figures.push(Figure { name: name.to_owned(), value, unit: unit.to_owned(), goal });
    }

    /// Removes goals of speed and size: they are set for a system of its own and full size on a known machine.
    #[must_use]
    pub fn without_performance_goals(mut self) -> Self {
        for figure in &mut self.figures {
            figure.goal = figure.goal.filter(|goal| matches!(goal, Goal::Exactly(_)));
        }
        self
    }

    /// The conclusion: decides the exit code.
    #[must_use]
    pub fn conclusion(&self) -> Conclusion {
        if self.verdict.as_ref().is_some_and(|verdict| !verdict.is_good()) {
            return Conclusion::Broken;
        }
        if self.refusals.is_empty() && self.pushes_missing == 0 {
            return Conclusion::Complete;
        }
        Conclusion::Incomplete
    }

    /// One sentence for each kind of refusal, and one for missing pushes.
    #[must_use]
    pub fn reservations(&self) -> Vec<String> {
        let mut sentences: Vec<String> = self.refusals.iter().map(ToString::to_string).collect();
        if self.pushes_missing > 0 {
            sentences.push(format!(
                "{} of {} pushes that were due to listeners did not come: gateways drop pushes for clients that read \
                 too slowly, and tell them to pull (limits.push_bytes_per_connection_max, 262144 by default)",
                self.pushes_missing, self.pushes_due
            ));
        }
        sentences
    }
}

impl std::fmt::Display for Conclusion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Complete => "complete: no promise was broken, nothing was refused, no push is missing",
            Self::Incomplete => {
                "INCOMPLETE: no promise was broken, but the load was refused in part or pushes are missing; the \
                 figures describe what the limits above allow"
            }
            Self::Broken => "BROKEN: a promise was broken",
        })
    }
}

impl std::fmt::Display for Goal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::AtLeast(least) => write!(f, "at least {}", number(*least)),
            Self::Under(most) => write!(f, "under {}", number(*most)),
            Self::Exactly(exact) => write!(f, "{}", number(*exact)),
        }
    }
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "{}: {}", self.name, self.what)?;
        for Figure { name, value, unit, goal } in &self.figures {
            write!(f, "  {name:<52} {:>12} {unit}", number(*value))?;
            match goal {
                Some(goal) if goal.is_met(*value) => writeln!(f, "  (goal {goal}: reached)")?,
                Some(goal) => writeln!(f, "  (goal {goal}: NOT reached)")?,
                None => writeln!(f)?,
            }
        }
        if let Some(verdict) = &self.verdict {
            writeln!(f, "  promises {verdict}")?;
        }
        for sentence in self.reservations() {
            writeln!(f, "  {sentence}")?;
        }
        writeln!(f, "  result   {}", self.conclusion())
    }
}

/// At most two decimals, and thousands separated by commas.
#[must_use]
pub fn number(value: f64) -> String {
    if value.abs() < 10.0 && value.fract() != 0.0 {
        return format!("{value:.2}");
    }
    if value.abs() < 1000.0 {
        return if value.fract() == 0.0 { format!("{value:.0}") } else { format!("{value:.1}") };
    }
    let digits = format!("{:.0}", value.abs());
    let mut grouped = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    if value < 0.0 { format!("-{grouped}") } else { grouped }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short_and_have_thousands_separators() {
        let shown: Vec<_> = [0.0, 1.234, 12.34, 999.0, 1000.4, 1_234_567.0].map(number).into();
        assert_eq!(shown, ["0", "1.23", "12.3", "999", "1,000", "1,234,567"]);
    }

    #[test]
    fn a_run_with_refusals_or_missing_pushes_is_not_complete() {
        use testbed::client::Request;
        let refusal = Refusal {
            request: Request::Message,
            code: 429,
            message: "slow down".into(),
            count: 7,
            cause: "limits.user_messages_per_second (50 by default)".into(),
        };
        let broken = Verdict { lost: 1, ..Verdict::default() };
        for (outcome, conclusion, part) in [
            (Outcome::default(), Conclusion::Complete, "complete"),
            (
                Outcome { refusals: vec![refusal], ..Outcome::default() },
                Conclusion::Incomplete,
                "limits.user_messages",
            ),
            (
                Outcome { pushes_due: 10, pushes_missing: 3, ..Outcome::default() },
                Conclusion::Incomplete,
                "3 of 10 pushes",
            ),
            (
                Outcome { pushes_missing: 3, verdict: Some(broken), ..Outcome::default() },
                Conclusion::Broken,
                "BROKEN",
            ),
        ] {
            assert_eq!(outcome.conclusion(), conclusion);
            assert!(outcome.to_string().contains(part), "{outcome}");
        }
    }

    #[test]
    fn goals_are_met_or_not() {
        assert!(Goal::AtLeast(2.0).is_met(2.0) && !Goal::AtLeast(2.0).is_met(1.9));
        assert!(Goal::Under(2.0).is_met(1.9) && !Goal::Under(2.0).is_met(2.0));
        assert!(Goal::Exactly(0.0).is_met(0.0) && !Goal::Exactly(0.0).is_met(1.0));
    }
}
