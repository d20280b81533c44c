//! Runs the loads that the model needs, and those that check it.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use serde::Serialize;
use testbed::client::Report;
use testbed::meter::{OWN, Used, metric};
use tokio::time::sleep;

use super::model::{Connections, Demand, Inputs, Measured, Storage, batch_seconds, costs};
use crate::scenario::{Figures, Load, Rate, Target, idle, run};

/// Before anything is measured: statements are prepared, and connections opened.
const WARM_UP_MESSAGES: usize = 20_000;
/// Messages per second of a single sender, slow enough that each has a batch of its own.
const TRICKLE_PER_SECOND: f64 = 20.0;
/// Listeners of each group in the load with more pushes.
const LISTENERS: usize = 10;
/// Shares of the burst's rate: of the load that shows how batches grow, and of those that check the model.
const MIDDLE_SHARE: f64 = 0.1;
const CHECKED: [(f64, usize); 3] = [(0.03, 0), (0.2, 0), (0.3, LISTENERS)];
/// After a load: what follows it (inboxes, acknowledgements of bodies) does not count for the next one.
const PAUSE: Duration = Duration::from_secs(2);

/// How much is measured.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Plan {
    /// Messages of each burst.
    pub messages: usize,
    /// Seconds of each steady load.
    pub seconds: f64,
    /// Idle connections; 0 for none, which saves a minute.
    pub connections: usize,
    /// Bytes of the content of a message.
    pub size: usize,
}

/// A load that was predicted and measured.
#[derive(Debug, Clone, Serialize)]
pub struct Check {
    /// The load.
    pub demand: Demand,
    /// Messages per batch, predicted and measured.
    pub batch: [f64; 2],
    /// Busy cores of all processes, predicted and measured.
    pub cores: [f64; 2],
    /// The same by process.
    pub by_process: BTreeMap<String, [f64; 2]>,
}

impl Check {
    /// The prediction, as a share of what was measured.
    #[must_use]
    pub fn ratio(&self) -> f64 {
        self.cores[0] / self.cores[1].max(f64::EPSILON)
    }
}

/// Measures all inputs of the model on a system of its own. `tell` is called with the name of each load.
///
/// # Errors
/// If a load fails.
pub async fn measure(target: &mut Target, plan: &Plan, tell: impl Fn(&str)) -> anyhow::Result<Inputs> {
    tell("warming up");
    load(target, &groups(plan, WARM_UP_MESSAGES.min(plan.messages)), "warm").await?;
    tell("no messages");
    let idle = idle_us(target, plan.seconds).await?;
    let run = async |name: &str, load: &Load, target: &mut Target| -> anyhow::Result<Run> {
        tell(name);
        measured(target, load, name, &idle).await
    };
    let one = Load { groups: 1, senders: 1, ..steady(plan, TRICKLE_PER_SECOND) };
    let trickle = run("one sender alone", &one, target).await?;
    let stored_before = stored(target).await?;
    let burst = run("a burst", &groups(plan, plan.messages), target).await?;
    let stored_after = stored(target).await?;
    let listened = Load { listeners: LISTENERS, ..groups(plan, plan.messages / 2) };
    let pushing = run("a burst with listeners", &listened, target).await?;
    let rate = burst.figures.persisted_per_second * MIDDLE_SHARE;
    let middle = run("a tenth of the burst's rate", &steady(plan, rate), target).await?;
    let connections = connections(target, plan, &tell).await?;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    #[expect(clippy::cast_precision_loss, reason = "some cores")]
    let busy = (idle.values().sum::<f64>() + middle.measured.us.values().sum::<f64>() * middle.measured.rate)
        / (1e6 * cores as f64);
    #[expect(clippy::cast_precision_loss, reason = "below 2^52")]
    let per_message =
        |after: u64, before: u64| after.saturating_sub(before) as f64 / burst.figures.acked.max(1) as f64;
    let storage = stored_after.zip(stored_before).map(|(after, before)| Storage {
        mysql: per_message(after[0], before[0]),
        redis: per_message(after[1], before[1]),
    });
    Ok(Inputs {
        size: plan.size,
        cores,
        burst_per_second: burst.figures.persisted_per_second,
        costs: costs(&idle, [&trickle.measured, &middle.measured, &burst.measured, &pushing.measured]),
        batch_seconds: batch_seconds(&middle.measured, busy),
        batch_max: burst.measured.batch,
        batch_small: [trickle.measured.batch, middle.measured.batch],
        connections,
        storage,
    })
}

/// Predicts three loads, and runs them.
///
/// # Errors
/// If a load fails.
pub async fn check(
    target: &mut Target,
    inputs: &Inputs,
    plan: &Plan,
    tell: impl Fn(&str),
) -> anyhow::Result<Vec<Check>> {
    let mut checks = Vec::new();
    for (share, listeners) in CHECKED {
        let rate = inputs.burst_per_second * share;
        let name = format!("a check with {rate:.0} messages/s and {listeners} listeners in each group");
        tell(&name);
        let load = Load { listeners, ..steady(plan, rate) };
        let run = measured(target, &load, "check", &BTreeMap::new()).await?;
        let Measured { rate, batch, pushes, us } = run.measured;
        let demand = Demand { cores: Some(inputs.cores), rate, pushes, connections: 0.0 };
        let need = inputs.predict(&demand);
        let busy = |us: f64| us * rate / 1e6;
        let by_process = need.cores.iter().map(|(name, predicted)| {
            (name.clone(), [*predicted, busy(us.get(name).copied().unwrap_or_default())])
        });
        checks.push(Check {
            demand,
            batch: [need.batch, batch],
            cores: [
                need.all_cores(),
                busy(us.iter().filter(|(name, _)| *name != OWN).map(|(_, us)| us).sum()),
            ],
            by_process: by_process.collect(),
        });
    }
    Ok(checks)
}

