//! One group of 10,000 connected members: the time until the last one has a message.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use futures_util::StreamExt as _;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::deployment::Deployment;
use super::listeners::{histogram, listen_to};
use super::outcome::{Goal, Latency, Outcome};
use super::sampler::Sampler;
use super::scale::Scale;
use super::target::Target;
use testbed::client::{Client, Report, messages_in};
use testbed::meter::per_1000;

const MEMBERS: usize = 10_000;
const MESSAGES: usize = 30;
/// Connections that are opened at the same time.
const CONNECTING: usize = 64;
/// A message that has not reached all members after this time is an error.
const DELIVERY_TIMEOUT: Duration = Duration::from_secs(10);
/// The same for a message of the warm-up, and the most of these.
const WARM_UP_TIMEOUT: Duration = Duration::from_secs(2);
const WARM_UPS_MAX: usize = 10;
/// Between two messages.
const PAUSE: Duration = Duration::from_millis(300);

/// The members that have the current message.
#[derive(Debug, Default)]
struct Reached {
    members: usize,
    /// Its id, as a push holds it: late pushes of an earlier message do not count.
    current: Mutex<String>,
    count: AtomicUsize,
    /// Microseconds after the origin at which the first and the last member got it.
    first: AtomicU64,
    last: AtomicU64,
    all: Notify,
}

impl Reached {
    /// Counts the members that get this message.
    fn begin(&self, id: &str) {
        *self.current.lock() = format!("\"msg_id\":\"{id}\"");
        self.count.store(0, Ordering::Release);
    }

    /// A member got it at this time.
    fn one_more(&self, at: u64) {
        let before = self.count.fetch_add(1, Ordering::AcqRel);
        if before == 0 {
            self.first.store(at, Ordering::Release);
        }
        if before + 1 == self.members {
            self.last.store(at, Ordering::Release);
            self.all.notify_one();
        }
    }

    /// Resolves when every member has the current message.
    async fn everyone(&self) {
        while self.count.load(Ordering::Acquire) < self.members {
            self.all.notified().await;
        }
    }
}

/// Sends one message after the other, each when the one before has reached everyone.
pub(super) async fn big_group(target: &mut Target, scale: &Scale) -> anyhow::Result<Outcome> {
    let members = scale.of(MEMBERS);
    let (report, deployment) = (Arc::new(Report::default()), target.deployment().clone());
    let sampler = Sampler::start("group-of-10000", target, &report).await?;
    let group = format!("group_{}", deployment.name("big"));
    let mut users = vec![deployment.name("big.sender")];
    users.extend((0..members).map(|n| deployment.name(&format!("big.{n}"))));
    deployment.make_group(&group, &users).await?;
    let mut sender = deployment.join(0, &users[0], &group).await?;
    let origin = Instant::now();
    let reached = Arc::new(Reached { members, ..Reached::default() });
    let listeners = Box::pin(listen(&users[1..], &deployment, &group, origin, (&reached, &report))).await?;
    sampler.mark("all are connected");
    warm_up(&mut sender, &group, &reached).await?;
    let before = target.used();
    let (mut first, mut last, mut acks) = (histogram()?, histogram()?, histogram()?);
    for n in 0..MESSAGES {
        tokio::time::sleep(PAUSE).await;
        let id = format!("big-{n}");
        reached.begin(&id);
        let sent = Instant::now();
        let sent_at = micros(origin);
        report.sent.fetch_add(1, Ordering::Relaxed);
        sender.say(&group, &id, &"x".repeat(200)).await?;
        report.acked.fetch_add(1, Ordering::Relaxed);
        acks.saturating_record(micros(sent));
        tokio::time::timeout(DELIVERY_TIMEOUT, reached.everyone()).await.with_context(|| {
            format!("message {n} reached {} of {members}", reached.count.load(Ordering::Relaxed))
        })?;
        first.saturating_record(reached.first.load(Ordering::Acquire).saturating_sub(sent_at));
        last.saturating_record(reached.last.load(Ordering::Acquire).saturating_sub(sent_at));
    }
    let costs = per_1000(&before, &target.used(), (MESSAGES * members) as u64);
    drop(listeners);
    let (samples, marks) = sampler.finish();
    let refusals = report.refusals.list();
    let mut outcome = Outcome { samples, marks, refusals, ..Outcome::default() };
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

/// A member that has just connected may be told to pull instead of getting the next message.
async fn warm_up(sender: &mut Client, group: &str, reached: &Reached) -> anyhow::Result<()> {
    for n in 0.. {
        let id = format!("warm-up-{n}");
        reached.begin(&id);
        sender.say(group, &id, "is everyone here?").await?;
        if tokio::time::timeout(WARM_UP_TIMEOUT, reached.everyone()).await.is_ok() {
            break;
        }
        let count = reached.count.load(Ordering::Relaxed);
        anyhow::ensure!(
            n < WARM_UPS_MAX,
            "{count} of {} members get the messages of the group",
            reached.members
        );
    }
    Ok(())
}

fn micros(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX)
}

async fn listen(
    users: &[String],
    deployment: &Deployment,
    group: &str,
    origin: Instant,
    (reached, report): (&Arc<Reached>, &Arc<Report>),
) -> anyhow::Result<JoinSet<()>> {
    let mut listeners = JoinSet::new();
    let connect = |(n, user): (usize, &String)| {
        let user = user.clone();
        async move { deployment.join(n, &user, group).await }
    };
    let connecting: Vec<_> = users.iter().enumerate().map(connect).collect();
    let mut connecting = futures_util::stream::iter(connecting).buffer_unordered(CONNECTING);
    while let Some(client) = connecting.next().await {
        let (client, reached, report) = (client?, Arc::clone(reached), Arc::clone(report));
        listeners.spawn(async move {
            let take = |text: &str| {
                report.pushed.fetch_add(messages_in(text), Ordering::Relaxed);
                if text.contains(reached.current.lock().as_str()) {
                    reached.one_more(micros(origin));
                }
            };
            listen_to(client, &report, take).await;
        });
    }
    Ok(listeners)
}
