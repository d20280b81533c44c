//! Many senders at once: bursts and steady rates, with figures and a verdict.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::Context as _;
use futures_util::{StreamExt as _, TryStreamExt as _};
use hdrhistogram::Histogram;
use indicatif::{ProgressBar, ProgressStyle};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::outcome::Latency;
use testbed::client::{Client, Pace, Report, Sender, messages_in, pull_frame};
use testbed::judge::{Verdict, judge};
use testbed::meter::{Used, per_1000};

/// What to send.
#[derive(Debug, Clone, Serialize)]
pub struct Load {
    /// Groups.
    pub groups: usize,
    /// Members of each group that only listen.
    pub listeners: usize,
    /// Members of each group that send.
    pub senders: usize,
    /// Messages in all.
    pub messages: usize,
    /// Unanswered messages per sender; ignored with `rate`.
    pub window: usize,
    /// Bytes per message.
    pub size: usize,
    /// Replies at the commit.
    pub stored: bool,
    /// Messages per second in all, whatever is answered (open loop).
    pub rate: Option<Rate>,
}

/// Who carries a load, and where.
#[derive(Debug, Clone, Copy)]
struct Crowd<'a> {
    load: &'a Load,
    /// Groups are private chats instead: of two users, who both send with two senders, or of whom one listens.
    private: bool,
    /// Begins all names.
    name: &'a str,
    gateways: &'a [String],
}

impl Crowd<'_> {
    /// The user in this place of this group; those who only listen come after those who send.
    fn user(&self, group: usize, place: usize) -> String {
        if self.private || place < self.load.senders {
            return format!("{}.{group}.{place}", self.name);
        }
        format!("{}.{group}.l{}", self.name, place - self.load.senders)
    }

    fn conversation(&self, group: usize) -> String {
        if self.private {
            return format!("private_{}_{}", self.user(group, 0), self.user(group, 1));
        }
        format!("group_{}.{group}", self.name)
    }
}

/// A rate with an optional spike.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Rate {
    /// Messages per second.
    pub per_second: f64,
    /// How long.
    pub seconds: f64,
    /// Factor, from second, to second.
    pub spike: Option<(f64, f64, f64)>,
}

impl Rate {
    /// The moments at which sender `index` of `senders` sends.
    fn moments(&self, index: usize, senders: usize) -> Arc<[Duration]> {
        #[allow(clippy::cast_precision_loss)] // some thousands
        let (index, senders) = (index as f64, senders as f64);
        let rate_at = |second: f64| match self.spike {
            Some((factor, from, to)) if (from..to).contains(&second) => self.per_second * factor,
            _ => self.per_second,
        };
        let mut at = index / self.per_second;
        let mut moments = Vec::new();
        while at < self.seconds {
            moments.push(Duration::from_secs_f64(at));
            at += senders / rate_at(at);
        }
        moments.into()
    }
}

/// What was measured.
#[derive(Debug, Clone, Serialize)]
pub struct Figures {
    /// What was asked for.
    pub load: Load,
    /// Messages acknowledged.
    pub acked: u64,
    /// From the first message to the last acknowledgement.
    pub acked_per_second: f64,
    /// From the first message to the moment when the last one could be pulled.
    pub persisted_per_second: f64,
    /// Messages pushed to members.
    pub pushes: u64,
    /// Of these, to members that only listen.
    pub heard: u64,
    /// As it was to be: one for each message and each member that only listens.
    pub heard_due: u64,
    /// From the first message to the last push.
    pub pushes_per_second: f64,
    /// 429 and 503.
    pub refused: u64,
    /// Connections made again.
    pub reconnects: u64,
    /// Milliseconds from sending (or the scheduled moment) to the acknowledgement, by percentile.
    pub ack_ms: BTreeMap<String, f64>,
    /// The same, as a curve.
    pub ack: Latency,
    /// From sending (or the scheduled moment) until a member that only listens has it; one of each group watches.
    pub delivery: Option<Latency>,
    /// Seconds of processor time per 1,000 messages, by process; where the processes are known.
    pub cpu_seconds_per_1000: BTreeMap<String, f64>,
    /// The judge's.
    pub verdict: Verdict,
}

/// Runs the load on `gateways`. `name` begins all users and groups, so that runs do not meet. `cpu` gives the processor
/// time used so far, by process.
///
/// # Errors
/// If a sender cannot finish.
pub async fn run(
    load: &Load,
    gateways: &[String],
    name: &str,
    cpu: impl FnMut() -> Used,
) -> anyhow::Result<Figures> {
    let report = Arc::new(Report::default());
    let progress = tokio::spawn(show_progress(load.messages as u64, Arc::clone(&report)));
    let figures = Box::pin(run_watched(load, gateways, name, &report, cpu)).await;
    progress.abort();
    figures
}

