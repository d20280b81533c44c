//! A user that sends many messages, and sends each again until it is acknowledged, through any gateway that answers.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use hdrhistogram::Histogram;
use im_client::protocol::{Chat, ConnectError, Socket, chat_frame};
use serde_json::json;
use tokio::time::{Instant, sleep_until};
use tokio_tungstenite::tungstenite::Message;

use super::backoff::Backoff;
use super::credentials::Credentials;
use super::exact_timer::ExactTimer;
use super::mix::{Kind, Targets};
use super::pace::{Assignment, Pace};
use super::refusals::Request;
use super::report::{Progress, Report};
use super::sending::Sending;

/// A message without a reply after this time is sent again on a new connection.
pub(super) const ANSWER_TIMEOUT: Duration = Duration::from_secs(8);
/// Milliseconds before the next attempt to connect, if the gateway names no time.
pub(super) const RECONNECT: std::ops::RangeInclusive<u64> = 50..=300;
/// A sender fails when nothing was acknowledged for this long.
const NO_SUCCESS_TIMEOUT: Duration = Duration::from_secs(120);
/// Unanswered messages of an endless sender; further ones wait.
const UNANSWERED_MAX: usize = 256;
/// Frames that are written before replies are read.
const FRAMES_AT_ONCE: usize = 64;

/// State of one message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sent {
    /// The sequence number in the last reply with code 0.
    pub acked: Option<u64>,
    /// What it is.
    pub kind: Kind,
    /// It was sent more than once, or got a second reply with another sequence number: its place among its sender's own
    /// messages is not promised.
    pub repeated: bool,
}

/// Is called with each push that a sender receives.
#[derive(Clone)]
pub struct PushObserver(Arc<dyn Fn(&str) + Send + Sync>);

impl PushObserver {
    /// Calls `observe` with the text of each push.
    #[must_use]
    pub fn new(observe: impl Fn(&str) + Send + Sync + 'static) -> Self {
        Self(Arc::new(observe))
    }

    pub(super) fn observe(&self, push: &str) {
        (self.0)(push);
    }
}

impl std::fmt::Debug for PushObserver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PushObserver")
    }
}

/// One user, one conversation, many messages.
#[derive(Debug)]
pub struct Sender {
    /// The user.
    pub user: String,
    /// The conversation that it sends to.
    pub conversation: String,
    /// Bytes of each content.
    pub size: usize,
    /// Whether replies are requested at the commit.
    pub stored: bool,
    /// Not only texts, but also changes of these.
    pub mix: Option<Arc<Targets>>,
    /// How the user proves who it is.
    pub credentials: Credentials,
    /// Sees the pushes to its connection.
    pub push_observer: Option<PushObserver>,
    /// By message.
    pub sent: Vec<Sent>,
    /// Microseconds from the first sending (or the scheduled moment) to the reply.
    pub latency: Histogram<u64>,
    /// Current while it runs.
    pub progress: Arc<Progress>,
    /// By message: microseconds after the start at which it was sent (or due), plus 1; 0 before that.
    pub begun: Arc<[AtomicU64]>,
    gateways: Vec<String>,
    pace: Pace,
    pub(super) report: Arc<Report>,
}

