//! The printed inputs, predictions and checks.

use std::fmt;

use testbed::meter::OWN;

use super::{Check, Cost, Demand, Inputs, Need};

const MIB: f64 = 1_048_576.0;
const GIB: f64 = 1_073_741_824.0;

impl fmt::Display for Inputs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "messages of {} bytes; {} cores; a burst has {:.0} messages/s; microseconds of processor time",
            self.size, self.cores, self.burst_per_second
        )?;
        writeln!(
            f,
            "{:<14} {:>13} {:>12} {:>12} {:>12} {:>12}",
            "", "message (a∞)", "batch (a₁)", "push (p)", "bend", "idle, per s"
        )?;
        let mut sum = Cost::default();
        for (name, cost) in &self.costs {
            row(f, name, cost)?;
            if name == OWN {
                continue;
            }
            sum.message += cost.message;
            sum.batch += cost.batch;
            sum.push += cost.push;
            sum.bend += cost.bend;
            sum.idle += cost.idle;
        }
        row(f, "sum", &sum)?;
        writeln!(
            f,
            "batches        1 + rate · {:.2} ms / (1 - busy share of the cores) messages, at most {:.0}",
            self.batch_seconds * 1_000.0,
            self.batch_max
        )?;
        if let Some(connections) = &self.connections {
            #[expect(clippy::cast_precision_loss, reason = "below 2^52")]
            let bytes = |bytes: u64| bytes as f64;
            writeln!(
                f,
                "connection     {:.1} KiB, {:.2} us per second for heartbeats; a gateway without connections {:.0} MiB",
                bytes(connections.bytes) / 1024.0,
                connections.heartbeat,
                bytes(connections.base_bytes) / MIB
            )?;
        }
        if let Some(storage) = &self.storage {
            writeln!(
                f,
                "stored         {:.0} bytes of a message in MySQL, {:.0} in Redis for redis.sent_ttl_s",
                storage.mysql, storage.redis
            )?;
        }
        Ok(())
    }
}

fn row(f: &mut fmt::Formatter<'_>, name: &str, cost: &Cost) -> fmt::Result {
    writeln!(
        f,
        "{name:<14} {:>13.1} {:>12.1} {:>12.2} {:>12.1} {:>12.0}",
        cost.message, cost.batch, cost.push, cost.bend, cost.idle
    )
}

impl fmt::Display for Demand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.0} messages/s, {:.1} pushes each", self.rate, self.pushes)?;
        if self.connections > 0.0 {
            write!(f, ", {:.0} connections", self.connections)?;
        }
        Ok(())
    }
}

impl fmt::Display for Need {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.2} cores (", self.all_cores())?;
        for (n, (name, cores)) in self.cores.iter().enumerate() {
            let comma = if n > 0 { ", " } else { "" };
            write!(f, "{comma}{name} {cores:.2}")?;
        }
        write!(f, "), {:.1} messages per batch", self.batch)?;
        if self.gateway_bytes > 0.0 {
            write!(f, ", {:.1} GiB for connections", self.gateway_bytes / GIB)?;
        }
        if self.mysql_bytes_per_day > 0.0 {
            write!(f, ", {:.1} GiB of MySQL per day", self.mysql_bytes_per_day / GIB)?;
        }
        Ok(())
    }
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [predicted, measured] = self.cores;
        write!(
            f,
            "{}: predicted {predicted:.3} cores, measured {measured:.3} ({:+.0} %); messages per batch {:.1}, {:.1}",
            self.demand,
            (self.ratio() - 1.0) * 100.0,
            self.batch[0],
            self.batch[1]
        )?;
        for (name, [predicted, measured]) in &self.by_process {
            write!(f, "\n    {name:<12} {predicted:>8.3} {measured:>8.3}")?;
        }
        Ok(())
    }
}