/// The same, counting in `report`, which someone else shows.
///
/// # Errors
/// If a sender cannot finish.
pub async fn run_watched(
    load: &Load,
    gateways: &[String],
    name: &str,
    report: &Arc<Report>,
    cpu: impl FnMut() -> Used,
) -> anyhow::Result<Figures> {
    run_crowd(Crowd { load, private: false, name, gateways }, report, cpu).await
}

/// The same, where every group is a private chat of two users.
///
/// # Errors
/// If a sender cannot finish.
pub(super) async fn run_private(
    load: &Load,
    gateways: &[String],
    name: &str,
    report: &Arc<Report>,
    cpu: impl FnMut() -> Used,
) -> anyhow::Result<Figures> {
    run_crowd(Crowd { load, private: true, name, gateways }, report, cpu).await
}

async fn run_crowd(
    crowd: Crowd<'_>,
    report: &Arc<Report>,
    mut cpu: impl FnMut() -> Used,
) -> anyhow::Result<Figures> {
    let Crowd { load, private, gateways, .. } = crowd;
    let senders = senders(crowd, report)?;
    if !private {
        join_groups(&senders, gateways).await?;
    }
    let origin = Instant::now();
    let begun = senders.iter().map(|sender| (sender.user.clone(), Arc::clone(&sender.begun))).collect();
    let probe = Arc::new(Probe {
        begun,
        origin,
        start: OnceLock::new(),
        latency: Mutex::new(histogram()?),
        heard: AtomicU64::new(0),
    });
    let listeners = listen(crowd, report, &probe).await?;

    let total: u64 = senders.iter().map(|sender| sender.sent.len() as u64).sum();
    let before = cpu();
    // All begin together.
    let start = Instant::now() + LEAD;
    let _ = probe.start.set(start);
    let (acked_before, pushed_before) =
        (report.acked.load(Ordering::Relaxed), report.pushed.load(Ordering::Relaxed));
    let mut running = tokio::task::JoinSet::new();
    for mut sender in senders {
        running.spawn(async move { sender.run(start).await.map(|()| (sender, start.elapsed())) });
    }
    let mut senders = Vec::new();
    let mut acked_after = Duration::ZERO;
    while let Some(finished) = running.join_next().await {
        let (sender, after) = finished??;
        acked_after = acked_after.max(after);
        senders.push(sender);
    }
    wait_until_pulled(&senders, &gateways[0]).await?;
    let persisted_after = start.elapsed();
    // A sender's connection closes with its last acknowledgement, and misses what others send after that.
    let heard_due = total * load.listeners as u64;
    let heard_at = wait_until_heard(&probe.heard, heard_due).await;
    let pushes_after = heard_at.saturating_duration_since(start).max(acked_after);
    let after = cpu();
    drop(listeners);

    let mut latency = histogram()?;
    for sender in &senders {
        latency.add(&sender.latency)?;
    }
    let delivery = Latency::of("send to push", &probe.latency.lock());
    #[allow(clippy::cast_precision_loss)] // below 2^52
    let per_second = |count: u64, duration: Duration| count as f64 / duration.as_secs_f64();
    let pushes = report.pushed.load(Ordering::Relaxed) - pushed_before;
    Ok(Figures {
        load: load.clone(),
        acked: report.acked.load(Ordering::Relaxed) - acked_before,
        acked_per_second: per_second(total, acked_after),
        persisted_per_second: per_second(total, persisted_after),
        pushes,
        heard: probe.heard.load(Ordering::Relaxed),
        heard_due,
        pushes_per_second: per_second(pushes, pushes_after),
        refused: report.refused.load(Ordering::Relaxed),
        reconnects: report.reconnects.load(Ordering::Relaxed),
        ack_ms: percentiles(&latency),
        ack: Latency::of("send to acknowledgement", &latency),
        delivery: (delivery.count > 0).then_some(delivery),
        cpu_seconds_per_1000: per_1000(&before, &after, total),
        verdict: judge(gateways, &senders).await?,
    })
}

/// Between the making of the senders and the first message.
const LEAD: Duration = Duration::from_millis(200);
/// Connections that are made at once.
const CONNECTING: usize = 32;

fn histogram() -> anyhow::Result<Histogram<u64>> {
    Ok(Histogram::new_with_max(120_000_000, 3)?)
}

fn senders(crowd: Crowd<'_>, report: &Arc<Report>) -> anyhow::Result<Vec<Sender>> {
    let Crowd { load, gateways, .. } = crowd;
    let all = load.groups * load.senders;
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
        // Each begins at a gateway of its own turn.
        let mut order = gateways.to_vec();
        order.rotate_left(index % gateways.len());
        let (user, conversation) = (crowd.user(group, place), crowd.conversation(group));
        let mut sender =
            Sender::new(user, conversation, messages, load.size, order, pace, Arc::clone(report))?;
        sender.stored = load.stored;
        Ok(sender)
    };
    (0..all).map(sender).collect()
}

