//! A user who sends many messages, and sends again what was not acknowledged, on whatever gateway is there.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use futures_util::{SinkExt as _, StreamExt as _};
use hdrhistogram::Histogram;
use serde::Deserialize;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_util::sync::CancellationToken;

use super::connection::websocket;
use super::packet::{Chat, chat_frame};

/// An answer that has not come after this is not waited for: the message is sent again.
pub(super) const ANSWER_PATIENCE: Duration = Duration::from_secs(8);
/// Pause before connecting again.
pub(super) const RECONNECT: std::ops::RangeInclusive<u64> = 50..=300;
/// Without any success for this long a sender gives up.
const GIVE_UP_AFTER: Duration = Duration::from_secs(120);
/// Messages that a sender without end leaves unanswered before it waits with the next.
const UNANSWERED_MAX: usize = 256;
/// Frames handed to the socket before its answers are looked at.
const FRAMES_AT_ONCE: usize = 64;

/// When the next message goes out.
#[derive(Debug, Clone)]
pub enum Pace {
    /// As soon as fewer than this many are unanswered.
    Window(usize),
    /// At these moments after the start, whatever was answered. Latency counts from them.
    Schedule(Arc<[Duration]>),
    /// At these moments of each period, until it is stopped. Latency counts from them.
    Endless {
        /// Within one period, rising.
        moments: Arc<[Duration]>,
        /// After this the moments come again.
        period: Duration,
        /// Nothing new is sent from then on.
        stop: CancellationToken,
    },
}

impl Pace {
    /// When message `n` is due, if that does not depend on answers.
    fn due(&self, n: usize) -> Option<Duration> {
        match self {
            Self::Window(_) => None,
            Self::Schedule(moments) => moments.get(n).copied(),
            Self::Endless { moments, period, .. } => {
                let round = u32::try_from(n / moments.len()).ok()?;
                Some(*period * round + moments[n % moments.len()])
            }
        }
    }
}

/// What is known about one message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sent {
    /// The number in the last reply with code 0.
    pub acked: Option<u64>,
    /// It was sent more than once, or got a second reply with another number: its place among its sender's own
    /// messages is not promised.
    pub repeated: bool,
}

/// Counters that a progress line shows while it goes on.
#[derive(Debug, Default)]
pub struct Report {
    /// Messages that were sent, or whose moment had come, for the first time.
    pub sent: AtomicU64,
    /// Replies with code 0.
    pub acked: AtomicU64,
    /// Replies with 429 or 503.
    pub refused: AtomicU64,
    /// Pushed messages.
    pub pushed: AtomicU64,
    /// Replies that gave another number than an earlier one.
    pub corrected: AtomicU64,
    /// Connections that were made again.
    pub reconnects: AtomicU64,
    /// Microseconds until each reply with code 0; kept from the first [`take_latency`](Self::take_latency) on.
    latency: parking_lot::Mutex<Option<Histogram<u64>>>,
}

impl Report {
    /// The latency that so large a part of the replies had at most; counted anew from here on.
    pub fn take_latency(&self, part: f64) -> Duration {
        let before =
            std::mem::replace(&mut *self.latency.lock(), Histogram::new_with_max(120_000_000, 3).ok());
        Duration::from_micros(before.map_or(0, |histogram| histogram.value_at_quantile(part)))
    }
}

/// How far a sender is, for whoever watches it.
#[derive(Debug, Default)]
pub struct Progress {
    oldest: parking_lot::Mutex<Option<Instant>>,
    newest_acked: AtomicU64,
}

impl Progress {
    /// How long its oldest unanswered message has been waiting since it was first sent.
    #[must_use]
    pub fn waiting(&self, now: Instant) -> Duration {
        self.oldest.lock().map_or(Duration::ZERO, |oldest| now.saturating_duration_since(oldest))
    }

    /// Records that the message with this sequence number was acked.
    pub fn acked(&self, seq: u64) {
        self.newest_acked.fetch_max(seq, Ordering::Relaxed);
    }

    /// The highest number that it was told.
    #[must_use]
    pub fn newest_acked(&self) -> u64 {
        self.newest_acked.load(Ordering::Relaxed)
    }
}

/// One user, one conversation, many messages.
#[derive(Debug)]
pub struct Sender {
    /// The user.
    pub user: String,
    /// Where the messages go.
    pub conversation: String,
    /// Bytes of each content.
    pub size: usize,
    /// Ask for replies at the commit.
    pub stored: bool,
    /// Message by message.
    pub sent: Vec<Sent>,
    /// Microseconds from the first sending (or the scheduled moment) to the reply.
    pub latency: Histogram<u64>,
    /// Kept current while it runs.
    pub progress: Arc<Progress>,
    /// Message by message: microseconds after the start at which it was sent (or due), plus 1; 0 before that.
    pub begun: Arc<[AtomicU64]>,
    gateways: Vec<String>,
    pace: Pace,
    report: Arc<Report>,
}

