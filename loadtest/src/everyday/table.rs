//! The printed table.

use std::fmt;

use testbed::meter::OWN;

use super::goals::{REST_GOAL, goal_of};
use super::summary::{Build, Everyday, Figures, Rest};

/// Kinds of processes, in the order of a message's way, and the heads of their columns.
const KINDS: [(&str, &str); 6] = [
    ("gateways", "gateways"),
    ("Redis", "Redis"),
    ("RabbitMQ", "RabbitMQ"),
    ("workers", "workers"),
    ("MySQL", "MySQL"),
    (OWN, "(load)"),
];

impl fmt::Display for Everyday {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} rounds of {} s by turns, medians; 10 groups of 5 connected members, all send; times count from the moment at \
             which a message is due",
            self.rounds, self.seconds
        )?;
        write!(
            f,
            "\n{:>10} {:>8} {:>8} {:>8} {:>8} {:>8}",
            "messages/s", "ack p50", "p99 ms", "push p50", "p99 ms", "us each"
        )?;
        KINDS.iter().try_for_each(|(_, head)| write!(f, " {head:>8}"))?;
        writeln!(f)?;
        self.builds.iter().try_for_each(|build| write_build(f, build))
    }
}

fn write_build(f: &mut fmt::Formatter<'_>, build: &Build) -> fmt::Result {
    writeln!(f, "{}", build.name)?;
    build.rates.iter().try_for_each(|figures| write_figures(f, figures))?;
    build.rest.iter().try_for_each(|rest| write_rest(f, rest))
}

fn write_figures(f: &mut fmt::Formatter<'_>, figures: &Figures) -> fmt::Result {
    let Figures { rate, ack_p50_ms, ack_p99_ms, push_p50_ms, push_p99_ms, cpu_us } = figures;
    write!(f, "{rate:>10.0} {ack_p50_ms:>8.2} {ack_p99_ms:>8.2} {push_p50_ms:>8.2} {push_p99_ms:>8.2}")?;
    write!(f, " {:>8.0}", figures.cpu_sum_us())?;
    for (kind, _) in KINDS {
        write!(f, " {:>8.0}", cpu_us.get(kind).copied().unwrap_or_default())?;
    }
    writeln!(f)?;
    let Some(goal) = goal_of(*rate) else { return Ok(()) };
    let mark = |value: f64, goal: f64| if value <= goal { "yes" } else { "no" };
    writeln!(
        f,
        "{:>10} {:>8} {:>8} {:>8} {:>8} {:>8}",
        "goal met",
        mark(*ack_p50_ms, goal.ack_ms.0),
        mark(*ack_p99_ms, goal.ack_ms.1),
        mark(*push_p50_ms, goal.push_ms.0),
        mark(*push_p99_ms, goal.push_ms.1),
        mark(figures.cpu_sum_us(), goal.cpu_us)
    )
}

fn write_rest(f: &mut fmt::Formatter<'_>, rest: &Rest) -> fmt::Result {
    let verdict = if rest.services() <= REST_GOAL { "reached" } else { "NOT reached" };
    write!(
        f,
        "   at rest, {} idle connections: gateways and workers {:.2} % of a core (goal {:.0} %: {verdict});",
        rest.connections,
        rest.services() * 100.0,
        REST_GOAL * 100.0
    )?;
    for (kind, share) in rest.core_shares.iter().filter(|(kind, _)| *kind != OWN) {
        write!(f, " {kind} {:.2} %", share * 100.0)?;
    }
    writeln!(f)
}