/// Every sender joins its group before the clock starts: joining is not what is measured.
async fn join_groups(senders: &[Sender], gateways: &[String]) -> anyhow::Result<()> {
    let join = |(index, sender): (usize, &Sender)| {
        let (gateway, user) = (gateways[index % gateways.len()].clone(), sender.user.clone());
        let conversation = sender.conversation.clone();
        async move { joined(&gateway, &user, &conversation).await.map(drop) }
    };
    let joining: Vec<_> = senders.iter().enumerate().map(join).collect();
    futures_util::stream::iter(joining).buffer_unordered(CONNECTING).try_collect().await
}

/// A client that is a member of `conversation`.
///
/// # Errors
/// If it is not let in.
pub async fn joined(gateway: &str, user: &str, conversation: &str) -> anyhow::Result<Client> {
    let mut client = Client::connect(gateway, user).await?;
    loop {
        let reply = client.pull(conversation, 0, 1).await?;
        if let Some(wait) = reply.retry_after_ms() {
            tokio::time::sleep(Duration::from_millis(wait)).await;
            continue;
        }
        anyhow::ensure!(reply.code == 0, "{user} cannot join: {}", reply.payload);
        return Ok(client);
    }
}

/// Knows when each message was sent, and notes when one listener of its group has it.
#[derive(Debug)]
struct Probe {
    begun: HashMap<String, Arc<[AtomicU64]>>,
    origin: Instant,
    start: OnceLock<Instant>,
    latency: Mutex<Histogram<u64>>,
    /// By all listeners.
    heard: AtomicU64,
}

#[derive(Deserialize)]
struct Pushed<'a> {
    cmd: i64,
    #[serde(borrow, default)]
    payload: Option<&'a serde_json::value::RawValue>,
}

#[derive(Deserialize)]
struct PushedMessage<'a> {
    msg_id: &'a str,
    sender_id: &'a str,
}

impl Probe {
    fn take(&self, text: &str) {
        let Ok(Pushed { cmd: 5, payload: Some(payload) }) = serde_json::from_str(text) else { return };
        let Ok(messages) = serde_json::from_str::<Vec<PushedMessage<'_>>>(payload.get()) else { return };
        let now = self.start.get().unwrap_or(&self.origin).elapsed().as_micros();
        let now = u64::try_from(now).unwrap_or(u64::MAX);
        let mut latency = self.latency.lock();
        for PushedMessage { msg_id, sender_id } in messages {
            let n = msg_id.rsplit_once('-').and_then(|(_, n)| n.parse::<usize>().ok());
            let begun = self.begun.get(sender_id).zip(n).and_then(|(begun, n)| begun.get(n));
            // 0: never sent.
            if let Some(begun) = begun.map(|begun| begun.load(Ordering::Relaxed)).filter(|begun| *begun > 0) {
                latency.saturating_record(now.saturating_sub(begun - 1));
            }
        }
    }
}

/// Connects the members that only listen, and counts their pushes until the set is dropped.
async fn listen(
    crowd: Crowd<'_>,
    report: &Arc<Report>,
    probe: &Arc<Probe>,
) -> anyhow::Result<tokio::task::JoinSet<()>> {
    let Crowd { load, private, gateways, .. } = crowd;
    let connect = |index: usize| {
        let (group, place) = (index % load.groups, index / load.groups);
        let gateway = gateways[place % gateways.len()].clone();
        let user = crowd.user(group, load.senders + place);
        let conversation = crowd.conversation(group);
        async move {
            let client = match private {
                true => Client::connect(&gateway, &user).await?,
                false => joined(&gateway, &user, &conversation).await?,
            };
            anyhow::Ok((client, place))
        }
    };
    let mut listeners = tokio::task::JoinSet::new();
    let connecting: Vec<_> = (0..load.groups * load.listeners).map(connect).collect();
    let mut connecting = futures_util::stream::iter(connecting).buffer_unordered(CONNECTING);
    while let Some(connected) = connecting.next().await {
        let (mut client, place) = connected?;
        let report = Arc::clone(report);
        let probe = Arc::clone(probe);
        listeners.spawn(async move {
            while let Some(Ok(frame)) = client.socket().next().await {
                let text = frame.to_text().unwrap_or_default();
                if place == 0 {
                    probe.take(text);
                }
                let messages = messages_in(text);
                probe.heard.fetch_add(messages, Ordering::Relaxed);
                report.pushed.fetch_add(messages, Ordering::Relaxed);
            }
        });
    }
    Ok(listeners)
}