impl Sender {
    /// A sender that begins with the first of `gateways` and changes to the next one when the connection ends.
    ///
    /// # Errors
    /// Never, unless the histogram's bounds are wrong.
    pub fn new(
        user: String,
        assignment: Assignment,
        gateways: Vec<String>,
        report: Arc<Report>,
    ) -> anyhow::Result<Self> {
        let Assignment { conversation, messages, size, pace } = assignment;
        let sent = vec![Sent::default(); messages];
        let latency = Histogram::new_with_max(120_000_000, 3)?;
        let begun = (0..messages).map(|_| AtomicU64::new(0)).collect();
        let progress = Arc::default();
        Ok(Self {
            user,
            conversation,
            size,
            stored: false,
            mix: None,
            credentials: Credentials::default(),
            push_observer: None,
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

    /// The content of message `n`, different for each sender, conversation and message.
    #[must_use]
    pub fn content(&self, n: usize) -> String {
        let mut content = format!("{} in {}: {n} ", self.user, self.conversation);
        let missing = self.size.saturating_sub(content.len());
        content.extend(std::iter::repeat_n('x', missing));
        content
    }

    /// Adds a message to those that are sent. Returns its index.
    pub fn add(&mut self) -> usize {
        let n = self.sent.len();
        self.sent.push(Sent::default());
        self.choose_kind(n);
        n
    }

    fn choose_kind(&mut self, n: usize) {
        if let Some(targets) = &self.mix {
            self.sent[n].kind = targets.kind(&self.user, n);
        }
    }

    /// The frame of message `n`; `stored`: the reply is requested at the commit.
    #[must_use]
    pub fn frame(&self, n: usize, stored: bool) -> String {
        let (conversation, msg_id, content) = (self.conversation.clone(), self.msg_id(n), self.content(n));
        match self.sent[n].kind.change(&content, stored) {
            None => chat_frame(&Chat { conversation, msg_id, content, stored }),
            Some(payload) => {
                json!({"cmd": 2, "msg_id": msg_id, "conversation_id": conversation, "payload": payload})
                    .to_string()
            }
        }
    }

    /// Sends all messages and waits until each is acknowledged.
    ///
    /// # Errors
    /// A refusal that a retry does not change, or two minutes without an acknowledgement.
    pub async fn run(&mut self, start: Instant) -> anyhow::Result<()> {
        sleep_until(start).await;
        let mut state = Sending {
            next: 0,
            begun: BTreeMap::new(),
            flights: HashMap::new(),
            again: BTreeSet::new(),
            backoff: Backoff::default(),
            reconnect_after: None,
            last_success: Instant::now(),
        };
        let (progress, mut next) = (Arc::clone(&self.progress), 0);
        loop {
            let n = next % self.gateways.len();
            next = n + 1;
            if let Some(socket) = self.connect(n).await? {
                let finished = tokio::select! {
                    finished = self.converse(socket, &mut state, start) => finished?,
                    () = progress.home.called(n > 0) => {
                        next = 0;
                        false
                    }
                };
                if finished {
                    return Ok(());
                }
            }
            let silent = state.last_success.elapsed();
            anyhow::ensure!(
                silent < NO_SUCCESS_TIMEOUT,
                "no message of {} was acknowledged for {} s",
                self.user,
                silent.as_secs()
            );
            self.report.reconnects.fetch_add(1, Ordering::Relaxed);
            // The fate of unanswered messages is unknown: all are sent again, in order.
            for (n, _) in state.flights.drain() {
                self.sent[n].repeated = true;
                state.again.insert((Instant::now(), n));
            }
            let pause = Duration::from_millis(rand::random_range(RECONNECT));
            tokio::time::sleep(state.reconnect_after.take().unwrap_or(pause)).await;
        }
    }

    /// `None` if the gateway cannot be reached at the moment.
    async fn connect(&self, n: usize) -> anyhow::Result<Option<Socket>> {
        let gateway = &self.gateways[n];
        let connecting = self.credentials.websocket(gateway, &self.user, Some("load"));
        match tokio::time::timeout(ANSWER_TIMEOUT, connecting).await {
            Ok(Ok(socket)) => Ok(Some(socket)),
            Ok(Err(error)) => {
                if let ConnectError::Refused { status, message, .. } = &error {
                    self.report.refusals.count(Request::Connect, *status, message);
                }
                anyhow::ensure!(!error.is_final(), "{} at {gateway}: {error}", self.user);
                Ok(None)
            }
            Err(_) => Ok(None),
        }
    }

    /// True when all messages are acknowledged; false when the connection has ended.
    async fn converse(
        &mut self,
        mut socket: Socket,
        state: &mut Sending,
        start: Instant,
    ) -> anyhow::Result<bool> {
        let mut timer = ExactTimer::new()?;
        loop {
            for _ in 0..FRAMES_AT_ONCE {
                let Some(n) = self.next_to_send(state, start) else { break };
                if socket.feed(Message::text(self.frame(n, self.stored))).await.is_err() {
                    return Ok(false);
                }
            }
            if socket.flush().await.is_err() {
                return Ok(false);
            }
            self.progress.set_oldest(state.begun.first_key_value().map(|(_, begun)| *begun));
            if state.begun.is_empty() && self.has_sent_all(state) {
                // A corrected reply may be unread: the judge asks for the final state.
                let _ = socket.close(None).await;
                return Ok(true);
            }
            let wake = self.wake_at(state, start);
            tokio::select! {
                frame = socket.next() => {
                    let Some(Ok(frame)) = frame else { return Ok(false) };
                    self.take(frame, state)?;
                    // Everything else that has arrived, before further messages are sent.
                    while let Some(frame) = futures_util::FutureExt::now_or_never(socket.next()) {
                        let Some(Ok(frame)) = frame else { return Ok(false) };
                        self.take(frame, state)?;
                    }
                }
                waited = timer.sleep_until(wake) => {
                    waited?;
                    if state.flights.values().any(|due_again| *due_again <= Instant::now()) {
                        return Ok(false);
                    }
                }
                () = self.stopped(), if !self.has_sent_all(state) => {}
            }
        }
    }

    fn has_sent_all(&self, state: &Sending) -> bool {
        match &self.pace {
            Pace::Endless { stop, .. } => stop.is_cancelled(),
            Pace::Window(_) | Pace::Schedule(_) => state.next == self.sent.len(),
        }
    }

    /// Resolves when an endless sender is stopped.
    async fn stopped(&self) {
        match &self.pace {
            Pace::Endless { stop, .. } => stop.cancelled().await,
            Pace::Window(_) | Pace::Schedule(_) => std::future::pending().await,
        }
    }

    /// Chooses the next message and records it as sent.
    fn next_to_send(&mut self, state: &mut Sending, start: Instant) -> Option<usize> {
        let now = Instant::now();
        if state.backoff.not_before(now).is_some() {
            return None;
        }
        let n = self.choose(state, start, now)?;
        state.backoff.sent(now);
        Some(n)
    }

    fn choose(&mut self, state: &mut Sending, start: Instant, now: Instant) -> Option<usize> {
        let due_again = now + ANSWER_TIMEOUT;
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
            self.add();
        } else {
            self.choose_kind(n);
        }
        state.next += 1;
        // An endless sender has no place here for its later messages.
        if let Some(recorded) = self.begun.get(n) {
            let after = u64::try_from(begun.saturating_duration_since(start).as_micros());
            recorded.store(after.unwrap_or(u64::MAX - 1) + 1, Ordering::Relaxed);
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

    fn wake_at(&self, state: &Sending, start: Instant) -> Instant {
        let now = Instant::now();
        let latest = now + ANSWER_TIMEOUT;
        let again = state.again.first().map(|(due, _)| *due);
        let may = state.begun.len() < self.unanswered_max() && !self.has_sent_all(state);
        let scheduled = self.pace.due(state.next).filter(|_| may).map(|due| start + due);
        // In an open window a message is due at once.
        let open = matches!(self.pace, Pace::Window(_)) && may;
        let next = [again, scheduled, open.then_some(now)].into_iter().flatten().min();
        let not_before = state.backoff.not_before(now).unwrap_or(now);
        next.map_or(latest, |next| next.max(not_before)).min(latest)
    }
}
