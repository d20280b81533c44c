//! Connected members that only listen: they count pushes, and one of each group measures how long they take.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use hdrhistogram::Histogram;
use parking_lot::Mutex;
use serde::Deserialize;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_tungstenite::tungstenite::Message;

use super::deployment::Deployment;
use super::load::Participants;
use testbed::client::{Client, Report, Request, Sender, messages_in};

/// Connections that are opened at the same time.
pub(super) const CONNECTING: usize = 32;
/// A gateway closes a connection without a frame for 90 s by default.
pub(super) const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(30);
/// Pushes that are missing after this time without any are not waited for.
const NO_PUSH_TIMEOUT: Duration = Duration::from_secs(1);
/// Latencies above this count as this, in microseconds.
const LATENCY_MAX: u64 = 120_000_000;

pub(super) fn histogram() -> anyhow::Result<Histogram<u64>> {
    Ok(Histogram::new_with_max(LATENCY_MAX, 3)?)
}

/// Knows when each message was sent, and records when a listener of its group has it.
#[derive(Debug)]
pub(super) struct Probe {
    begun: HashMap<String, Arc<[AtomicU64]>>,
    origin: Instant,
    start: OnceLock<Instant>,
    pub(super) latency: Mutex<Histogram<u64>>,
    /// Pushed messages that all listeners received.
    pub(super) heard: AtomicU64,
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
    pub(super) fn new(senders: &[Sender]) -> anyhow::Result<Self> {
        let begun = senders.iter().map(|sender| (sender.user.clone(), Arc::clone(&sender.begun))).collect();
        Ok(Self {
            begun,
            origin: Instant::now(),
            start: OnceLock::new(),
            latency: Mutex::new(histogram()?),
            heard: AtomicU64::new(0),
        })
    }

    /// Times of messages count from here.
    pub(super) fn start_at(&self, start: Instant) {
        let _ = self.start.set(start);
    }

    pub(super) fn take(&self, text: &str) {
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

    /// Pushes may come later than the acknowledgement and the commit. Returns the time of the last one; waits until all
    /// that are due have come, or none has come for a second (a gateway drops pushes for slow readers).
    pub(super) async fn wait_until_heard(&self, due: u64) -> Instant {
        let (mut last, mut since) = (0, Instant::now());
        loop {
            let now = self.heard.load(Ordering::Relaxed);
            if now > last {
                (last, since) = (now, Instant::now());
            }
            if last >= due || since.elapsed() > NO_PUSH_TIMEOUT {
                return since;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

/// Connects the listeners, and counts their pushes until the set is dropped.
pub(super) async fn listen(
    participants: &Participants<'_>,
    deployment: &Deployment,
    report: &Arc<Report>,
    probe: &Arc<Probe>,
) -> anyhow::Result<JoinSet<()>> {
    let load = participants.load;
    let connect = |index: usize| {
        let (group, place) = (index % load.groups, index / load.groups);
        let user = participants.user(group, load.senders + place);
        let conversation = participants.conversation(group);
        async move {
            let client = match participants.private {
                true => deployment.connect(place, &user).await?,
                false => deployment.join(place, &user, &conversation).await?,
            };
            anyhow::Ok((client, place))
        }
    };
    let mut listeners = JoinSet::new();
    let connecting: Vec<_> = (0..load.groups * load.listeners).map(connect).collect();
    let mut connecting = futures_util::stream::iter(connecting).buffer_unordered(CONNECTING);
    while let Some(connected) = connecting.next().await {
        let (client, place) = connected?;
        let (report, probe) = (Arc::clone(report), Arc::clone(probe));
        listeners.spawn(async move {
            let take = |text: &str| {
                if place == 0 {
                    probe.take(text);
                }
                let messages = messages_in(text);
                probe.heard.fetch_add(messages, Ordering::Relaxed);
                report.pushed.fetch_add(messages, Ordering::Relaxed);
            };
            listen_to(client, &report, take).await;
        });
    }
    Ok(listeners)
}

/// Hands each frame to `take` and sends heartbeats, until the connection ends.
pub(super) async fn listen_to(mut client: Client, report: &Report, mut take: impl FnMut(&str)) {
    let mut heartbeats = tokio::time::interval_at(Instant::now() + HEARTBEAT_INTERVAL, HEARTBEAT_INTERVAL);
    heartbeats.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            frame = client.socket().next() => match frame {
                Some(Ok(Message::Close(frame))) => {
                    let code = frame.map_or(1005, |frame| frame.code.into());
                    report.refusals.count(Request::Connection, code, "");
                    return;
                }
                Some(Ok(frame)) => take(frame.to_text().unwrap_or_default()),
                Some(Err(_)) | None => return,
            },
            _ = heartbeats.tick() => {
                if client.socket().send(Message::text(r#"{"cmd":0}"#)).await.is_err() {
                    return;
                }
            }
        }
    }
}
