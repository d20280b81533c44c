//! Measures the contenders in alternating rounds.

use std::sync::Arc;
use std::time::Duration;

use testbed::stack::System;

use super::drive::{Accept, conversation, drive};
use super::mysql_only::MysqlOnly;
use super::plain_queue::PlainQueue;
use super::plan::Plan;
use super::redis_seq_insert_each::RedisSeqInsertEach;
use super::rounds::{Round, Work, per_second, percentiles};
use super::sequences::Sequences;
use super::summary::{Comparison, Rounds};
use super::this_system::ThisSystem;
use super::timeline::Timeline;
use crate::scenario::Deployment;
use testbed::meter::{self, Used, per_1000};

/// Seconds of the round that does not count: it fills caches, prepares statements, and measures the system's rate.
const WARM_UP_SECONDS: f64 = 1.0;
/// How long the plain queue's consumer is observed after the last message was sent.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(2);
/// Between two contenders: the servers' remaining work for one must not be charged to the next.
const SETTLE: Duration = Duration::from_millis(500);

enum Contender {
    MysqlOnly(Arc<MysqlOnly>),
    RedisSeq(RedisSeqInsertEach),
    RedisSeqInboxes(RedisSeqInsertEach),
    PlainQueue(Arc<PlainQueue>),
    ThisSystem(ThisSystem),
}

/// Lets every contender do the same work in alternating rounds: A B C D E, A B C D E. `tell` gets a line about each round.
///
/// # Errors
/// If a server fails, a baseline did not store all messages, or the system broke a promise.
pub async fn compare(
    plan: &Plan,
    system: &mut System,
    mut tell: impl FnMut(String),
) -> anyhow::Result<Comparison> {
    let mut contenders = Contender::all(plan, system).await?;
    let mut measured: Vec<Rounds> =
        contenders.iter().map(|contender| Rounds::new(contender.name())).collect();
    let run = uuid::Uuid::new_v4().simple().to_string();
    for n in 0..=plan.rounds {
        let is_warm_up = n == 0;
        let shorter = |seconds: f64| if is_warm_up { seconds.min(WARM_UP_SECONDS) } else { seconds };
        let together = plan.work.lasting(shorter(plan.work.seconds));
        let alone = plan.work.alone(shorter(plan.alone_seconds));
        for (index, (contender, rounds)) in contenders.iter_mut().zip(&mut measured).enumerate() {
            let name = format!("{}{n}.{index}", &run[..8]);
            tokio::time::sleep(SETTLE).await;
            let one = contender.round(&alone, &format!("{name}o"), || meter::used(system)).await?;
            let all = contender.round(&together, &format!("{name}a"), || meter::used(system)).await?;
            tell(line(n, rounds.name, &all, &one));
            if !is_warm_up {
                rounds.together.push(all);
                rounds.alone.push(one);
            }
        }
    }
    for contender in &contenders {
        if let Contender::PlainQueue(queue) = contender {
            queue.close().await?;
        }
    }
    Ok(Comparison::new(plan, measured))
}

fn line(n: usize, name: &str, all: &Round, one: &Round) -> String {
    let p50 = |round: &Round| round.ack_ms.get("p50").copied().unwrap_or_default();
    let round = if n == 0 { "warm-up".to_owned() } else { format!("round {n}") };
    format!(
        "{round}: {name}: {:.0}/s acked, {:.0}/s stored, p50 {:.2} ms; alone {:.2} ms",
        all.acked_per_second,
        all.stored_per_second,
        p50(all),
        p50(one)
    )
}

impl Contender {
    async fn all(plan: &Plan, system: &System) -> anyhow::Result<Vec<Self>> {
        let timeline = Timeline::make(&system.urls.mysql, plan.connections).await?;
        let sequences = Sequences::connect(&system.urls.redis).await?;
        let redis_seq =
            || RedisSeqInsertEach { timeline: timeline.clone(), sequences: sequences.clone(), members: None };
        let queue = PlainQueue::connect(&system.urls.amqp, sequences.clone(), timeline.clone()).await?;
        Ok(vec![
            Self::MysqlOnly(Arc::new(MysqlOnly { timeline: timeline.clone() })),
            Self::RedisSeq(redis_seq()),
            Self::RedisSeqInboxes(redis_seq()),
            Self::PlainQueue(Arc::new(queue)),
            Self::ThisSystem(ThisSystem::new(Deployment::of(system))),
        ])
    }

    fn name(&self) -> &'static str {
        match self {
            Self::MysqlOnly(_) => "MySQL only",
            Self::RedisSeq(_) => "Redis seq",
            Self::RedisSeqInboxes(_) => "Redis seq, inbox",
            Self::PlainQueue(_) => "plain queue",
            Self::ThisSystem(_) => "this system",
        }
    }

    async fn round(&mut self, work: &Work, name: &str, used: impl FnMut() -> Used) -> anyhow::Result<Round> {
        let groups = (0..work.groups).map(|group| (conversation(name, group), work.members(name, group)));
        match self {
            Self::MysqlOnly(server) => {
                let ids: Vec<String> = groups.map(|(id, _)| id).collect();
                server.timeline.add_conversations(&ids).await?;
                synchronous(server, &server.timeline, work, name, used).await
            }
            Self::RedisSeq(redis_seq) => {
                let server = Arc::new(redis_seq.with_members(None));
                synchronous(&server, &redis_seq.timeline, work, name, used).await
            }
            Self::RedisSeqInboxes(redis_seq) => {
                let server = Arc::new(redis_seq.with_members(Some(groups.collect())));
                synchronous(&server, &redis_seq.timeline, work, name, used).await
            }
            Self::PlainQueue(queue) => queued(queue, work, name, used).await,
            Self::ThisSystem(system) => system.round(work, name, used).await,
        }
    }
}

/// A round of a server that acknowledges a message after it is stored.
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

/// A round of the plain queue. Messages that it acknowledged and did not store are counted and dropped.
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
    let drained_per_second = storing.drain(driven.acked, DRAIN_TIMEOUT).await;
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
