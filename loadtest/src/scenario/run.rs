//! Runs a load: connects its users, sends, measures, and has the result judged.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::{StreamExt as _, TryStreamExt as _};
use hdrhistogram::Histogram;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::deployment::Deployment;
use super::figures::{Figures, percentiles};
use super::listeners::{CONNECTING, Probe, histogram, listen};
use super::load::{Load, Participants};
use super::outcome::Latency;
use testbed::client::{Assignment, Pace, PushObserver, Report, Sender, pull_frame};
use testbed::judge::judge;
use testbed::meter::{Used, per_1000};

/// Between the making of the senders and the first message.
const LEAD: Duration = Duration::from_millis(200);
/// Between two looks at whether the last message can be pulled.
const PULL_INTERVAL: Duration = Duration::from_millis(5);
/// An acknowledged message that cannot be pulled after this time is an error.
const PULL_TIMEOUT: Duration = Duration::from_secs(120);

/// Runs `load` on `deployment`. `name` is a part of all names, for runs of several loads. `cpu` gives the processor time
/// used so far, by process.
///
/// # Errors
/// If a user cannot connect, or a message is refused for good.
pub async fn run(
    load: &Load,
    deployment: &Deployment,
    name: &str,
    report: &Arc<Report>,
    cpu: impl FnMut() -> Used,
) -> anyhow::Result<Figures> {
    run_as(&Participants::new(load, deployment.name(name)), deployment, report, cpu).await
}

/// The same where all members of each group send, and their connections measure how long pushes take.
///
/// # Errors
/// As [`run`].
pub(crate) async fn run_among_members(
    load: &Load,
    deployment: &Deployment,
    report: &Arc<Report>,
    cpu: impl FnMut() -> Used,
) -> anyhow::Result<Figures> {
    // A name of its own for each run.
    let name = deployment.name(&uuid::Uuid::new_v4().simple().to_string()[..8]);
    let participants = Participants { senders_measure: true, ..Participants::new(load, name) };
    run_as(&participants, deployment, report, cpu).await
}

/// The same for users that a scenario chose.
///
/// # Errors
/// As [`run`].
pub(super) async fn run_as(
    participants: &Participants<'_>,
    deployment: &Deployment,
    report: &Arc<Report>,
    mut cpu: impl FnMut() -> Used,
) -> anyhow::Result<Figures> {
    let load = participants.load;
    let mut senders = senders(participants, deployment, report)?;
    if !participants.private {
        make_groups(participants, deployment).await?;
        join_groups(&senders, deployment).await?;
    }
    let probe = Arc::new(Probe::new(&senders)?);
    if participants.senders_measure {
        for sender in &mut senders {
            let probe = Arc::clone(&probe);
            sender.push_observer = Some(PushObserver::new(move |push| probe.take(push)));
        }
    }
    let listeners = Box::pin(listen(participants, deployment, report, &probe)).await?;

    let total: u64 = senders.iter().map(|sender| sender.sent.len() as u64).sum();
    let before = cpu();
    let counted_before = Counted::of(report);
    // All senders begin together.
    let start = Instant::now() + LEAD;
    probe.start_at(start);
    let (senders, acked_after) = send(senders, start).await?;
    wait_until_pulled(&senders, deployment).await?;
    let persisted_after = start.elapsed();
    // A sender's connection closes with its last acknowledgement, and misses what others send after that.
    let heard_due = total * load.listeners as u64;
    let heard_at = probe.wait_until_heard(heard_due).await;
    let pushes_after = heard_at.saturating_duration_since(start).max(acked_after);
    let (after, counted) = (cpu(), Counted::of(report).since(counted_before));
    drop(listeners);

    let latency = latency_of(&senders)?;
    let delivery = Latency::of("send to push", &probe.latency.lock());
    #[expect(clippy::cast_precision_loss, reason = "below 2^52")]
    let per_second = |count: u64, duration: Duration| count as f64 / duration.as_secs_f64();
    Ok(Figures {
        load: load.clone(),
        acked: counted.acked,
        acked_per_second: per_second(total, acked_after),
        persisted_per_second: per_second(total, persisted_after),
        pushes: counted.pushed,
        heard: probe.heard.load(Ordering::Relaxed),
        heard_due,
        pushes_per_second: per_second(counted.pushed, pushes_after),
        refused: counted.refused,
        refusals: report.refusals.list(),
        reconnects: counted.reconnects,
        ack_ms: percentiles(&latency),
        ack: Latency::of("send to acknowledgement", &latency),
        delivery: (delivery.count > 0).then_some(delivery),
        cpu_seconds_per_1000: if after.is_empty() {
            BTreeMap::new()
        } else {
            per_1000(&before, &after, total)
        },
        verdict: judge(deployment.gateways(), &senders).await?,
    })
}

/// Counters of a report at one moment.
#[derive(Clone, Copy)]
struct Counted {
    acked: u64,
    pushed: u64,
    refused: u64,
    reconnects: u64,
}

