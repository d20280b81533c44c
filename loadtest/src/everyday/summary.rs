//! The figures of all turns, and their medians.

use std::collections::BTreeMap;

use serde::Serialize;
use testbed::meter::{OWN, SERVICES};

use crate::statistics::{median, medians};

/// The figures of one rate: of one turn, or the medians of several.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Figures {
    /// Messages per second that were sent.
    pub rate: f64,
    /// Milliseconds from the moment at which a message is due to its acknowledgement: p50.
    pub ack_p50_ms: f64,
    /// The same: p99.
    pub ack_p99_ms: f64,
    /// Milliseconds from the moment at which a message is due to its push at another member: p50.
    pub push_p50_ms: f64,
    /// The same: p99.
    pub push_p99_ms: f64,
    /// Microseconds of processor time per message, by kind of process.
    pub cpu_us: BTreeMap<String, f64>,
}

impl Figures {
    /// Processor time per message of all processes but the load generator, in microseconds.
    #[must_use]
    pub fn cpu_sum_us(&self) -> f64 {
        self.cpu_us.iter().filter(|(kind, _)| *kind != OWN).map(|(_, us)| us).sum()
    }

    fn medians(turns: &[Self]) -> Self {
        let of = |figure: fn(&Self) -> f64| median(turns.iter().map(figure));
        Self {
            rate: of(|turn| turn.rate),
            ack_p50_ms: of(|turn| turn.ack_p50_ms),
            ack_p99_ms: of(|turn| turn.ack_p99_ms),
            push_p50_ms: of(|turn| turn.push_p50_ms),
            push_p99_ms: of(|turn| turn.push_p99_ms),
            cpu_us: medians(turns.iter().map(|turn| &turn.cpu_us)),
        }
    }
}

/// A system with idle connections only.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Rest {
    /// Idle connections, each with a heartbeat every 30 s.
    pub connections: usize,
    /// Share of a core that each kind of process uses.
    pub core_shares: BTreeMap<String, f64>,
}

impl Rest {
    /// Share of a core that gateways and workers use.
    #[must_use]
    pub fn services(&self) -> f64 {
        self.core_shares
            .iter()
            .filter(|(kind, _)| SERVICES.contains(&kind.as_str()))
            .map(|(_, share)| share)
            .sum()
    }
}

/// One build: all turns, and the medians of each rate.
#[derive(Debug, Clone, Serialize)]
pub struct Build {
    /// `this build`, or the folder of the other one.
    pub name: String,
    /// Medians, one for each rate.
    pub rates: Vec<Figures>,
    /// At rest, if that was measured: the median of the rounds.
    pub rest: Option<Rest>,
    /// Each turn, by round and rate.
    pub turns: Vec<Vec<Figures>>,
}

impl Build {
    pub(super) fn new(name: String, turns: Vec<Vec<Figures>>, rests: &[Rest]) -> Self {
        let count = turns.iter().map(Vec::len).min().unwrap_or_default();
        let of_rate = |n: usize| turns.iter().map(|turn| turn[n].clone()).collect::<Vec<_>>();
        let rates = (0..count).map(|n| Figures::medians(&of_rate(n))).collect();
        let rest = rests.first().map(|first| Rest {
            connections: first.connections,
            core_shares: medians(rests.iter().map(|rest| &rest.core_shares)),
        });
        Self { name, rates, rest, turns }
    }
}

/// The outcome: this build first.
#[derive(Debug, Clone, Serialize)]
pub struct Everyday {
    /// Seconds of each turn.
    pub seconds: f64,
    /// Rounds.
    pub rounds: usize,
    /// The builds.
    pub builds: Vec<Build>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turn(ack: f64, gateways: f64) -> Figures {
        let cpu_us = [("gateways", gateways), ("MySQL", 5.0), (OWN, 100.0)];
        Figures {
            rate: 500.0,
            ack_p50_ms: ack,
            cpu_us: cpu_us.map(|(kind, us)| (kind.to_owned(), us)).into(),
            ..Figures::default()
        }
    }

    #[test]
    fn a_build_has_the_medians_of_its_rounds_and_the_load_generator_does_not_count() {
        let turns = vec![vec![turn(1.0, 10.0)], vec![turn(9.0, 30.0)], vec![turn(2.0, 20.0)]];
        let rest = |share| Rest {
            connections: 1_000,
            core_shares: BTreeMap::from([("workers".to_owned(), share), ("Redis".to_owned(), 0.5)]),
        };
        let build = Build::new("this build".into(), turns, &[rest(0.1), rest(0.3), rest(0.2)]);
        assert_eq!(build.rates.len(), 1);
        assert_eq!((build.rates[0].ack_p50_ms, build.rates[0].cpu_sum_us()), (2.0, 25.0));
        assert_eq!(build.rest.map(|rest| rest.services()), Some(0.2));
    }
}
