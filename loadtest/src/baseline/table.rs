//! The printed comparison.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::summary::{Comparison, Row};

/// Notes that a reader needs before comparing.
const NOTES: &str = "\
The baselines are called inside this process, without WebSocket or JSON frame: that favors them. This system is reached
through its gateways over WebSockets. All use the same MySQL, Redis and RabbitMQ; figures are medians over the rounds.
cpu: seconds of processor time per 1,000 acked messages: MySQL, Redis and RabbitMQ (srv); gateways and workers (gw+wk);
the load generator, with a baseline's server in the same process (own).";

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let work = &self.work;
        writeln!(
            f,
            "{} rounds of {} s, {} groups x {} senders, window {}, {} bytes; {} MySQL connections for the baselines",
            self.rounds,
            work.seconds,
            work.groups,
            work.senders_per_group,
            work.window,
            work.size,
            self.connections
        )?;
        writeln!(f, "{NOTES}\n")?;
        self.figures(f)?;
        self.cpu_table(f)?;
        self.ratio_table(f)?;
        self.rows.iter().filter(|row| row.backlog > 0.0).try_for_each(|row| backlog(f, row))
    }
}

impl Comparison {
    fn figures(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:<17} {:>9} {:>15} {:>9} | {:>9} {:>9} | {:>8} {:>8} {:>8} | {:>9} {:>9}",
            "",
            "acked/s",
            "least-most",
            "stored/s",
            "ack p50",
            "p99 ms",
            "cpu srv",
            "gw+wk",
            "own",
            "alone p50",
            "p99 ms"
        )?;
        for row in &self.rows {
            let at = |ms: &BTreeMap<String, f64>, name: &str| ms.get(name).copied().unwrap_or_default();
            let (least, most) = row.acked_range;
            writeln!(
                f,
                "{:<17} {:>9.0} {:>15} {:>9.0} | {:>9.2} {:>9.2} | {:>8.3} {:>8.3} {:>8.3} | {:>9.2} {:>9.2}",
                row.name,
                row.acked_per_second,
                format!("{least:.0}-{most:.0}"),
                row.stored_per_second,
                at(&row.ack_ms, "p50"),
                at(&row.ack_ms, "p99"),
                row.servers_cpu(),
                row.services_cpu(),
                row.own_cpu(),
                at(&row.alone_ms, "p50"),
                at(&row.alone_ms, "p99"),
            )?;
        }
        Ok(())
    }

    fn cpu_table(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let processes: BTreeSet<&String> =
            self.rows.iter().flat_map(|row| row.cpu_seconds_per_1000.keys()).collect();
        writeln!(f, "\nmicroseconds of processor time for one acked message, by process")?;
        write!(f, "{:<17} {:>9}", "", "all")?;
        processes.iter().try_for_each(|process| write!(f, " {process:>14}"))?;
        writeln!(f)?;
        for row in &self.rows {
            let all: f64 = row.cpu_seconds_per_1000.values().sum();
            write!(f, "{:<17} {:>9.1}", row.name, all * 1000.0)?;
            for process in &processes {
                let seconds = row.cpu_seconds_per_1000.get(*process).copied().unwrap_or_default();
                write!(f, " {:>14.1}", seconds * 1000.0)?;
            }
            writeln!(f)?;
        }
        Ok(())
    }

    fn ratio_table(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\nthis system against each, median of the rounds' own ratios; above 1 it is better")?;
        writeln!(
            f,
            "{:<17} {:>9} {:>9} | {:>9} | {:>8} | {:>9}",
            "", "acked", "stored", "ack p50", "cpu", "alone p50"
        )?;
        for ratios in &self.ratios {
            writeln!(
                f,
                "{:<17} {:>9.2} {:>9.2} | {:>9.2} | {:>8.2} | {:>9.2}",
                ratios.against, ratios.acked, ratios.stored, ratios.ack_p50, ratios.cpu, ratios.alone_p50
            )?;
        }
        Ok(())
    }
}

fn backlog(f: &mut fmt::Formatter<'_>, row: &Row) -> fmt::Result {
    write!(
        f,
        "\n{}: acked and not stored at the end of a round: {:.0} messages; their rows are not in its cpu",
        row.name, row.backlog
    )?;
    match row.drained_per_second {
        Some(drained) => writeln!(f, "; with no senders it stores {drained:.0}/s"),
        None => writeln!(f),
    }
}
