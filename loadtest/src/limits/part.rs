//! Runs one part, and measures its throughput and cost.

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

/// Not measured: connections warm up, statements are prepared.
const WARM_UP: Duration = Duration::from_millis(700);
/// A part that takes longer to stop is an error.
const STOP_TIMEOUT: Duration = Duration::from_secs(20);

/// The measurements of one part.
#[derive(Debug, Clone, Serialize)]
pub struct Part {
    /// A short name.
    pub name: &'static str,
    /// The operation that is counted.
    pub what: &'static str,
    /// Operations in the measured time.
    pub count: u64,
    /// Operations per second.
    pub per_second: f64,
    /// Microseconds of processor time for each operation, by process; the process of `limits` itself holds both ends of
    /// sockets, and the clients of the servers.
    pub cpu_us: BTreeMap<String, f64>,
}

impl Part {
    /// The same, over all processes.
    #[must_use]
    pub fn cpu_us_all(&self) -> f64 {
        self.cpu_us.values().sum()
    }
}

/// The state that the tasks of a part share.
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

/// The tasks of a part; each ends soon after [`Drive::goes_on`] returns false.
pub(super) type Drivers = JoinSet<anyhow::Result<()>>;

/// Lets `drivers` run for a while, and measures.
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
            anyhow::bail!("{name}: ended too early");
        }
    };
    drive.stop.store(true, Ordering::Relaxed);
    let ending = async {
        while let Some(ended) = drivers.join_next().await {
            ended??;
        }
        anyhow::Ok(())
    };
    tokio::time::timeout(STOP_TIMEOUT, ending).await.with_context(|| format!("{name} does not stop"))??;
    let count = after.count - before.count;
    anyhow::ensure!(count > 0, "{name}: no operation was completed");
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
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
