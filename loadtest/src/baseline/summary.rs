//! The summary of all rounds: the median of each figure, and the system's ratio to each baseline.

use std::collections::BTreeMap;

use serde::Serialize;

use super::plan::Plan;
use super::rounds::{Round, Work};
use crate::statistics::{median, medians};
use testbed::meter::{OWN, SERVICES};

/// All rounds of one contender.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Rounds {
    pub(super) name: &'static str,
    pub(super) together: Vec<Round>,
    pub(super) alone: Vec<Round>,
}

impl Rounds {
    pub(super) fn new(name: &'static str) -> Self {
        Self { name, together: Vec::new(), alone: Vec::new() }
    }

    fn only(&self, n: usize) -> Self {
        let only = |rounds: &[Round]| rounds.get(n).cloned().into_iter().collect();
        Self { name: self.name, together: only(&self.together), alone: only(&self.alone) }
    }
}

/// One contender: medians over its rounds.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Row {
    /// Its name.
    pub name: String,
    /// Messages acknowledged per second.
    pub acked_per_second: f64,
    /// The same in its slowest and in its fastest round.
    pub acked_range: (f64, f64),
    /// Messages in MySQL per second.
    pub stored_per_second: f64,
    /// Milliseconds, by percentile.
    pub ack_ms: BTreeMap<String, f64>,
    /// Processor seconds per 1,000 acknowledged messages, by process.
    pub cpu_seconds_per_1000: BTreeMap<String, f64>,
    /// Messages acknowledged and not stored at the end of a round.
    pub backlog: f64,
    /// Messages that its consumer stored per second after the last message was sent.
    pub drained_per_second: Option<f64>,
    /// Milliseconds of a single sender with one message at a time, by percentile.
    pub alone_ms: BTreeMap<String, f64>,
}

/// How the system stands to one baseline: the median over the rounds of the ratios within each, which a machine that
/// gets slower or faster in between does not change much. Above 1 it is better.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Ratios {
    /// The baseline.
    pub against: String,
    /// The ratio of messages acknowledged.
    pub acked: f64,
    /// The ratio of messages stored.
    pub stored: f64,
    /// Processor time of servers and processes per message. The baseline's, divided by the system's.
    pub cpu: f64,
    /// Median time to the acknowledgement under load. The baseline's, divided by the system's.
    pub ack_p50: f64,
    /// The same with one message at a time. The baseline's, divided by the system's.
    pub alone_p50: f64,
}

/// The outcome of a comparison.
#[derive(Debug, Clone, Serialize)]
pub struct Comparison {
    /// The work of each round.
    pub work: Work,
    /// Rounds of each contender.
    pub rounds: usize,
    /// Connections to MySQL of the baselines.
    pub connections: u32,
    /// The contenders; the system is the last one.
    pub rows: Vec<Row>,
    /// The system against each of the others.
    pub ratios: Vec<Ratios>,
    /// Every round.
    #[serde(rename = "turns")]
    measured: Vec<Rounds>,
}

impl Comparison {
    pub(super) fn new(plan: &Plan, measured: Vec<Rounds>) -> Self {
        let rows: Vec<Row> = measured.iter().map(Row::of).collect();
        Self {
            work: plan.work.clone(),
            rounds: plan.rounds,
            connections: plan.connections,
            ratios: ratios_by_round(&measured, plan.rounds),
            rows,
            measured,
        }
    }
}

impl Row {
    fn of(rounds: &Rounds) -> Self {
        let all = &rounds.together;
        let drained: Vec<f64> = all.iter().filter_map(|round| round.drained_per_second).collect();
        #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
        let backlog = median(all.iter().map(|round| round.backlog as f64));
        Self {
            name: rounds.name.to_owned(),
            acked_per_second: median(all.iter().map(|round| round.acked_per_second)),
            acked_range: range(all.iter().map(|round| round.acked_per_second)),
            stored_per_second: median(all.iter().map(|round| round.stored_per_second)),
            ack_ms: medians(all.iter().map(|round| &round.ack_ms)),
            cpu_seconds_per_1000: medians(all.iter().map(|round| &round.cpu_seconds_per_1000)),
            backlog,
            drained_per_second: (!drained.is_empty()).then(|| median(drained.iter().copied())),
            alone_ms: medians(rounds.alone.iter().map(|round| &round.ack_ms)),
        }
    }

    /// Processor seconds per 1,000 messages of MySQL, Redis and RabbitMQ.
    pub(super) fn servers_cpu(&self) -> f64 {
        self.cpu_of(|name| name != OWN && !SERVICES.contains(&name))
    }

    /// The same of gateways and workers.
    pub(super) fn services_cpu(&self) -> f64 {
        self.cpu_of(|name| SERVICES.contains(&name))
    }

    /// The same of this process: the load generator, and a baseline's server beside it.
    pub(super) fn own_cpu(&self) -> f64 {
        self.cpu_of(|name| name == OWN)
    }

    fn cpu_of(&self, counts: impl Fn(&str) -> bool) -> f64 {
        self.cpu_seconds_per_1000.iter().filter(|(name, _)| counts(name)).map(|(_, cpu)| cpu).sum()
    }
}

