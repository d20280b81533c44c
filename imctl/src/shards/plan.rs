//! `imctl shards plan`: which worker would own which shard.

use std::time::Duration;

use serde::Serialize;
use shared::redis::liveness_registry::{LiveWorkers, WorkerRegistry};
use shared::shard::ShardLayout;
use uuid::Uuid;
use worker::shards::assignment::owners;

use crate::context::Context;
use crate::output::{Ending, Output};
use crate::text::{count, table};

/// Longer than a worker without a heartbeat is considered alive.
const EXPIRY: Duration = Duration::from_secs(6);

/// What `imctl shards plan --json` prints.
#[derive(Debug, Serialize)]
struct Plan {
    shards: u16,
    /// Each worker has the same number of shards, or one more. False while a worker of an earlier version is alive.
    equal_shares: bool,
    /// The live workers, and others with ids that were drawn.
    workers: Vec<Worker>,
}

#[derive(Debug, Serialize)]
struct Worker {
    id: String,
    is_live: bool,
    shards: Vec<u16>,
}

/// Plans for `workers` workers.
pub(crate) async fn run(
    context: impl Fn() -> anyhow::Result<Context>,
    workers: u16,
    shards: Option<u16>,
    output: Output,
) -> anyhow::Result<Ending> {
    let (shards, live) = match shards.and_then(ShardLayout::new) {
        // A question about another deployment than the configured one.
        Some(shards) => (shards, LiveWorkers { ids: Vec::new(), know_shares: true }),
        None => {
            let context = context()?;
            let shards = context.shards(&context.mysql().await?).await?;
            (shards, WorkerRegistry::new(context.redis().await?, EXPIRY).live().await?)
        }
    };
    output.show(&plan(&live, usize::from(workers), shards), text)?;
    Ok(Ending::Good)
}

fn plan(live: &LiveWorkers, workers: usize, shards: ShardLayout) -> Plan {
    let drawn = std::iter::repeat_with(|| Uuid::new_v4().to_string());
    let ids = live.ids.iter().cloned().chain(drawn).take(workers).collect();
    let planned = LiveWorkers { ids, know_shares: live.know_shares };
    let owned = owners(&planned, shards);
    let worker = |id: &String| Worker {
        id: id.clone(),
        is_live: live.ids.contains(id),
        shards: owned.get(id.as_str()).into_iter().flatten().map(|shard| shard.number()).collect(),
    };
    Plan {
        shards: shards.get(),
        equal_shares: planned.know_shares,
        workers: planned.ids.iter().map(worker).collect(),
    }
}

fn text(plan: &Plan) -> String {
    let rows = plan.workers.iter().map(|worker| {
        let shards: Vec<String> = worker.shards.iter().map(ToString::to_string).collect();
        let state = if worker.is_live { "live" } else { "drawn" };
        vec![worker.id.clone(), state.to_owned(), worker.shards.len().to_string(), shards.join(" ")]
    });
    let mut lines = vec![
        format!(
            "{} for {}; ids of workers are random at each start:",
            count(usize::from(plan.shards), "shard", "shards"),
            count(plan.workers.len(), "worker", "workers")
        ),
        String::new(),
        table(&["worker", "id is", "shards", "which"], rows),
    ];
    if !plan.equal_shares {
        lines.push("a worker of an earlier version is alive: shares are not equal while it runs".to_owned());
    }
    if plan.workers.len() > usize::from(plan.shards) {
        lines.push("there are more workers than shards: some always stand by".to_owned());
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_has_each_shard_once_and_live_workers_first() {
        let live = LiveWorkers { ids: vec!["a".to_owned()], know_shares: true };
        let plan = plan(&live, 3, ShardLayout::new(16).unwrap());
        let shares = plan.workers.iter().map(|worker| worker.is_live).collect::<Vec<_>>();
        assert_eq!(shares, [true, false, false]);
        assert!(plan.workers.iter().all(|worker| (5..=6).contains(&worker.shards.len())));
        let mut shards: Vec<u16> = plan.workers.iter().flat_map(|worker| worker.shards.clone()).collect();
        shards.sort_unstable();
        assert_eq!(shards, (0..16).collect::<Vec<_>>());
    }
}
