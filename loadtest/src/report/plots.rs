//! The plots of an outcome.

use std::collections::BTreeSet;

use super::plot::{Line, Plot};
use crate::scenario::{Outcome, Sample};

/// Counters that are plotted over time, if any of them is above 0.
type Over = (&'static str, &'static str, &'static [(&'static str, fn(&Sample) -> f64)]);

#[expect(clippy::cast_precision_loss, reason = "below 2^52")]
const COUNTERS: [Over; 2] = [
    (
        "Throughput",
        "messages/s",
        &[
            ("sent", |s| s.sent as f64),
            ("acknowledged", |s| s.acked as f64),
            ("stored", |s| s.stored as f64),
            ("refused", |s| s.refused as f64),
        ],
    ),
    ("Deliveries", "messages/s", &[("pushed to clients", |s| s.delivered as f64)]),
];

/// All plots that have data, each with a name for its file.
#[must_use]
pub fn plots(outcome: &Outcome) -> Vec<(&'static str, Plot)> {
    let mut all = Vec::new();
    all.extend(latency(outcome).map(|plot| ("latency", plot)));
    let samples = &outcome.samples;
    let marks: Vec<_> = outcome.marks.iter().map(|mark| (mark.at_s, mark.text.clone())).collect();
    for (name, (title, y_name, counters)) in ["throughput", "deliveries"].into_iter().zip(COUNTERS) {
        let line = |(name, counter): &(&str, fn(&Sample) -> f64)| Line {
            name: (*name).to_owned(),
            points: rates(samples, *counter),
        };
        let lines: Vec<Line> = counters.iter().map(line).filter(has_data).collect();
        all.extend(over_time(title, y_name, lines, &marks).map(|plot| (name, plot)));
    }
    #[expect(clippy::cast_precision_loss, reason = "below 2^52")]
    let backlog = |name: &str, of: fn(&Sample) -> u64| Line {
        name: name.to_owned(),
        points: samples.iter().map(|sample| (sample.at_s, of(sample) as f64)).collect(),
    };
    let lines = vec![
        backlog("sent and not acknowledged", |s| s.sent.saturating_sub(s.acked)),
        backlog("acknowledged and not stored", |s| s.acked.saturating_sub(s.stored)),
    ];
    // A running deployment's database is not known.
    let database = samples.iter().any(|sample| sample.stored > 0);
    let known = if database { 2 } else { 1 };
    let lines = lines.into_iter().take(known).filter(has_data).collect();
    all.extend(over_time("Backlog", "messages", lines, &marks).map(|plot| ("backlog", plot)));
    let cpu = |kind: &String| Line {
        name: kind.clone(),
        points: rates(samples, |sample| sample.cpu_s.get(kind).copied().unwrap_or_default()),
    };
    let kinds: BTreeSet<String> = samples.iter().flat_map(|sample| sample.cpu_s.keys().cloned()).collect();
    let lines = kinds.iter().map(cpu).filter(has_data).collect();
    all.extend(over_time("Processor", "cores", lines, &marks).map(|plot| ("cpu", plot)));
    let memory = |kind: &String| Line {
        name: kind.clone(),
        points: samples
            .iter()
            .filter_map(|sample| Some((sample.at_s, *sample.memory_mib.get(kind)?)))
            .collect(),
    };
    let lines = kinds.iter().map(memory).filter(has_data).collect();
    all.extend(over_time("Resident memory", "MiB", lines, &marks).map(|plot| ("memory", plot)));
    all
}

fn has_data(line: &Line) -> bool {
    line.points.iter().any(|(_, y)| *y > 0.0)
}

fn over_time(title: &str, y_name: &str, lines: Vec<Line>, marks: &[(f64, String)]) -> Option<Plot> {
    (!lines.is_empty()).then(|| Plot {
        title: title.to_owned(),
        x_name: "seconds".to_owned(),
        y_name: y_name.to_owned(),
        lines,
        marks: marks.to_vec(),
        ..Plot::default()
    })
}

/// The rate of a counter, over about a second.
fn rates(samples: &[Sample], counter: impl Fn(&Sample) -> f64) -> Vec<(f64, f64)> {
    const SPAN: usize = 4;
    let rate = |pair: &[Sample]| {
        let (first, last) = (pair.first()?, pair.last()?);
        let span = last.at_s - first.at_s;
        (span > 0.0).then(|| (last.at_s, (counter(last) - counter(first)).max(0.0) / span))
    };
    samples.windows(SPAN + 1).filter_map(rate).collect()
}

/// Milliseconds by percentile; the tail gets as much width as the middle.
fn latency(outcome: &Outcome) -> Option<Plot> {
    // 99.9 % is as far from 99 % as 99 % is from 90 %.
    let place = |percentile: f64| -(1.0 - percentile.min(99.99) / 100.0).log10();
    let line = |latency: &crate::scenario::Latency| Line {
        name: latency.name.clone(),
        points: latency.curve.iter().map(|(percentile, ms)| (place(*percentile), *ms)).collect(),
    };
    let lines: Vec<Line> = outcome.latencies.iter().map(line).collect();
    let ticks = [0.0, 50.0, 90.0, 99.0, 99.9, 99.99];
    (!lines.is_empty()).then(|| Plot {
        title: "Latency".to_owned(),
        x_name: "percentile".to_owned(),
        y_name: "ms".to_owned(),
        lines,
        x_ticks: Some(ticks.iter().map(|at| (place(*at), format!("{at}"))).collect()),
        logarithmic: true,
        ..Plot::default()
    })
}