/// The ratios of the last contender to each of the others in each round; returns their medians.
fn ratios_by_round(all: &[Rounds], rounds: usize) -> Vec<Ratios> {
    let round = |n| ratios(&all.iter().map(|rounds| Row::of(&rounds.only(n))).collect::<Vec<_>>());
    let rounds: Vec<Vec<Ratios>> = (0..rounds).map(round).collect();
    let baselines = all.iter().take(all.len().saturating_sub(1)).enumerate();
    let over = |(index, baseline): (usize, &Rounds)| {
        let of = |figure: fn(&Ratios) -> f64| {
            median(rounds.iter().filter_map(|ratios| ratios.get(index)).map(figure))
        };
        Ratios {
            against: baseline.name.to_owned(),
            acked: of(|ratios| ratios.acked),
            stored: of(|ratios| ratios.stored),
            cpu: of(|ratios| ratios.cpu),
            ack_p50: of(|ratios| ratios.ack_p50),
            alone_p50: of(|ratios| ratios.alone_p50),
        }
    };
    baselines.map(over).collect()
}

/// The ratios of the last row to each of the others.
fn ratios(rows: &[Row]) -> Vec<Ratios> {
    let Some((system, baselines)) = rows.split_last() else { return Vec::new() };
    let cpu = |row: &Row| row.servers_cpu() + row.services_cpu() + row.own_cpu();
    let p50 = |ms: &BTreeMap<String, f64>| ms.get("p50").copied().unwrap_or_default();
    let against = |baseline: &Row| Ratios {
        against: baseline.name.clone(),
        acked: ratio(system.acked_per_second, baseline.acked_per_second),
        stored: ratio(system.stored_per_second, baseline.stored_per_second),
        cpu: ratio(cpu(baseline), cpu(system)),
        ack_p50: ratio(p50(&baseline.ack_ms), p50(&system.ack_ms)),
        alone_p50: ratio(p50(&baseline.alone_ms), p50(&system.alone_ms)),
    };
    baselines.iter().map(against).collect()
}

/// 0 where nothing was measured.
fn ratio(of: f64, to: f64) -> f64 {
    if to > 0.0 { of / to } else { 0.0 }
}

/// Minimum and maximum; 0 without values.
fn range(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let wider = |range: Option<(f64, f64)>, value: f64| {
        Some(range.map_or((value, value), |(least, most)| (least.min(value), most.max(value))))
    };
    values.fold(None, wider).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(name: &str, per_second: f64, p50: f64, cpu: &[(&str, f64)]) -> Row {
        Row {
            name: name.to_owned(),
            acked_per_second: per_second,
            stored_per_second: per_second,
            ack_ms: [("p50".to_owned(), p50)].into(),
            alone_ms: [("p50".to_owned(), 1.0)].into(),
            cpu_seconds_per_1000: cpu.iter().map(|(name, cpu)| ((*name).to_owned(), *cpu)).collect(),
            ..Row::default()
        }
    }

    #[test]
    fn a_ratio_above_one_favors_the_system() {
        let rows = [
            row("slow", 500.0, 80.0, &[("MySQL", 1.0), (OWN, 0.2)]),
            row("nothing stored", 0.0, 4.0, &[]),
            row("system", 5_000.0, 8.0, &[("MySQL", 0.1), ("gateways", 0.2), (OWN, 0.1)]),
        ];
        let ratios = ratios(&rows);
        assert_eq!(ratios.len(), 2);
        assert_eq!((ratios[0].acked, ratios[0].ack_p50, ratios[0].alone_p50), (10.0, 10.0, 1.0));
        assert!((ratios[0].cpu - 3.0).abs() < 1e-9, "{ratios:?}");
        assert_eq!((ratios[1].stored, ratios[1].ack_p50), (0.0, 0.5));
    }

    fn rounds(name: &'static str, per_second: [f64; 3]) -> Rounds {
        let round = |acked_per_second| Round {
            acked: 1_000,
            acked_per_second,
            stored_per_second: acked_per_second,
            backlog: 0,
            drained_per_second: None,
            ack_ms: [("p50".to_owned(), 1.0)].into(),
            cpu_seconds_per_1000: [("MySQL".to_owned(), 1.0)].into(),
        };
        let rounds: Vec<Round> = per_second.into_iter().map(round).collect();
        Rounds { name, together: rounds.clone(), alone: rounds }
    }

    #[test]
    fn a_machine_that_slows_down_does_not_change_the_ratio() {
        let all = [rounds("slow", [100.0, 50.0, 10.0]), rounds("system", [400.0, 200.0, 90.0])];
        let ratios = ratios_by_round(&all, 3);
        assert_eq!(ratios.len(), 1);
        assert_eq!((ratios[0].acked, ratios[0].alone_p50), (4.0, 1.0));
        assert_eq!(Row::of(&all[1]).acked_range, (90.0, 400.0));
        assert_eq!(range(std::iter::empty()), (0.0, 0.0));
    }

    #[test]
    fn processor_time_is_summed_by_kind_of_process() {
        let row = row("any", 1.0, 1.0, &[("MySQL", 1.0), ("Redis", 2.0), ("workers", 4.0), (OWN, 8.0)]);
        assert_eq!((row.servers_cpu(), row.services_cpu(), row.own_cpu()), (3.0, 4.0, 8.0));
    }
}
