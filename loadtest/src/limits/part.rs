//! Driving one part, and counting what it costs.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use serde::Serialize;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use testbed::meter::{Used, servers_used};
use testbed::stack::Servers;

/// Not counted: connections warm up, statements get prepared.
const WARM_UP: Duration = Duration::from_millis(700);
/// A part that takes longer to stop hangs.
const STOP_PATIENCE: Duration = Duration::from_secs(20);

/// What one part did.
#[derive(Debug, Clone, Serialize)]
pub struct Part {
    /// Short.
    pub name: &'static str,
    /// What was done for each.
    pub what: &'static str,
    /// How many in the time that counts.
    pub count: u64,
    /// The part alone.
    pub per_second: f64,
    /// Processor microseconds for each, by process; the process of `limits` itself holds both ends of sockets, and the
    /// clients of the servers.
    pub cpu_us: BTreeMap<String, f64>,
}

impl Part {
    /// Of all processes together.
    #[must_use]
    pub fn cpu_us_all(&self) -> f64 {
        self.cpu_us.values().sum()
    }
}

/// What those who drive a part share.
#[derive(Debug, Default)]
pub(super) struct Drive {
    count: AtomicU64,
    stop: AtomicBool,
}

impl Drive {
    pub(super) fn done(&self, count: usize) {
        self.count.fetch_add(count as u64, Ordering::Relaxed);
    }

    pub(super) fn goes_on(&self) -> bool {
        !self.stop.load(Ordering::Relaxed)
    }
}

/// Those who drive a part: each ends soon after [`Drive::goes_on`] says so.
pub(super) type Drivers = JoinSet<anyhow::Result<()>>;

/// Lets `drivers` work for a while, and counts.
pub(super) async fn measure(
    (name, what): (&'static str, &'static str),
    seconds: f64,
    servers: &Servers,
    drive: &Arc<Drive>,
    mut drivers: Drivers,
) -> anyhow::Result<Part> {
    let measured = async {
        sleep(WARM_UP).await;
        let before = snapshot(servers, drive);
        sleep(Duration::from_secs_f64(seconds)).await;
        (before, snapshot(servers, drive))
    };
    tokio::pin!(measured);
    let (before, after) = tokio::select! {
        measured = &mut measured => measured,
        Some(ended) = drivers.join_next() => {
            ended??;
            anyhow::bail!("{name}: ended before its time");
        }
    };
    drive.stop.store(true, Ordering::Relaxed);
    let ending = async {
        while let Some(ended) = drivers.join_next().await {
            ended??;
        }
        anyhow::Ok(())
    };
    tokio::time::timeout(STOP_PATIENCE, ending).await.with_context(|| format!("{name} does not stop"))??;
    let count = after.count - before.count;
    anyhow::ensure!(count > 0, "{name}: nothing was done");
    #[allow(clippy::cast_precision_loss)] // far below 2^52
    let count_f = count as f64;
    let cpu = |(process, used): (&String, &Duration)| {
        let used = used.saturating_sub(before.used.get(process).copied().unwrap_or_default());
        (process.clone(), used.as_secs_f64() * 1e6 / count_f)
    };
    let cpu_us = after.used.iter().map(cpu).filter(|(_, us)| *us > 0.0).collect();
    let per_second = count_f / (after.at - before.at).as_secs_f64();
    Ok(Part { name, what, count, per_second, cpu_us })
}

struct Snapshot {
    at: Instant,
    count: u64,
    used: Used,
}

fn snapshot(servers: &Servers, drive: &Drive) -> Snapshot {
    Snapshot { at: Instant::now(), count: drive.count.load(Ordering::Relaxed), used: servers_used(servers) }
}
