//! The contenders, by turns.

use std::sync::Arc;
use std::time::Duration;

use testbed::stack::System;

use super::drive::{Accept, conversation, drive};
use super::numbers::Numbers;
use super::plain_queue::PlainQueue;
use super::rounds::{Round, Work, per_second, percentiles};
use super::stage_one::StageOne;
use super::stage_two::StageTwo;
use super::summary::{Comparison, Turns};
use super::this_system::ThisSystem;
use super::timeline::Timeline;
use testbed::meter::{self, Used, per_1000};

/// What to compare, and for how long.
#[derive(Debug, Clone)]
pub struct Contest {
    /// All senders together.
    pub work: Work,
    /// Seconds of each turn of one sender with window 1.
    pub alone_seconds: f64,
    /// Turns of each contender that count.
    pub rounds: usize,
    /// Connections to MySQL that the baselines share.
    pub connections: u32,
}

/// Of the turns that do not count: caches, prepared statements, the system's rate.
const WARM_UP_SECONDS: f64 = 1.0;
/// So long the plain queue's consumer is watched when nobody sends any more.
const DRAIN_PATIENCE: Duration = Duration::from_secs(2);
/// Between two contenders: what the servers still do for one shall not be charged to the next.
const SETTLE: Duration = Duration::from_millis(500);

enum Contender {
    StageOne(Arc<StageOne>),
    StageTwo(StageTwo),
    StageTwoInbox(StageTwo),
    PlainQueue(Arc<PlainQueue>),
    ThisSystem(ThisSystem),
}

/// Lets every contender do the same work, by turns: A B C D E, A B C D E. `tell` hears a line about each turn.
///
/// # Errors
/// If a server fails, if a baseline did not store what it should have, or if the system broke a promise.
pub async fn compare(
    contest: &Contest,
    system: &mut System,
    mut tell: impl FnMut(String),
) -> anyhow::Result<Comparison> {
    let mut contenders = Contender::all(contest, system).await?;
    let mut turns: Vec<Turns> = contenders.iter().map(|contender| Turns::new(contender.name())).collect();
    let run = uuid::Uuid::new_v4().simple().to_string();
    for turn in 0..=contest.rounds {
        let is_warm_up = turn == 0;
        let shorter = |seconds: f64| if is_warm_up { seconds.min(WARM_UP_SECONDS) } else { seconds };
        let together = contest.work.lasting(shorter(contest.work.seconds));
        let alone = contest.work.alone(shorter(contest.alone_seconds));
        for (index, (contender, turns)) in contenders.iter_mut().zip(&mut turns).enumerate() {
            let name = format!("{}{turn}.{index}", &run[..8]);
            tokio::time::sleep(SETTLE).await;
            let one = contender.round(&alone, &format!("{name}o"), || meter::used(system)).await?;
            let all = contender.round(&together, &format!("{name}a"), || meter::used(system)).await?;
            tell(line(turn, turns.name, &all, &one));
            if !is_warm_up {
                turns.together.push(all);
                turns.alone.push(one);
            }
        }
    }
    for contender in &contenders {
        if let Contender::PlainQueue(queue) = contender {
            queue.close().await?;
        }
    }
    Ok(Comparison::new(contest, turns))
}

fn line(turn: usize, name: &str, all: &Round, one: &Round) -> String {
    let p50 = |round: &Round| round.ack_ms.get("p50").copied().unwrap_or_default();
    let turn = if turn == 0 { "warm-up".to_owned() } else { format!("round {turn}") };
    format!(
        "{turn}: {name}: {:.0}/s acked, {:.0}/s stored, p50 {:.2} ms; alone {:.2} ms",
        all.acked_per_second,
        all.stored_per_second,
        p50(all),
        p50(one)
    )
}

