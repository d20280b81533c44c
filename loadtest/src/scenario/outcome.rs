//! What a scenario leaves: figures against goals, curves, samples over time.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use testbed::judge::Verdict;

/// The outcome of one scenario.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Outcome {
    /// As on the command line.
    pub name: String,
    /// What was done, in a sentence.
    pub what: String,
    /// In order of importance.
    pub figures: Vec<Figure>,
    /// Distributions.
    pub latencies: Vec<Latency>,
    /// Over time.
    pub samples: Vec<Sample>,
    /// What happened when.
    pub marks: Vec<Mark>,
    /// The judge's, where messages were sent.
    pub verdict: Option<Verdict>,
    /// The load, as it was given.
    pub load: serde_json::Value,
}

/// One number.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Figure {
    /// Of what.
    pub name: String,
    /// How much.
    pub value: f64,
    /// Of which unit.
    pub unit: String,
    /// What it was to be.
    pub goal: Option<Goal>,
}

/// What a figure is to be.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub enum Goal {
    /// This or more.
    AtLeast(f64),
    /// Below this.
    Under(f64),
    /// Exactly this.
    Exactly(f64),
}

impl Goal {
    /// Whether `value` is as it is to be.
    #[must_use]
    pub fn is_met(self, value: f64) -> bool {
        match self {
            Self::AtLeast(least) => value >= least,
            Self::Under(most) => value < most,
            Self::Exactly(exact) => (value - exact).abs() < f64::EPSILON,
        }
    }
}

/// A distribution.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Latency {
    /// Of what.
    pub name: String,
    /// How many were counted.
    pub count: u64,
    /// Percentile and milliseconds, rising.
    pub curve: Vec<(f64, f64)>,
}

/// What was so at one moment. Counters count from the beginning.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// Seconds after the beginning.
    pub at_s: f64,
    /// Messages sent, or due.
    pub sent: u64,
    /// Messages acknowledged.
    pub acked: u64,
    /// Messages in MySQL.
    pub stored: u64,
    /// Messages pushed into clients' hands.
    pub delivered: u64,
    /// 429 and 503.
    pub refused: u64,
    /// Processor seconds used, by process.
    pub cpu_s: BTreeMap<String, f64>,
    /// Resident memory, by process.
    pub memory_mib: BTreeMap<String, f64>,
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Mark {
    /// Seconds after the beginning.
    pub at_s: f64,
    /// What.
    pub text: String,
}

/// Percentiles that a curve is drawn through.
const PERCENTILES: [f64; 16] =
    [1.0, 5.0, 10.0, 25.0, 50.0, 75.0, 80.0, 90.0, 95.0, 98.0, 99.0, 99.5, 99.9, 99.95, 99.99, 100.0];

impl Latency {
    /// Of a histogram in microseconds.
    #[must_use]
    pub fn of(name: &str, micros: &Histogram<u64>) -> Self {
        #[allow(clippy::cast_precision_loss)] // below 2^52
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
    /// One more figure.
    pub fn figure(&mut self, name: &str, value: f64, unit: &str, goal: Option<Goal>) {
        self.figures.push(Figure { name: name.to_owned(), value, unit: unit.to_owned(), goal });
    }

    /// Whether the judge, if there was one, found every promise kept.
    #[must_use]
    pub fn is_kept(&self) -> bool {
        self.verdict.as_ref().is_none_or(Verdict::is_good)
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
        match &self.verdict {
            Some(verdict) => writeln!(f, "  promises {verdict}"),
            None => Ok(()),
        }
    }
}

/// With as many digits as tell something, and thousands apart.
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
    fn numbers_are_short_and_grouped() {
        let shown: Vec<_> = [0.0, 1.234, 12.34, 999.0, 1000.4, 1_234_567.0].map(number).into();
        assert_eq!(shown, ["0", "1.23", "12.3", "999", "1,000", "1,234,567"]);
    }

    #[test]
    fn goals_are_met_or_not() {
        assert!(Goal::AtLeast(2.0).is_met(2.0) && !Goal::AtLeast(2.0).is_met(1.9));
        assert!(Goal::Under(2.0).is_met(1.9) && !Goal::Under(2.0).is_met(2.0));
        assert!(Goal::Exactly(0.0).is_met(0.0) && !Goal::Exactly(0.0).is_met(1.0));
    }
}