/// 50 senders in 10 groups, as fast as their window allows.
fn groups(plan: &Plan, messages: usize) -> Load {
    Load {
        groups: 10,
        listeners: 0,
        senders: 5,
        messages,
        window: 64,
        size: plan.size,
        stored: false,
        rate: None,
    }
}

/// The same at a rate.
fn steady(plan: &Plan, per_second: f64) -> Load {
    let rate = Rate { per_second, seconds: plan.seconds, spike: None };
    Load { rate: Some(rate), ..groups(plan, 0) }
}

struct Run {
    figures: Figures,
    measured: Measured,
}

async fn load(target: &mut Target, load: &Load, name: &str) -> anyhow::Result<Figures> {
    let deployment = target.deployment().clone();
    let letters: String = name.chars().filter(char::is_ascii_alphanumeric).take(6).collect();
    let name = format!("{letters}{}", &uuid::Uuid::new_v4().simple().to_string()[..4]);
    let figures = run(load, &deployment, &name, &Arc::new(Report::default()), || target.used()).await?;
    anyhow::ensure!(figures.verdict.is_good(), "promises were broken: {}", figures.verdict);
    sleep(PAUSE).await;
    Ok(figures)
}

/// Runs a load; `idle` is the processor time of a second without messages, by process, which does not count.
async fn measured(
    target: &mut Target,
    of: &Load,
    name: &str,
    idle: &BTreeMap<String, f64>,
) -> anyhow::Result<Run> {
    let before = batches(target).await?;
    let figures = load(target, of, name).await?;
    let batches = batches(target).await? - before;
    #[expect(clippy::cast_precision_loss, reason = "below 2^52")]
    let count = |count: u64| count as f64;
    let messages = count(figures.acked).max(1.0);
    let rate = match &of.rate {
        Some(rate) => messages / rate.seconds,
        None => figures.persisted_per_second,
    };
    let us = figures.cpu_seconds_per_1000.iter().map(|(name, seconds)| {
        let idle = idle.get(name).copied().unwrap_or_default() / rate;
        (name.clone(), (seconds * 1_000.0 - idle).max(0.0))
    });
    let (us, pushes) = (us.collect(), count(figures.pushes) / messages);
    let measured = Measured { rate, batch: (messages / batches.max(1.0)).max(1.0), pushes, us };
    Ok(Run { figures, measured })
}

/// Batches that all gateways have published so far.
async fn batches(target: &mut Target) -> anyhow::Result<f64> {
    let mut batches = 0.0;
    for url in target.system()?.ops_urls() {
        batches += metric(&url, "im_gateway_batch_messages_count").await?;
    }
    Ok(batches)
}

/// Processor time of a second without messages, by process, in microseconds.
async fn idle_us(target: &mut Target, seconds: f64) -> anyhow::Result<BTreeMap<String, f64>> {
    sleep(PAUSE).await;
    let before: Used = target.used();
    sleep(Duration::from_secs_f64(seconds)).await;
    let after = target.used();
    let us = after.into_iter().map(|(name, used)| {
        let spent = used.saturating_sub(before.get(&name).copied().unwrap_or_default());
        (name, spent.as_secs_f64() * 1e6 / seconds)
    });
    Ok(us.collect())
}

async fn connections(
    target: &mut Target,
    plan: &Plan,
    tell: &impl Fn(&str),
) -> anyhow::Result<Option<Connections>> {
    if plan.connections == 0 {
        return Ok(None);
    }
    tell("idle connections");
    let idle = idle(target, plan.connections, true).await?;
    let memory = idle.memory.context("the memory of a gateway")?;
    #[expect(clippy::cast_precision_loss, reason = "below 2^52")]
    let heartbeat = idle.heartbeat_core_share.unwrap_or_default() * 1e6 / plan.connections as f64;
    Ok(Some(Connections { bytes: memory.bytes_per_connection, base_bytes: memory.before_bytes, heartbeat }))
}

/// Bytes of the tables of MySQL, and of the memory of Redis; `None` where they are not on this machine.
async fn stored(target: &mut Target) -> anyhow::Result<Option<[u64; 2]>> {
    let Some(mut mysql) = target.mysql().await? else { return Ok(None) };
    let (_, folder): (String, String) =
        sqlx::query_as("SHOW VARIABLES LIKE 'datadir'").fetch_one(&mut mysql).await?;
    let (schema,): (String,) = sqlx::query_as("SELECT DATABASE()").fetch_one(&mut mysql).await?;
    let Ok(tables) = bytes_of(&Path::new(&folder).join(schema)) else { return Ok(None) };
    let Some(redis) = target.system()?.redis() else { return Ok(None) };
    let memory = redis.command(&["INFO", "memory"]).await?;
    let used = memory.lines().find_map(|line| line.strip_prefix("used_memory:")?.trim().parse().ok());
    Ok(Some([tables, used.context("INFO memory without used_memory")?]))
}

/// The sizes of the files in a folder.
fn bytes_of(folder: &Path) -> std::io::Result<u64> {
    let mut bytes = 0;
    for file in std::fs::read_dir(folder)? {
        bytes += file?.metadata()?.len();
    }
    Ok(bytes)
}
