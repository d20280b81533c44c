//! `imctl shards plan`: which worker would own which shard.

use std::time::Duration;

use serde::Serialize;
use shared::redis::liveness_registry::LivenessRegistry;
use shared::shard::ShardCount;
use uuid::Uuid;
use worker::shards::assignment::owners;

use crate::context::Context;
use crate::output::{Ending, Output};
use crate::text::{count, table};

/// Drawings of ids for the chances.
const DRAWINGS: u32 = 1_000;
/// Longer than a worker without a heartbeat is considered alive.
const EXPIRY: Duration = Duration::from_secs(6);

/// What `imctl shards plan --json` prints.
#[derive(Debug, Serialize)]
struct Plan {
    shards: u16,
    /// One example: the live workers, and others with ids that were drawn.
    workers: Vec<Worker>,
    chances: Chances,
}

#[derive(Debug, Serialize)]
struct Worker {
    id: String,
    is_live: bool,
    shards: Vec<u16>,
}

/// How even the assignment is, with random ids.
#[derive(Debug, Serialize)]
struct Chances {
    drawings: u32,
    /// The mean of the most shards that one worker has.
    most_shards_mean: f64,
    /// The largest of them.
    most_shards_max: usize,
    /// The share of drawings in which a worker has no shard.
    idle_worker: f64,
}

/// Plans for `workers` workers.
pub(crate) async fn run(
    context: impl Fn() -> anyhow::Result<Context>,
    workers: u16,
    shards: Option<u16>,
    output: Output,
) -> anyhow::Result<Ending> {
    let (shards, live) = match shards.and_then(ShardCount::new) {
        // A question about another deployment than the configured one.
        Some(shards) => (shards, Vec::new()),
        None => {
            let context = context()?;
            let shards = context.shards(&context.mysql().await?).await?;
            (shards, LivenessRegistry::workers(context.redis().await?, EXPIRY).live().await?)
        }
    };
    output.show(&plan(&live, usize::from(workers), shards), text)?;
    Ok(Ending::Good)
}

fn draw(live: &[String], workers: usize) -> Vec<String> {
    let drawn = std::iter::repeat_with(|| Uuid::new_v4().to_string());
    live.iter().cloned().chain(drawn).take(workers).collect()
}

fn plan(live: &[String], workers: usize, shards: ShardCount) -> Plan {
    let ids = draw(live, workers);
    let owned = owners(&ids, shards);
    let worker = |id: &String| Worker {
        id: id.clone(),
        is_live: live.contains(id),
        shards: owned.get(id.as_str()).into_iter().flatten().map(|shard| shard.0).collect(),
    };
    Plan {
        shards: shards.get(),
        workers: ids.iter().map(worker).collect(),
        chances: chances(workers, shards),
    }
}

#[expect(clippy::cast_precision_loss, reason = "at most 1,024 shards in 1,000 drawings")]
fn chances(workers: usize, shards: ShardCount) -> Chances {
    let (mut sum, mut max, mut idle) = (0, 0, 0_u32);
    for _ in 0..DRAWINGS {
        let ids = draw(&[], workers);
        let owned = owners(&ids, shards);
        let most = owned.values().map(Vec::len).max().unwrap_or(0);
        sum += most;
        max = max.max(most);
        idle += u32::from(owned.len() < workers);
    }
    Chances {
        drawings: DRAWINGS,
        most_shards_mean: sum as f64 / f64::from(DRAWINGS),
        most_shards_max: max,
        idle_worker: f64::from(idle) / f64::from(DRAWINGS),
    }
}

fn text(plan: &Plan) -> String {
    let rows = plan.workers.iter().map(|worker| {
        let shards: Vec<String> = worker.shards.iter().map(ToString::to_string).collect();
        let state = if worker.is_live { "live" } else { "drawn" };
        vec![worker.id.clone(), state.to_owned(), worker.shards.len().to_string(), shards.join(" ")]
    });
    let Chances { drawings, most_shards_mean, most_shards_max, idle_worker } = plan.chances;
    let mut lines = vec![
        format!(
            "{} for {}; ids of workers are random at each start:",
            count(usize::from(plan.shards), "shard", "shards"),
            count(plan.workers.len(), "worker", "workers")
        ),
        String::new(),
        table(&["worker", "id is", "shards", "which"], rows),
        String::new(),
        format!(
            "in {drawings} drawings of all ids, the busiest worker has {most_shards_mean:.1} shards on average, and {most_shards_max} at most"
        ),
        format!("some worker has no shard in {:.1} % of them", idle_worker * 100.0),
    ];
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
        let live = vec!["a".to_owned()];
        let plan = plan(&live, 3, ShardCount::new(16).unwrap());
        assert_eq!(
            plan.workers.iter().map(|worker| worker.is_live).collect::<Vec<_>>(),
            [true, false, false]
        );
        let mut shards: Vec<u16> = plan.workers.iter().flat_map(|worker| worker.shards.clone()).collect();
        shards.sort_unstable();
        assert_eq!(shards, (0..16).collect::<Vec<_>>());
    }

    #[test]
    fn chances_are_those_of_random_ids() {
        let two = ShardCount::new(2).unwrap();
        // With 2 shards and 2 workers, one has both in half of the cases.
        let chances = chances(2, two);
        assert!((0.4..0.6).contains(&chances.idle_worker), "{chances:?}");
        assert_eq!((chances.most_shards_max, super::chances(1, two).idle_worker), (2, 0.0));
        assert_eq!(super::chances(3, two).idle_worker, 1.0);
    }
}
