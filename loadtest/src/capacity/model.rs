//! The model: what a message costs each process, from few measurements.
//!
//! The processor time of a process per second is `idle + m · (a∞ + a₁ / B + f · p) + c · h`: messages per second *m*, messages
//! per published batch *B*, pushes per message *f*, connections *c*. *B* grows with the rate and with the share *ρ* of the cores
//! that is busy: `1 + m · t / (1 - ρ)`, up to what a burst has. The share depends on *B* in turn: a machine is never more than
//! busy, because its batches become larger before that.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use testbed::meter::OWN;

/// What a load costs one kind of process, in microseconds of processor time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Cost {
    /// A second without messages.
    pub idle: f64,
    /// A message in a large batch, without its pushes (*a∞*).
    pub message: f64,
    /// A batch, however many messages it has (*a₁*).
    pub batch: f64,
    /// A push into one socket (*p*).
    pub push: f64,
    /// By how much a message costs more than `message + batch / B` says at the size of batches where that was measured.
    pub bend: f64,
}

/// What connections cost a gateway.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Connections {
    /// Resident memory of one.
    pub bytes: u64,
    /// Resident memory of a gateway without connections.
    pub base_bytes: u64,
    /// Processor time of one per second for its heartbeats, in microseconds (*h*).
    pub heartbeat: f64,
}

/// What a message leaves behind, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Storage {
    /// In the files of MySQL's tables, its indexes included.
    pub mysql: f64,
    /// In the memory of Redis, for `redis.sent_ttl_s`.
    pub redis: f64,
}

/// Everything that the model needs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Inputs {
    /// Bytes of the content of the messages that were measured.
    pub size: usize,
    /// Of the machine that measured.
    pub cores: usize,
    /// Messages per second of the burst, acknowledged and stored.
    pub burst_per_second: f64,
    /// By kind of process; the load generator is one of them.
    pub costs: BTreeMap<String, Cost>,
    /// The time in which the messages of a batch come together on an idle machine, in seconds (*t*).
    pub batch_seconds: f64,
    /// Messages per batch of a burst.
    pub batch_max: f64,
    /// Messages per batch of one sender alone, and of the load between it and the burst.
    pub batch_small: [f64; 2],
    /// `None`: not measured.
    pub connections: Option<Connections>,
    /// `None`: not measured.
    pub storage: Option<Storage>,
}

/// One measured load.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Measured {
    /// Messages per second.
    pub(super) rate: f64,
    /// Messages per batch.
    pub(super) batch: f64,
    /// Pushes per message.
    pub(super) pushes: f64,
    /// Processor time for a message by process, in microseconds, without that of an idle system.
    pub(super) us: BTreeMap<String, f64>,
}

/// A load whose processor time is predicted.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Demand {
    /// The cores of the one machine that carries everything, the load generator included; `None` for a deployment whose
    /// processes are at most [`FULL`].
    pub cores: Option<usize>,
    /// Messages per second.
    pub rate: f64,
    /// Pushes per message: connected members beside the sender.
    pub pushes: f64,
    /// Connections, on all gateways together.
    pub connections: f64,
}

/// What a load needs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Need {
    /// Messages per batch.
    pub batch: f64,
    /// Cores that are busy, by kind of process.
    pub cores: BTreeMap<String, f64>,
    /// Of all gateways together, for connections; 0 if that was not measured.
    pub gateway_bytes: f64,
    /// Growth of MySQL per day, in bytes; 0 if that was not measured.
    pub mysql_bytes_per_day: f64,
}

/// A process is called full at this share of its cores: latency is queueing above.
pub const FULL: f64 = 0.6;
const SECONDS_PER_DAY: f64 = 86_400.0;
/// The kind of process that has connections.
const GATEWAYS: &str = "gateways";

/// The costs that explain a trickle (batches of one), a load between it and a burst, a burst, and a burst with more pushes.
/// `idle`: processor time of a second without messages, by process.
pub(super) fn costs(
    idle: &BTreeMap<String, f64>,
    [trickle, middle, burst, pushing]: [&Measured; 4],
) -> BTreeMap<String, Cost> {
    let of = |measured: &Measured, name: &str| measured.us.get(name).copied().unwrap_or_default();
    let cost = |name: &String| {
        let (small, large, wide) = (of(trickle, name), of(burst, name), of(pushing, name));
        let per_push = |batch: f64| {
            let batches = batch * (1.0 / pushing.batch - 1.0 / burst.batch);
            quotient(wide - large - batches, pushing.pushes - burst.pushes)
        };
        let per_batch = |push: f64| {
            let pushes = push * (trickle.pushes - burst.pushes);
            quotient(small - large - pushes, 1.0 / trickle.batch - 1.0 / burst.batch)
        };
        // Each depends a little on the other.
        let (mut push, mut batch) = (0.0, 0.0);
        for _ in 0..20 {
            push = per_push(batch);
            batch = per_batch(push);
        }
        let message = (large - batch / burst.batch - push * burst.pushes).max(0.0);
        let bend = of(middle, name) - message - batch / middle.batch - push * middle.pushes;
        Cost { idle: idle.get(name).copied().unwrap_or_default(), message, batch, push, bend }
    };
    burst.us.keys().map(|name| (name.clone(), cost(name))).collect()
}