impl Counted {
    fn of(report: &Report) -> Self {
        Self {
            acked: report.acked.load(Ordering::Relaxed),
            pushed: report.pushed.load(Ordering::Relaxed),
            refused: report.refused.load(Ordering::Relaxed),
            reconnects: report.reconnects.load(Ordering::Relaxed),
        }
    }

    fn since(self, before: Self) -> Self {
        Self {
            acked: self.acked - before.acked,
            pushed: self.pushed - before.pushed,
            refused: self.refused - before.refused,
            reconnects: self.reconnects - before.reconnects,
        }
    }
}

fn latency_of(senders: &[Sender]) -> anyhow::Result<Histogram<u64>> {
    let mut latency = histogram()?;
    for sender in senders {
        latency.add(&sender.latency)?;
    }
    Ok(latency)
}

fn senders(
    participants: &Participants<'_>,
    deployment: &Deployment,
    report: &Arc<Report>,
) -> anyhow::Result<Vec<Sender>> {
    let load = participants.load;
    let all = load.groups * load.senders;
    let gateways = deployment.gateways();
    let sender = |index: usize| {
        let (group, place) = (index % load.groups, index / load.groups);
        let messages = load.messages / all + usize::from(index < load.messages % all);
        let (messages, pace) = match &load.rate {
            Some(rate) => {
                let moments = rate.moments(index, all);
                (moments.len(), Pace::Schedule(moments))
            }
            None => (messages, Pace::Window(load.window)),
        };
        // Senders are spread over the gateways.
        let mut order = gateways.to_vec();
        order.rotate_left(index % gateways.len());
        let (user, conversation) = (participants.user(group, place), participants.conversation(group));
        let assignment = Assignment { conversation, messages, size: load.size, pace };
        let mut sender = Sender::new(user, assignment, order, Arc::clone(report))?;
        sender.stored = load.stored;
        sender.mix.clone_from(&participants.mix);
        sender.credentials = deployment.credentials().clone();
        Ok(sender)
    };
    (0..all).map(sender).collect()
}

/// Returns the senders when all messages are acknowledged, and how long that took.
async fn send(senders: Vec<Sender>, start: Instant) -> anyhow::Result<(Vec<Sender>, Duration)> {
    let mut running = JoinSet::new();
    for mut sender in senders {
        running.spawn(async move { sender.run(start).await.map(|()| (sender, start.elapsed())) });
    }
    let (mut senders, mut acked_after) = (Vec::new(), Duration::ZERO);
    while let Some(finished) = running.join_next().await {
        let (sender, after) = finished??;
        acked_after = acked_after.max(after);
        senders.push(sender);
    }
    Ok((senders, acked_after))
}

async fn make_groups(participants: &Participants<'_>, deployment: &Deployment) -> anyhow::Result<()> {
    let make = |group: usize| async move {
        deployment.make_group(&participants.conversation(group), &participants.members(group)).await
    };
    let making: Vec<_> = (0..participants.load.groups).map(make).collect();
    futures_util::stream::iter(making).buffer_unordered(CONNECTING).try_collect().await
}

/// Every sender reads its group once before the clock starts: loading memberships is not what is measured.
async fn join_groups(senders: &[Sender], deployment: &Deployment) -> anyhow::Result<()> {
    let join = |(index, sender): (usize, &Sender)| {
        let (user, conversation) = (sender.user.clone(), sender.conversation.clone());
        async move { deployment.join(index, &user, &conversation).await.map(drop) }
    };
    let joining: Vec<_> = senders.iter().enumerate().map(join).collect();
    futures_util::stream::iter(joining).buffer_unordered(CONNECTING).try_collect().await
}

/// Until the newest message of each conversation can be read.
async fn wait_until_pulled(senders: &[Sender], deployment: &Deployment) -> anyhow::Result<()> {
    let mut newest: BTreeMap<&str, (&str, u64)> = BTreeMap::new();
    for sender in senders {
        let last = sender.sent.iter().filter_map(|sent| sent.acked).max().unwrap_or(0);
        let entry = newest.entry(&sender.conversation).or_insert((&sender.user, 0));
        entry.1 = entry.1.max(last);
    }
    let pulled = newest.into_iter().map(|(conversation, (user, last))| async move {
        let mut client = deployment.connect(0, user).await?;
        let until = Instant::now() + PULL_TIMEOUT;
        loop {
            let page = client.request(3, pull_frame(conversation, 0, 1, true)).await?;
            if page.messages().is_ok_and(|messages| messages.first().is_some_and(|newest| newest.seq >= last))
            {
                return Ok(());
            }
            anyhow::ensure!(
                Instant::now() < until,
                "{conversation}: message {last} was acknowledged, and cannot be pulled after {} s",
                PULL_TIMEOUT.as_secs()
            );
            let pause = page.retry_after_ms().map_or(PULL_INTERVAL, Duration::from_millis);
            tokio::time::sleep(pause).await;
        }
    });
    // One after the other, thousands of conversations would take longer to read than to fill.
    let pulled: Vec<_> = pulled.collect();
    futures_util::stream::iter(pulled).buffer_unordered(CONNECTING).try_collect().await
}