/// Only what the hot path needs, borrowed.
#[derive(Deserialize)]
struct Reply<'a> {
    cmd: i64,
    code: u16,
    #[serde(default)]
    msg_id: Option<&'a str>,
    #[serde(default)]
    seq: Option<u64>,
    #[serde(borrow, default)]
    payload: Option<&'a serde_json::value::RawValue>,
}

#[derive(Deserialize)]
struct Later {
    retry_after_ms: u64,
}

impl Sender {
    /// A sender that begins with the first of `gateways` and goes to the next when it is lost.
    ///
    /// # Errors
    /// Never, unless the histogram's bounds are wrong.
    pub fn new(
        user: String,
        conversation: String,
        messages: usize,
        size: usize,
        gateways: Vec<String>,
        pace: Pace,
        report: Arc<Report>,
    ) -> anyhow::Result<Self> {
        let sent = vec![Sent { acked: None, repeated: false }; messages];
        let latency = Histogram::new_with_max(120_000_000, 3)?;
        let begun = (0..messages).map(|_| AtomicU64::new(0)).collect();
        let progress = Arc::default();
        Ok(Self {
            user,
            conversation,
            size,
            stored: false,
            sent,
            latency,
            progress,
            begun,
            gateways,
            pace,
            report,
        })
    }

    /// The id of message `n`.
    #[must_use]
    pub fn msg_id(&self, n: usize) -> String {
        format!("{}-{n}", self.user)
    }

    /// The content of message `n`, from which a mix-up would be seen.
    #[must_use]
    pub fn content(&self, n: usize) -> String {
        let mut content = format!("{} in {}: {n} ", self.user, self.conversation);
        let missing = self.size.saturating_sub(content.len());
        content.extend(std::iter::repeat_n('x', missing));
        content
    }

    fn frame(&self, n: usize) -> String {
        chat_frame(&Chat {
            conversation: self.conversation.clone(),
            msg_id: self.msg_id(n),
            content: self.content(n),
            stored: self.stored,
        })
    }

    /// Sends everything and waits until all of it is acknowledged.
    ///
    /// # Errors
    /// A final refusal, or two minutes without any success.
    pub async fn run(&mut self, start: Instant) -> anyhow::Result<()> {
        sleep_until(start).await;
        let mut state = State {
            next: 0,
            begun: BTreeMap::new(),
            flights: HashMap::new(),
            again: BTreeSet::new(),
            last_success: Instant::now(),
        };
        for turn in 0.. {
            let gateway = &self.gateways[turn % self.gateways.len()];
            let url = format!("{gateway}?user_id={}&device_id=load", self.user);
            if let Ok(Ok(socket)) = tokio::time::timeout(ANSWER_PATIENCE, websocket(&url)).await
                && self.converse(socket, &mut state, start).await?
            {
                return Ok(());
            }
            let silent = state.last_success.elapsed();
            anyhow::ensure!(
                silent < GIVE_UP_AFTER,
                "{} got nothing acknowledged for {} s",
                self.user,
                silent.as_secs()
            );
            self.report.reconnects.fetch_add(1, Ordering::Relaxed);
            // Nothing is known about what was on its way: all of it again, in order.
            for (n, _) in state.flights.drain() {
                self.sent[n].repeated = true;
                state.again.insert((Instant::now(), n));
            }
            tokio::time::sleep(Duration::from_millis(rand::random_range(RECONNECT))).await;
        }
        Ok(())
    }

    /// True when all is acknowledged; false when the connection was lost.
    async fn converse(
        &mut self,
        mut socket: WebSocketStream<TcpStream>,
        state: &mut State,
        start: Instant,
    ) -> anyhow::Result<bool> {
        loop {
            for _ in 0..FRAMES_AT_ONCE {
                let Some(n) = self.next_to_send(state, start) else { break };
                if socket.feed(Message::text(self.frame(n))).await.is_err() {
                    return Ok(false);
                }
            }
            if socket.flush().await.is_err() {
                return Ok(false);
            }
            *self.progress.oldest.lock() = state.begun.first_key_value().map(|(_, begun)| *begun);
            if state.begun.is_empty() && self.has_sent_all(state) {
                // What is left in the socket may be a corrected reply: the judge's caller asks for the final state.
                let _ = socket.close(None).await;
                return Ok(true);
            }
            let wake = self.wake_at(state, start);
            tokio::select! {
                frame = socket.next() => {
                    let Some(Ok(frame)) = frame else { return Ok(false) };
                    self.take(frame, state)?;
                    // Whatever else has arrived, before the next round of sending.
                    while let Some(frame) = futures_util::FutureExt::now_or_never(socket.next()) {
                        let Some(Ok(frame)) = frame else { return Ok(false) };
                        self.take(frame, state)?;
                    }
                }
                () = sleep_until(wake) => {
                    if state.flights.values().any(|due_again| *due_again <= Instant::now()) {
                        return Ok(false);
                    }
                }
                () = self.stopped(), if !self.has_sent_all(state) => {}
            }
        }
    }