/// A cost is never below 0, whatever noise says.
fn quotient(cost: f64, count: f64) -> f64 {
    if count.abs() < f64::EPSILON { 0.0 } else { (cost / count).max(0.0) }
}

/// The time in which the messages of a batch come together on an idle machine, if they did so in `middle` while the share `busy`
/// of the cores was busy.
pub(super) fn batch_seconds(middle: &Measured, busy: f64) -> f64 {
    quotient((middle.batch - 1.0) * (1.0 - busy.min(1.0)), middle.rate)
}

impl Inputs {
    /// Messages per batch: the smallest number that is large enough for the cores that are busy with such batches.
    #[must_use]
    pub fn batch(&self, demand: &Demand) -> f64 {
        let most = self.batch_max.max(1.0);
        let suffices = |batch: f64| {
            let busy = self.busy(demand, batch);
            busy < 1.0 && batch >= 1.0 + demand.rate * self.batch_seconds / (1.0 - busy)
        };
        let (mut low, mut high) = (1.0, most);
        for _ in 0..60 {
            let middle = f64::midpoint(low, high);
            if suffices(middle) { high = middle } else { low = middle }
        }
        high
    }

    /// The share of the cores that is busy.
    fn busy(&self, demand: &Demand, batch: f64) -> f64 {
        let Some(cores) = demand.cores else { return FULL };
        #[expect(clippy::cast_precision_loss, reason = "some cores")]
        let cores = cores.max(1) as f64;
        self.costs.iter().map(|(name, cost)| self.cores(name, cost, demand, batch)).sum::<f64>() / cores
    }

    /// How much of the bend applies: all at the size where it was measured, nothing at the sizes of the two other loads, and in
    /// proportion to `1 / B` between.
    fn bend(&self, batch: f64) -> f64 {
        let ([small, middle], large) = (self.batch_small.map(f64::recip), self.batch_max.recip());
        // Without a third size, nothing is known between.
        if !(large < middle && middle < small) {
            return 0.0;
        }
        let at = batch.recip();
        if at < middle { (at - large) / (middle - large) } else { (small - at) / (small - middle) }
            .clamp(0.0, 1.0)
    }

    /// The cores that one kind of process needs.
    fn cores(&self, name: &str, cost: &Cost, demand: &Demand, batch: f64) -> f64 {
        let batches = cost.batch / batch + cost.bend * self.bend(batch);
        let message = cost.message + batches.max(0.0) + cost.push * demand.pushes;
        let heartbeats = match &self.connections {
            Some(connections) if name == GATEWAYS => demand.connections * connections.heartbeat,
            _ => 0.0,
        };
        (cost.idle + demand.rate * message + heartbeats) / 1e6
    }

    /// What `demand` needs, without the load generator.
    #[must_use]
    pub fn predict(&self, demand: &Demand) -> Need {
        let batch = self.batch(demand);
        let cores = |(name, cost): (&String, &Cost)| (name.clone(), self.cores(name, cost, demand, batch));
        let of_the_system = self.costs.iter().filter(|(name, _)| *name != OWN);
        #[expect(clippy::cast_precision_loss, reason = "below 2^52")]
        let gateway_bytes = self.connections.map_or(0.0, |it| demand.connections * it.bytes as f64);
        let mysql = self.storage.map_or(0.0, |storage| storage.mysql);
        Need {
            batch,
            cores: of_the_system.map(cores).collect(),
            gateway_bytes,
            mysql_bytes_per_day: mysql * demand.rate * SECONDS_PER_DAY,
        }
    }
}

