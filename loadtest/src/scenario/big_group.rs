//! One group of 10,000 connected members: when does the last one have a message?

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use futures_util::StreamExt as _;
use hdrhistogram::Histogram;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::catalog::Scale;
use super::outcome::{Goal, Latency, Outcome};
use super::run::joined;
use super::sampler::Sampler;
use testbed::client::{Client, Report, messages_in};
use testbed::meter::{per_1000, used};
use testbed::stack::System;

const MEMBERS: usize = 10_000;
const MESSAGES: usize = 30;
/// Connections that are made at once.
const CONNECTING: usize = 64;
/// A message that has not reached everyone by then will not.
const PATIENCE: Duration = Duration::from_secs(10);
/// The same for a message before it counts, and how many of these there are.
const WARM_UP: Duration = Duration::from_secs(2);
const WARM_UPS: usize = 10;
/// Between two messages.
const PAUSE: Duration = Duration::from_millis(300);

/// Who has the present message.
#[derive(Debug, Default)]
struct Reached {
    members: usize,
    /// As its id stands in a push: late pushes of an earlier message are not this one's.
    present: Mutex<String>,
    count: AtomicUsize,
    /// Microseconds after the origin when the first and the last one got it.
    first: AtomicU64,
    last: AtomicU64,
    all: Notify,
}

impl Reached {
    /// From here on this message counts.
    fn begin(&self, id: &str) {
        *self.present.lock() = format!("\"msg_id\":\"{id}\"");
        self.count.store(0, Ordering::Release);
    }

    /// Resolves when every member has the present message.
    async fn everyone(&self) {
        while self.count.load(Ordering::Acquire) < self.members {
            self.all.notified().await;
        }
    }
}

/// Sends one message after the other, each when the one before has reached everyone.
pub(super) async fn big_group(system: &mut System, scale: &Scale) -> anyhow::Result<Outcome> {
    let members = scale.of(MEMBERS);
    let (report, gateways) = (Arc::new(Report::default()), system.ws_urls());
    let sampler = Sampler::start("group-of-10000", system, &report).await?;
    let group = "group_big";
    let mut sender = joined(&gateways[0], "big.sender", group).await?;
    let origin = Instant::now();
    let reached = Arc::new(Reached { members, ..Reached::default() });
    let listeners = listen(members, &gateways, group, origin, (&reached, &report)).await?;
    sampler.mark("all are connected");
    // Who has joined this moment may be told so instead of being pushed the next message.
    for warm_up in 0.. {
        let id = format!("warm-up-{warm_up}");
        reached.begin(&id);
        sender.say(group, &id, "is everyone here?").await?;
        if tokio::time::timeout(WARM_UP, reached.everyone()).await.is_ok() {
            break;
        }
        let reached = reached.count.load(Ordering::Relaxed);
        anyhow::ensure!(warm_up < WARM_UPS, "{reached} of {members} hear the group");
    }
    let before = used(system);
    let (mut first, mut last, mut acks) = (histogram()?, histogram()?, histogram()?);
    for n in 0..MESSAGES {
        tokio::time::sleep(PAUSE).await;
        let id = format!("big-{n}");
        reached.begin(&id);
        let sent = Instant::now();
        let sent_at = micros(origin);
        report.sent.fetch_add(1, Ordering::Relaxed);
        sender.say(group, &id, &"x".repeat(200)).await?;
        report.acked.fetch_add(1, Ordering::Relaxed);
        acks.saturating_record(micros(sent));
        tokio::time::timeout(PATIENCE, reached.everyone()).await.with_context(|| {
            format!("message {n} reached {} of {members}", reached.count.load(Ordering::Relaxed))
        })?;
        first.saturating_record(reached.first.load(Ordering::Acquire).saturating_sub(sent_at));
        last.saturating_record(reached.last.load(Ordering::Acquire).saturating_sub(sent_at));
    }
    let costs = per_1000(&before, &used(system), (MESSAGES * members) as u64);
    drop(listeners);
    let (samples, marks) = sampler.finish();
    let mut outcome = Outcome { samples, marks, ..Outcome::default() };
    outcome.what =
        format!("{MESSAGES} messages, one after the other, into one group of {members} connected members");
    let last = Latency::of("send to the last member's push", &last);
    let first = Latency::of("send to the first member's push", &first);
    outcome.figure("last member has it, p50", last.at(50.0), "ms", Some(Goal::Under(250.0)));
    outcome.figure("last member has it, worst", last.at(100.0), "ms", Some(Goal::Under(250.0)));
    outcome.figure("first member has it, p50", first.at(50.0), "ms", None);
    outcome.figure("acked, p50", Latency::of("", &acks).at(50.0), "ms", None);
    for (process, seconds) in costs {
        outcome.figure(&format!("processor time for a delivery: {process}"), seconds * 1000.0, "us", None);
    }
    outcome.latencies = vec![first, last];
    Ok(outcome)
}

fn histogram() -> anyhow::Result<Histogram<u64>> {
    Ok(Histogram::new_with_max(120_000_000, 3)?)
}

fn micros(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX)
}

async fn listen(
    members: usize,
    gateways: &[String],
    group: &'static str,
    origin: Instant,
    (reached, report): (&Arc<Reached>, &Arc<Report>),
) -> anyhow::Result<JoinSet<()>> {
    let mut listeners = JoinSet::new();
    let connect = |n: usize| {
        let gateway = gateways[n % gateways.len()].clone();
        async move { joined(&gateway, &format!("big.{n}"), group).await }
    };
    let connecting: Vec<_> = (0..members).map(connect).collect();
    let mut connecting = futures_util::stream::iter(connecting).buffer_unordered(CONNECTING);
    while let Some(client) = connecting.next().await {
        listeners.spawn(hear(client?, origin, Arc::clone(reached), Arc::clone(report)));
    }
    Ok(listeners)
}

async fn hear(mut client: Client, origin: Instant, reached: Arc<Reached>, report: Arc<Report>) {
    while let Some(Ok(frame)) = client.socket().next().await {
        let text = frame.to_text().unwrap_or_default();
        report.pushed.fetch_add(messages_in(text), Ordering::Relaxed);
        if !text.contains(reached.present.lock().as_str()) {
            continue;
        }
        let at = micros(origin);
        let before = reached.count.fetch_add(1, Ordering::AcqRel);
        if before == 0 {
            reached.first.store(at, Ordering::Release);
        }
        if before + 1 == reached.members {
            reached.last.store(at, Ordering::Release);
            reached.all.notify_one();
        }
    }
}