    fn has_sent_all(&self, state: &State) -> bool {
        match &self.pace {
            Pace::Endless { stop, .. } => stop.is_cancelled(),
            Pace::Window(_) | Pace::Schedule(_) => state.next == self.sent.len(),
        }
    }

    /// When a sender without end is told to stop.
    async fn stopped(&self) {
        match &self.pace {
            Pace::Endless { stop, .. } => stop.cancelled().await,
            Pace::Window(_) | Pace::Schedule(_) => std::future::pending().await,
        }
    }

    /// Chooses the next message and notes it as on its way.
    fn next_to_send(&mut self, state: &mut State, start: Instant) -> Option<usize> {
        let now = Instant::now();
        let due_again = now + ANSWER_PATIENCE;
        if let Some(&(due, n)) = state.again.first()
            && due <= now
        {
            state.again.pop_first();
            state.flights.insert(n, due_again);
            return Some(n);
        }
        if self.has_sent_all(state) || state.begun.len() >= self.unanswered_max() {
            return None;
        }
        let n = state.next;
        let begun = self.pace.due(n).map_or(now, |due| start + due);
        if begun > now {
            return None;
        }
        if n == self.sent.len() {
            self.sent.push(Sent { acked: None, repeated: false });
        }
        state.next += 1;
        // Of a sender without an end, only the beginning is noted.
        if let Some(noted) = self.begun.get(n) {
            let after = u64::try_from(begun.saturating_duration_since(start).as_micros());
            noted.store(after.unwrap_or(u64::MAX - 1) + 1, Ordering::Relaxed);
        }
        self.report.sent.fetch_add(1, Ordering::Relaxed);
        state.begun.insert(n, begun);
        state.flights.insert(n, due_again);
        Some(n)
    }

    fn unanswered_max(&self) -> usize {
        match &self.pace {
            Pace::Window(window) => *window,
            Pace::Schedule(_) => usize::MAX,
            Pace::Endless { .. } => UNANSWERED_MAX,
        }
    }

    fn wake_at(&self, state: &State, start: Instant) -> Instant {
        let patience = Instant::now() + ANSWER_PATIENCE;
        let again = state.again.first().map(|(due, _)| *due);
        let may = state.begun.len() < self.unanswered_max();
        let scheduled = self.pace.due(state.next).filter(|_| may).map(|due| start + due);
        [again, scheduled].into_iter().flatten().fold(patience, Instant::min)
    }

    fn take(&mut self, frame: Message, state: &mut State) -> anyhow::Result<()> {
        let Message::Text(text) = frame else { return Ok(()) };
        let reply: Reply<'_> =
            serde_json::from_str(&text).with_context(|| format!("not the protocol: {text}"))?;
        if reply.cmd == 5 {
            self.report.pushed.fetch_add(messages_in(&text), Ordering::Relaxed);
        }
        if reply.cmd != 2 {
            return Ok(());
        }
        let id = reply.msg_id.context("a reply without msg_id")?;
        let n: usize = id.rsplit_once('-').context("not our msg_id")?.1.parse()?;
        state.flights.remove(&n);
        match reply.code {
            0 => {
                let seq = reply.seq.context("code 0 without seq")?;
                let sent = &mut self.sent[n];
                if sent.acked.is_some_and(|before| before != seq) {
                    sent.repeated = true;
                    self.report.corrected.fetch_add(1, Ordering::Relaxed);
                }
                sent.acked = Some(seq);
                self.progress.acked(seq);
                if let Some(begun) = state.begun.remove(&n) {
                    state.last_success = Instant::now();
                    self.report.acked.fetch_add(1, Ordering::Relaxed);
                    let micros = u64::try_from(begun.elapsed().as_micros())?;
                    self.latency.saturating_record(micros);
                    if let Some(latency) = self.report.latency.lock().as_mut() {
                        latency.saturating_record(micros);
                    }
                }
            }
            429 | 503 => {
                self.report.refused.fetch_add(1, Ordering::Relaxed);
                let later: Later = serde_json::from_str(reply.payload.context("no retry_after_ms")?.get())?;
                self.sent[n].repeated = true;
                state.again.insert((Instant::now() + Duration::from_millis(later.retry_after_ms), n));
            }
            code => anyhow::bail!("{} refused with {code}: {text}", self.msg_id(n)),
        }
        Ok(())
    }
}

/// Number of messages in a push, without parsing all of it.
#[must_use]
pub fn messages_in(push: &str) -> u64 {
    push.matches("\"sender_id\":").count() as u64
}

struct State {
    next: usize,
    /// Unanswered messages, and when each was first sent or due.
    begun: BTreeMap<usize, Instant>,
    /// Those on their way, and when they are not waited for any more.
    flights: HashMap<usize, Instant>,
    /// Messages to be sent again, by when.
    again: BTreeSet<(Instant, usize)>,
    last_success: Instant,
}