/// Pushes may come later than the acknowledgement and the commit. Returns when the last one came; waits until all that
/// are due are there, or none has come for a while (some may have been dropped).
async fn wait_until_heard(heard: &AtomicU64, due: u64) -> Instant {
    const SILENCE: Duration = Duration::from_secs(1);
    let (mut last, mut since) = (0, Instant::now());
    loop {
        let now = heard.load(Ordering::Relaxed);
        if now > last {
            (last, since) = (now, Instant::now());
        }
        if last >= due || since.elapsed() > SILENCE {
            return since;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Until the newest message of each conversation can be read.
async fn wait_until_pulled(senders: &[Sender], gateway: &str) -> anyhow::Result<()> {
    let mut newest: BTreeMap<&str, (&str, u64)> = BTreeMap::new();
    for sender in senders {
        let last = sender.sent.iter().filter_map(|sent| sent.acked).max().unwrap_or(0);
        let entry = newest.entry(&sender.conversation).or_insert((&sender.user, 0));
        entry.1 = entry.1.max(last);
    }
    let pulled = newest.into_iter().map(|(conversation, (user, last))| async move {
        let mut client = Client::connect(gateway, user).await?;
        let until = Instant::now() + Duration::from_secs(120);
        loop {
            let page = client.request(3, pull_frame(conversation, 0, 1, true)).await?;
            if page.messages().is_ok_and(|messages| messages.first().is_some_and(|newest| newest.seq >= last))
            {
                return Ok(());
            }
            anyhow::ensure!(Instant::now() < until, "{conversation} never reached {last}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    // One after the other, thousands of conversations would take longer to look at than to fill.
    let pulled: Vec<_> = pulled.collect();
    futures_util::stream::iter(pulled).buffer_unordered(CONNECTING).try_collect().await
}

async fn show_progress(total: u64, report: Arc<Report>) {
    // Of a rate the total is not known here.
    let bar = if total > 0 { ProgressBar::new(total) } else { ProgressBar::new_spinner() };
    if let Ok(style) = ProgressStyle::with_template("{bar:30} {pos}/{len} acked, {per_sec}, {msg}, {elapsed}")
    {
        bar.set_style(style);
    }
    loop {
        bar.set_position(report.acked.load(Ordering::Relaxed));
        bar.set_message(format!(
            "{} refused, {} pushes",
            report.refused.load(Ordering::Relaxed),
            report.pushed.load(Ordering::Relaxed)
        ));
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

fn percentiles(latency: &Histogram<u64>) -> BTreeMap<String, f64> {
    #[allow(clippy::cast_precision_loss)] // below 2^52
    let ms = |micros: u64| micros as f64 / 1000.0;
    let at = |name: &str, quantile| (name.to_owned(), ms(latency.value_at_quantile(quantile)));
    [at("p50", 0.5), at("p90", 0.9), at("p99", 0.99), at("p99.9", 0.999), at("max", 1.0)].into()
}

impl Figures {
    /// For eyes.
    ///
    /// # Errors
    /// Never.
    pub fn print(&self) -> anyhow::Result<()> {
        let Self { load, acked, refused, pushes, reconnects, .. } = self;
        println!(
            "{acked} messages of {} bytes, {} groups x {} senders",
            load.size, load.groups, load.senders
        );
        println!("acked      {:>9.0} /s", self.acked_per_second);
        println!("persisted  {:>9.0} /s", self.persisted_per_second);
        let ms = |name: &str| self.ack_ms.get(name).copied().context("a percentile is missing");
        println!(
            "ack        p50 {:.2} ms, p90 {:.2}, p99 {:.2}, p99.9 {:.2}, max {:.2}",
            ms("p50")?,
            ms("p90")?,
            ms("p99")?,
            ms("p99.9")?,
            ms("max")?
        );
        println!("refused    {refused}, reconnects {reconnects}");
        println!("pushes     {pushes}, {:.0} /s", self.pushes_per_second);
        if self.heard_due > 0 {
            println!("heard      {} of {} due to those who only listen", self.heard, self.heard_due);
        }
        if let Some(delivery) = &self.delivery {
            println!("delivered  p50 {:.2} ms, p99 {:.2}", delivery.at(50.0), delivery.at(99.0));
        }
        for (process, seconds) in &self.cpu_seconds_per_1000 {
            println!("cpu        {:.4} s per 1,000 messages: {process}", seconds);
        }
        println!("promises   {}", self.verdict);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn senders_share_a_rate_and_its_spike() {
        let rate = Rate { per_second: 100.0, seconds: 10.0, spike: Some((10.0, 4.0, 5.0)) };
        let counts: Vec<usize> = (0..4).map(|index| rate.moments(index, 4).len()).collect();
        let all: usize = counts.iter().sum();
        // 9 s at 100 and 1 s at 1,000.
        assert!((1_880..=1_920).contains(&all), "{counts:?}");
        assert!(rate.moments(1, 4).is_sorted());
    }
}