impl Need {
    /// Cores that are busy in all processes.
    #[must_use]
    pub fn all_cores(&self) -> f64 {
        self.cores.values().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a system with these costs would show.
    fn shown(cost: &Cost, rate: f64, batch: f64, pushes: f64) -> Measured {
        let us = cost.message + cost.batch / batch + cost.push * pushes;
        Measured { rate, batch, pushes, us: [("gateways".to_owned(), us)].into() }
    }

    fn near(a: f64, b: f64) -> bool {
        (a - b).abs() <= 0.001 * b.abs().max(1.0)
    }

    #[test]
    fn the_costs_of_a_system_are_found_in_what_it_shows() {
        let cost = Cost { idle: 900.0, message: 7.0, batch: 400.0, push: 0.5, bend: 0.0 };
        let idle = [("gateways".to_owned(), 900.0)].into();
        let (trickle, burst) = (shown(&cost, 20.0, 1.1, 0.0), shown(&cost, 30_000.0, 180.0, 4.0));
        let pushing = shown(&cost, 20_000.0, 120.0, 14.0);
        let mut middle = shown(&cost, 3_000.0, 5.0, 4.0);
        middle.us.values_mut().for_each(|us| *us -= 9.0);
        let found = costs(&idle, [&trickle, &middle, &burst, &pushing])["gateways"];
        for (found, true_cost) in [
            (found.bend, -9.0),
            (found.idle, cost.idle),
            (found.message, cost.message),
            (found.batch, cost.batch),
            (found.push, cost.push),
        ] {
            assert!(near(found, true_cost), "{found} for {true_cost}");
        }
    }

    #[test]
    fn noise_makes_no_negative_costs() {
        let cost = Cost { message: 7.0, ..Cost::default() };
        let burst = shown(&cost, 30_000.0, 180.0, 4.0);
        let mut pushing = shown(&cost, 20_000.0, 120.0, 14.0);
        pushing.us.values_mut().for_each(|us| *us -= 1.0);
        let trickle = shown(&cost, 20.0, 1.0, 0.0);
        let found = costs(&BTreeMap::new(), [&trickle, &burst, &burst, &pushing])["gateways"];
        assert!(found.push >= 0.0 && found.batch >= 0.0 && found.message >= 0.0, "{found:?}");
    }

    #[test]
    fn batches_grow_with_the_rate_up_to_those_of_a_burst() {
        let middle = Measured { rate: 1_000.0, batch: 5.0, pushes: 0.0, us: BTreeMap::new() };
        let inputs = Inputs {
            size: 200,
            cores: 2,
            burst_per_second: 30_000.0,
            costs: [
                (
                    "gateways".to_owned(),
                    Cost { idle: 10_000.0, message: 10.0, batch: 400.0, push: 0.5, bend: 0.0 },
                ),
                ("MySQL".to_owned(), Cost { message: 5.0, ..Cost::default() }),
                (OWN.to_owned(), Cost { message: 20.0, ..Cost::default() }),
            ]
            .into(),
            batch_seconds: batch_seconds(&middle, 0.5),
            batch_max: 100.0,
            batch_small: [1.0, 5.0],
            connections: Some(Connections { bytes: 8_192, base_bytes: 1 << 25, heartbeat: 2.0 }),
            storage: Some(Storage { mysql: 400.0, redis: 110.0 }),
        };
        let demand = Demand { cores: None, rate: 1_000.0, pushes: 20.0, connections: 10_000.0 };
        let at = |rate| inputs.batch(&Demand { rate, ..demand });
        // 2 ms on an idle machine are 5 ms where 60 % is busy.
        assert!(near(at(1_000.0), 6.0) && near(at(0.0), 1.0) && near(at(1e9), 100.0));
        let need = inputs.predict(&demand);
        // 0.01 idle; 1,000 messages of 10 + 400/6 + 10 us; 10,000 connections of 2 us.
        assert!(near(need.cores["gateways"], 0.01 + 0.086_667 + 0.02), "{need:?}");
        assert!(near(need.all_cores(), 0.116_667 + 0.005) && !need.cores.contains_key(OWN));
        // One core, which batches of two messages would overload: 4,000 messages of 45 + 400/B us, and 0.03.
        let one = Demand { cores: Some(1), rate: 4_000.0, ..demand };
        let (batch, busy) = (inputs.batch(&one), inputs.busy(&one, inputs.batch(&one)));
        assert!((2.0..100.0).contains(&batch) && busy < 1.0, "{batch} {busy}");
        assert!(near(batch, 1.0 + 8.0 / (1.0 - busy)), "{batch} {busy}");
        assert!(near(need.gateway_bytes, 8_192e4) && near(need.mysql_bytes_per_day, 400.0 * 86.4e6));
    }

    #[test]
    fn what_was_measured_between_bends_the_line() {
        let cost = Cost { message: 10.0, batch: 400.0, bend: -40.0, ..Cost::default() };
        let inputs = Inputs {
            size: 200,
            cores: 2,
            burst_per_second: 30_000.0,
            costs: [("gateways".to_owned(), cost)].into(),
            batch_seconds: 0.0,
            batch_max: 100.0,
            batch_small: [1.0, 5.0],
            connections: None,
            storage: None,
        };
        for (batch, us) in [(1.0, 410.0), (5.0, 50.0), (100.0, 14.0)] {
            let demand = Demand { cores: None, rate: 1e6, pushes: 0.0, connections: 0.0 };
            let cores = inputs.cores("gateways", &cost, &demand, batch);
            assert!(near(cores, us), "{cores} us for a message in batches of {batch}");
        }
        let straight = Inputs { batch_small: [1.0, 1.0], ..inputs };
        assert!(near(straight.bend(5.0), 0.0));
    }
}
