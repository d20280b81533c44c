//! Many senders at once: bursts and steady rates, with figures and a verdict.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::Context as _;
use hdrhistogram::Histogram;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use tokio::time::Instant;

use crate::client::{Client, Pace, Report, Sender, messages_in, pull_frame};
use crate::judge::{Verdict, judge};
use crate::meter::{Used, per_1000};

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
    /// 429 and 503.
    pub refused: u64,
    /// Connections made again.
    pub reconnects: u64,
    /// Milliseconds from sending (or the scheduled moment) to the acknowledgement, by percentile.
    pub ack_ms: BTreeMap<String, f64>,
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
    mut cpu: impl FnMut() -> Used,
) -> anyhow::Result<Figures> {
    let report = Arc::new(Report::default());
    let mut senders = Vec::new();
    let all = load.groups * load.senders;
    for index in 0..all {
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
        let user = format!("{name}.{group}.{place}");
        let conversation = format!("group_{name}.{group}");
        let mut sender =
            Sender::new(user, conversation, messages, load.size, order, pace, Arc::clone(&report))?;
        sender.stored = load.stored;
        senders.push(sender);
    }
    join_groups(&senders, gateways).await?;
    let listeners = listen(load, gateways, name, &report).await?;

    let total: u64 = senders.iter().map(|sender| sender.sent.len() as u64).sum();
    let progress = tokio::spawn(show_progress(total, Arc::clone(&report)));
    let before = cpu();
    // All begin together.
    let start = Instant::now() + Duration::from_millis(200);
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
    let after = cpu();
    progress.abort();
    drop(listeners);

    let mut latency = Histogram::<u64>::new_with_max(120_000_000, 3)?;
    for sender in &senders {
        latency.add(&sender.latency)?;
    }
    #[allow(clippy::cast_precision_loss)] // below 2^52
    let per_second = |duration: Duration| total as f64 / duration.as_secs_f64();
    Ok(Figures {
        load: load.clone(),
        acked: report.acked.load(Ordering::Relaxed),
        acked_per_second: per_second(acked_after),
        persisted_per_second: per_second(persisted_after),
        pushes: report.pushed.load(Ordering::Relaxed),
        refused: report.refused.load(Ordering::Relaxed),
        reconnects: report.reconnects.load(Ordering::Relaxed),
        ack_ms: percentiles(&latency),
        cpu_seconds_per_1000: per_1000(&before, &after, total),
        verdict: judge(gateways, &senders).await?,
    })
}

/// Every sender joins its group before the clock starts: joining is not what is measured.
async fn join_groups(senders: &[Sender], gateways: &[String]) -> anyhow::Result<()> {
    for (index, sender) in senders.iter().enumerate() {
        let mut client = Client::connect(&gateways[index % gateways.len()], &sender.user).await?;
        let reply = client.pull(&sender.conversation, 0, 1).await?;
        anyhow::ensure!(reply.code == 0, "{} cannot join: {}", sender.user, reply.payload);
    }
    Ok(())
}

/// Connects the members that only listen, and counts their pushes until the set is dropped.
async fn listen(
    load: &Load,
    gateways: &[String],
    name: &str,
    report: &Arc<Report>,
) -> anyhow::Result<tokio::task::JoinSet<()>> {
    let mut listeners = tokio::task::JoinSet::new();
    for index in 0..load.groups * load.listeners {
        let (group, place) = (index % load.groups, index / load.groups);
        let gateway = &gateways[place % gateways.len()];
        let mut client = Client::connect(gateway, &format!("{name}.{group}.l{place}")).await?;
        let reply = client.pull(&format!("group_{name}.{group}"), 0, 1).await?;
        anyhow::ensure!(reply.code == 0, "a listener cannot join: {}", reply.payload);
        let report = Arc::clone(report);
        listeners.spawn(async move {
            use futures_util::StreamExt as _;
            while let Some(Ok(frame)) = client.socket().next().await {
                let messages = messages_in(frame.to_text().unwrap_or_default());
                report.pushed.fetch_add(messages, Ordering::Relaxed);
            }
        });
    }
    Ok(listeners)
}

/// Until the newest message of each conversation can be read.
async fn wait_until_pulled(senders: &[Sender], gateway: &str) -> anyhow::Result<()> {
    let mut newest: BTreeMap<&str, (&str, u64)> = BTreeMap::new();
    for sender in senders {
        let last = sender.sent.iter().filter_map(|sent| sent.acked).max().unwrap_or(0);
        let entry = newest.entry(&sender.conversation).or_insert((&sender.user, 0));
        entry.1 = entry.1.max(last);
    }
    for (conversation, (user, last)) in newest {
        let mut client = Client::connect(gateway, user).await?;
        let until = Instant::now() + Duration::from_secs(120);
        loop {
            let page = client.request(3, pull_frame(conversation, 0, 1, true)).await?;
            if page.messages().is_ok_and(|messages| messages.first().is_some_and(|newest| newest.seq >= last))
            {
                break;
            }
            anyhow::ensure!(Instant::now() < until, "{conversation} never reached {last}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    Ok(())
}

async fn show_progress(total: u64, report: Arc<Report>) {
    let bar = ProgressBar::new(total);
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
        println!("refused    {refused}, pushes {pushes}, reconnects {reconnects}");
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