impl Contender {
    async fn all(contest: &Contest, system: &System) -> anyhow::Result<Vec<Self>> {
        let timeline = Timeline::make(&system.urls.mysql, contest.connections).await?;
        let numbers = Numbers::connect(&system.urls.redis).await?;
        let stage_two = || StageTwo { timeline: timeline.clone(), numbers: numbers.clone(), members: None };
        let queue = PlainQueue::connect(&system.urls.amqp, numbers.clone(), timeline.clone()).await?;
        Ok(vec![
            Self::StageOne(Arc::new(StageOne { timeline: timeline.clone() })),
            Self::StageTwo(stage_two()),
            Self::StageTwoInbox(stage_two()),
            Self::PlainQueue(Arc::new(queue)),
            Self::ThisSystem(ThisSystem::new(system.ws_urls())),
        ])
    }

    fn name(&self) -> &'static str {
        match self {
            Self::StageOne(_) => "stage one",
            Self::StageTwo(_) => "stage two",
            Self::StageTwoInbox(_) => "stage two, inbox",
            Self::PlainQueue(_) => "plain queue",
            Self::ThisSystem(_) => "this system",
        }
    }

    async fn round(&mut self, work: &Work, name: &str, used: impl FnMut() -> Used) -> anyhow::Result<Round> {
        let groups = (0..work.groups).map(|group| (conversation(name, group), work.members(name, group)));
        match self {
            Self::StageOne(stage) => {
                let ids: Vec<String> = groups.map(|(id, _)| id).collect();
                stage.timeline.add_conversations(&ids).await?;
                synchronous(stage, &stage.timeline, work, name, used).await
            }
            Self::StageTwo(stage) => {
                let server = Arc::new(stage.with_members(None));
                synchronous(&server, &stage.timeline, work, name, used).await
            }
            Self::StageTwoInbox(stage) => {
                let server = Arc::new(stage.with_members(Some(groups.collect())));
                synchronous(&server, &stage.timeline, work, name, used).await
            }
            Self::PlainQueue(queue) => queued(queue, work, name, used).await,
            Self::ThisSystem(system) => system.round(work, name, used).await,
        }
    }
}

/// A turn of a server that has stored what it acknowledges.
async fn synchronous<S: Accept>(
    server: &Arc<S>,
    timeline: &Timeline,
    work: &Work,
    name: &str,
    mut used: impl FnMut() -> Used,
) -> anyhow::Result<Round> {
    let before = used();
    let driven = drive(server, work, name).await?;
    let after = used();
    let ids: Vec<String> = (0..work.groups).map(|group| conversation(name, group)).collect();
    let rows = timeline.rows(&ids).await?;
    anyhow::ensure!(rows == driven.acked, "{} messages were acknowledged, {rows} stored", driven.acked);
    Ok(Round {
        acked: driven.acked,
        acked_per_second: per_second(driven.acked, driven.elapsed),
        stored_per_second: per_second(rows, driven.elapsed),
        backlog: 0,
        drained_per_second: None,
        ack_ms: percentiles(&driven.latency),
        cpu_seconds_per_1000: per_1000(&before, &after, driven.acked),
    })
}

/// A turn of the plain queue. What it has acknowledged and not stored is counted, and thrown away.
async fn queued(
    queue: &Arc<PlainQueue>,
    work: &Work,
    name: &str,
    mut used: impl FnMut() -> Used,
) -> anyhow::Result<Round> {
    let storing = queue.begin().await?;
    let before = used();
    let driven = drive(queue, work, name).await?;
    let stored = storing.stored();
    let after = used();
    let drained_per_second = storing.drain(driven.acked, DRAIN_PATIENCE).await;
    queue.end(storing).await?;
    Ok(Round {
        acked: driven.acked,
        acked_per_second: per_second(driven.acked, driven.elapsed),
        stored_per_second: per_second(stored, driven.elapsed),
        backlog: driven.acked - stored.min(driven.acked),
        drained_per_second,
        ack_ms: percentiles(&driven.latency),
        cpu_seconds_per_1000: per_1000(&before, &after, driven.acked),
    })
}
