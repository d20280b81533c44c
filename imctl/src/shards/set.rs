//! `imctl shards set`: changes the number of shards while everything runs. The steps are those of `shared::shard_state`; from
//! the switch on, the workers take them.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use serde::Serialize;
use shared::amqp::Inspector;
use shared::mysql::{Pool, settings};
use shared::redis;
use shared::shard::ShardLayout;
use shared::shard_follower::{Straggler, stragglers};
use shared::shard_state::{Phase, ShardState};
use worker::shards::resharding::live;

use super::step::{Step, View, next};
use crate::context::Context;
use crate::output::{Ending, Output};
use crate::text::{count as counted, fields};

/// How often the state is looked at while gateways wait, and otherwise.
const INTERVALS: [Duration; 2] = [Duration::from_millis(30), Duration::from_millis(500)];
/// The pause after quorum queues were declared: see `shared::amqp::broker`.
const DECLARATION_SETTLE_TIME: Duration = Duration::from_millis(1_500);
/// How long the queues of a change that was given up are tried to be removed.
const REMOVING_MAX: Duration = Duration::from_secs(15);

/// What `imctl shards set --json` prints.
#[derive(Debug, Serialize)]
struct Report {
    from: u16,
    to: u16,
    /// Whether the deployment has `to` shards now.
    is_done: bool,
    /// What prevents the change.
    problems: Vec<String>,
    gateways: usize,
    workers: usize,
    /// Bodies that wait in the present queues; new messages are committed after them.
    ready_bodies: u64,
    /// How long the change took, and how long gateways held messages for it.
    took_ms: Option<u128>,
    held_ms: Option<u128>,
}

/// The command and its stores.
struct Setter<'c> {
    context: &'c Context,
    count: u16,
    pool: Pool,
    redis: redis::Client,
    begun: Instant,
    /// The state that was seen last, and since when.
    seen: Option<(ShardState, Instant)>,
    pauses: u32,
    held: Duration,
}

/// Shows the plan, or applies it.
pub(crate) async fn run(
    context: &Context,
    count: u16,
    apply: bool,
    output: Output,
) -> anyhow::Result<Ending> {
    let (pool, redis) = (context.mysql().await?, context.redis().await?);
    let (begun, held) = (Instant::now(), Duration::ZERO);
    let mut setter = Setter { context, count, pool, redis, begun, seen: None, pauses: 0, held };
    let mut report = setter.plan().await?;
    if apply {
        anyhow::ensure!(report.problems.is_empty(), "nothing was changed: {}", report.problems.join("; "));
        setter.apply().await?;
        report.is_done = true;
        report.took_ms = Some(setter.begun.elapsed().as_millis());
        report.held_ms = Some(setter.held.as_millis());
    }
    output.show(&report, text)?;
    Ok(Ending::of(&report.problems))
}

impl Setter<'_> {
    async fn plan(&self) -> anyhow::Result<Report> {
        let state = self.context.shard_state(&self.pool).await?;
        let live = live(&self.redis).await?;
        let stragglers = self.stragglers(state).await?;
        let earlier = stragglers.iter().filter(|one| matches!(one, Straggler::Earlier { .. }));
        let mut problems: Vec<String> = earlier.map(ToString::to_string).collect();
        let view = View { state, stragglers: &[], since: Duration::ZERO, pauses: 0 };
        if let Step::Refuse(why) = next(self.count, &view) {
            problems.push(why);
        }
        let [(_, gateways), (_, workers)] = &live;
        if workers.is_empty() {
            problems
                .push("no worker is alive: nobody would commit the present queues to their ends".to_owned());
        }
        let mut ready_bodies = 0;
        let rabbitmq = self.context.rabbitmq(state.current).await?;
        for shard in state.current.all() {
            ready_bodies +=
                rabbitmq.shard_queue(shard).await?.map_or(0, |queue| u64::from(queue.ready_bodies));
        }
        rabbitmq.close().await;
        let (from, is_done) = (state.current.get(), state == ShardState::stable(state.current));
        Ok(Report {
            from,
            to: self.count,
            is_done: is_done && from == self.count,
            problems,
            gateways: gateways.len(),
            workers: workers.len(),
            ready_bodies,
            took_ms: None,
            held_ms: None,
        })
    }

    async fn stragglers(&self, state: ShardState) -> anyhow::Result<Vec<Straggler>> {
        let processes = settings::shard_processes(&self.pool).await?;
        Ok(stragglers(state, &processes, &live(&self.redis).await?))
    }

    /// Takes one step after the other until the deployment has the number.
    async fn apply(&mut self) -> anyhow::Result<()> {
        loop {
            let state = self.context.shard_state(&self.pool).await?;
            let since = self.saw(state);
            let stragglers = self.stragglers(state).await?;
            let view = View { state, stragglers: &stragglers, since, pauses: self.pauses };
            match next(self.count, &view) {
                Step::Done => return Ok(()),
                Step::Announce => self.announce(state).await?,
                Step::Take(next) => {
                    self.take(state, next).await?;
                }
                Step::Abort => self.abort(state).await?,
                Step::GiveUp(why) => {
                    self.abort(state).await?;
                    anyhow::bail!("{why}; the change was given up, and nothing has changed");
                }
                Step::Refuse(why) => anyhow::bail!(why),
                Step::Wait => {}
            }
            let is_held = state.publishes().is_none();
            let is_early = matches!(
                state.change.map(|change| change.phase),
                Some(Phase::Announced(_) | Phase::Paused(_))
            );
            tokio::time::sleep(INTERVALS[usize::from(!is_held && !is_early)]).await;
        }
    }

    /// Reports a new state. Returns how long it is known.
    fn saw(&mut self, state: ShardState) -> Duration {
        let now = Instant::now();
        let (known, since) = *self.seen.get_or_insert((state, now));
        if known != state || since == now {
            if known.publishes().is_none() {
                self.held += now - since;
            }
            self.seen = Some((state, now));
            eprintln!("{:6.1} s  {}", self.begun.elapsed().as_secs_f64(), described(state));
            return Duration::ZERO;
        }
        now - since
    }

    async fn take(&mut self, from: ShardState, to: ShardState) -> anyhow::Result<()> {
        self.pauses += u32::from(to.publishes().is_none());
        // Somebody else may have taken another step: the next look shows it.
        settings::replace_shard_state(&self.pool, from, to).await?;
        Ok(())
    }

    async fn announce(&mut self, state: ShardState) -> anyhow::Result<()> {
        let announced = state.announce(self.count).context("the number of layouts is used up")?;
        let next = announced.change.map_or(state.current, |change| change.to);
        let rabbitmq = self.rabbitmq(announced, next).await?;
        rabbitmq.declare().await?;
        rabbitmq.close().await;
        tokio::time::sleep(DECLARATION_SETTLE_TIME).await;
        self.take(state, announced).await
    }

    async fn rabbitmq(&self, state: ShardState, layout: ShardLayout) -> anyhow::Result<Inspector> {
        let topology = self.context.topology(layout);
        topology.follow(state);
        Ok(Inspector::open(&self.context.config().amqp, topology, "imctl").await?)
    }

    /// Gives an announced change up, and removes its queues, to which nothing was ever published.
    async fn abort(&mut self, state: ShardState) -> anyhow::Result<()> {
        let (Some(change), Some(aborted)) = (state.change, state.abort()) else { return Ok(()) };
        if !settings::replace_shard_state(&self.pool, state, aborted).await? {
            return Ok(());
        }
        self.saw(aborted);
        let begun = Instant::now();
        // A process that does not know it yet would declare them again.
        while begun.elapsed() < REMOVING_MAX && !self.stragglers(aborted).await?.is_empty() {
            tokio::time::sleep(INTERVALS[1]).await;
        }
        let rabbitmq = self.rabbitmq(aborted, aborted.current).await?;
        for shard in change.to.all() {
            rabbitmq.remove(shard).await?;
        }
        rabbitmq.close().await;
        Ok(())
    }
}

fn described(state: ShardState) -> String {
    let Some(change) = state.change else {
        return format!(
            "{}, no change in progress",
            counted(usize::from(state.current.get()), "shard", "shards")
        );
    };
    let what = match change.phase {
        Phase::Announced(_) => "announced: waiting until all processes follow",
        Phase::Paused(_) => "paused: gateways hold new messages",
        Phase::Draining => {
            "draining: new messages go to the next queues, the present ones are committed to their ends"
        }
        Phase::Retiring => "retiring: the queues of both are consumed for 10 s",
        Phase::Removing => "removing: the earlier queues are removed",
    };
    format!("{} to {}, {what}", state.current.get(), change.to.get())
}

fn text(report: &Report) -> String {
    let mut lines = vec![fields(&[
        ("shards", report.from.to_string()),
        ("wanted", report.to.to_string()),
        ("gateways", report.gateways.to_string()),
        ("workers", report.workers.to_string()),
        ("ready bodies", report.ready_bodies.to_string()),
    ])];
    lines.extend(report.problems.iter().map(|problem| format!("cannot be applied: {problem}")));
    if let (Some(took), Some(held)) = (report.took_ms, report.held_ms) {
        lines.push(format!(
            "the deployment has {} after {:.1} s; gateways held new messages for {held} ms",
            counted(usize::from(report.to), "shard", "shards"),
            std::time::Duration::from_millis(u64::try_from(took).unwrap_or(u64::MAX)).as_secs_f64()
        ));
    } else if report.is_done {
        lines.push("nothing is to be done".to_owned());
    } else if report.problems.is_empty() {
        lines.push(
            "all conversations move to new queues; messages that wait in the present ones are committed first. \
             Do it with --apply"
                .to_owned(),
        );
    }
    lines.join("\n")
}
