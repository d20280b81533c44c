//! A user that follows one conversation as the protocol asks: it applies a push that continues its cursor, and pulls from
//! the cursor when it may have missed a message. It records all messages and all cursors.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use futures_util::{SinkExt as _, StreamExt as _};
use im_client::protocol::{Ended, Packet, Socket, StoredMessage, pull_frame};
use tokio::time::{Instant, sleep_until};
use tokio_tungstenite::tungstenite::Message;
use tokio_util::sync::CancellationToken;

use super::home::Home;
use super::sender::{ANSWER_TIMEOUT, RECONNECT};
use super::trust::websocket;

/// Between two heartbeats: a dead connection is detected without traffic too.
const HEARTBEAT: Duration = Duration::from_secs(5);
/// Messages of one pull.
const PAGE: usize = 100;

/// The progress of a reader.
#[derive(Debug, Default)]
pub struct Reading {
    cursor: AtomicU64,
    pushed: AtomicU64,
    /// Since when it is connected and has pulled all messages.
    current: parking_lot::Mutex<Option<Instant>>,
    home: Home,
}

impl Reading {
    /// Records the cursor.
    pub fn seen(&self, cursor: u64) {
        self.cursor.store(cursor, Ordering::Relaxed);
    }

    /// The highest sequence number up to which it has all messages.
    #[must_use]
    pub fn cursor(&self) -> u64 {
        self.cursor.load(Ordering::Relaxed)
    }

    /// Since when it is connected and has pulled all messages; `None` while it is not.
    #[must_use]
    pub fn current_since(&self) -> Option<Instant> {
        *self.current.lock()
    }

    /// Lets it connect to the first of its gateways, if it is connected to another one.
    pub fn return_home(&self) {
        self.home.call();
    }

    /// The highest sequence number that was pushed to its current connection.
    #[must_use]
    pub fn pushed(&self) -> u64 {
        self.pushed.load(Ordering::Relaxed)
    }
}

/// A reader of one conversation.
#[derive(Debug)]
pub struct Reader {
    /// The user.
    pub user: String,
    /// The conversation that it follows.
    pub conversation: String,
    /// Every message, in the order in which it was applied.
    pub seen: Vec<StoredMessage>,
    /// Each cursor that it got, with the number of messages that it had by then.
    pub cursors: Vec<(u64, usize)>,
    /// Violations of the protocol, one sentence each.
    pub complaints: Vec<String>,
    /// Connections after the first.
    pub reconnects: usize,
    /// Current while it runs.
    pub reading: Arc<Reading>,
    gateways: Vec<String>,
    cursor: u64,
}

/// The pull that is in flight or due.
struct Pull {
    /// Whether it was sent.
    sent: bool,
    /// Its deadline if it was sent; otherwise the time at which it is due.
    at: Instant,
    from: u64,
    /// Whether another pull must follow, because of a push or a resync meanwhile.
    again: bool,
}

impl Reader {
    /// A reader that begins with the first of `gateways` and changes to the next one when the connection ends.
    #[must_use]
    pub fn new(user: String, conversation: String, gateways: Vec<String>) -> Self {
        Self {
            user,
            conversation,
            seen: Vec::new(),
            cursors: Vec::new(),
            complaints: Vec::new(),
            reconnects: 0,
            reading: Arc::default(),
            gateways,
            cursor: 0,
        }
    }

    /// The next [`run`](Self::run) begins with the next gateway.
    pub fn turn(&mut self) {
        self.gateways.rotate_left(1);
    }

    /// Follows until `stop`.
    pub async fn run(&mut self, stop: CancellationToken) {
        let following = async {
            let mut next = 0;
            loop {
                let n = next % self.gateways.len();
                next = n + 1;
                let url = format!("{}?user_id={}&device_id=reader", self.gateways[n], self.user);
                let mut pause = Duration::from_millis(rand::random_range(RECONNECT));
                if let Ok(Ok(socket)) = tokio::time::timeout(ANSWER_TIMEOUT, websocket(&url, None)).await {
                    self.reading.pushed.store(0, Ordering::Relaxed);
                    // The next connection continues from the cursor, also after an error.
                    let reading = Arc::clone(&self.reading);
                    let ended = tokio::select! {
                        ended = self.follow(socket) => ended,
                        () = reading.home.called(n > 0) => {
                            next = 0;
                            Ok(Ended(None))
                        }
                    };
                    *self.reading.current.lock() = None;
                    self.reconnects += 1;
                    pause = ended.ok().and_then(|ended| ended.retry_after()).unwrap_or(pause);
                }
                tokio::time::sleep(pause).await;
            }
        };
        Box::pin(stop.run_until_cancelled(following)).await;
    }

    /// Returns the close frame of the server.
    async fn follow(&mut self, mut socket: Socket) -> anyhow::Result<Ended> {
        let now = Instant::now();
        let mut pull = Some(Pull { sent: false, at: now, from: self.cursor, again: false });
        let (mut beat_at, mut beat_answered_by) = (now + HEARTBEAT, None::<Instant>);
        loop {
            if let Some(due) = pull.as_mut().filter(|pull| !pull.sent && pull.at <= Instant::now()) {
                *due =
                    Pull { sent: true, at: Instant::now() + ANSWER_TIMEOUT, from: self.cursor, again: false };
                socket.send(Message::text(pull_frame(&self.conversation, self.cursor, PAGE, false))).await?;
            }
            let wake = [pull.as_ref().map(|pull| pull.at), beat_answered_by]
                .into_iter()
                .flatten()
                .fold(beat_at, Instant::min);
            tokio::select! {
                frame = socket.next() => match frame.context("closed")?? {
                    Message::Text(text) => {
                        let packet = serde_json::from_str(&text).with_context(|| format!("not the protocol: {text}"));
                        match packet {
                            Ok(Packet { cmd: 0, .. }) => beat_answered_by = None,
                            Ok(packet) => self.take(packet, &mut pull)?,
                            Err(error) => self.complain(format!("{error:#}")),
                        }
                    }
                    Message::Close(frame) => return Ok(frame.into()),
                    _ => {}
                },
                () = sleep_until(wake) => {
                    let now = Instant::now();
                    let late = pull.as_ref().is_some_and(|pull| pull.sent && pull.at <= now);
                    anyhow::ensure!(!late && beat_answered_by.is_none_or(|by| by > now), "no answer");
                    if beat_at <= now {
                        socket.send(Message::text(r#"{"cmd":0}"#)).await?;
                        beat_at = now + HEARTBEAT;
                        beat_answered_by.get_or_insert(now + ANSWER_TIMEOUT);
                    }
                }
            }
        }
    }

    fn take(&mut self, packet: Packet, pull: &mut Option<Pull>) -> anyhow::Result<()> {
        let ours = packet.conversation_id.as_deref().is_none_or(|id| id == self.conversation);
        match (packet.cmd, packet.code) {
            (5, _) if ours => {
                let messages = packet.messages()?;
                let (Some(first), Some(last)) = (messages.first(), messages.last()) else { return Ok(()) };
                let (first, last) = (first.seq, last.seq);
                self.reading.pushed.fetch_max(last, Ordering::Relaxed);
                if first == self.cursor + 1 {
                    let next = packet.next_cursor_seq.context("a push without next_cursor_seq")?;
                    self.apply(messages, next);
                } else if last > self.cursor {
                    self.pull_soon(pull);
                }
            }
            (7, _) if ours && packet.event() == Some("resync") => self.pull_soon(pull),
            (3, 0) => {
                let Some(Pull { from, again, .. }) = pull.take() else { return Ok(()) };
                let messages = packet.messages()?;
                let next = packet.next_cursor_seq.context("a pull without next_cursor_seq")?;
                if messages.first().is_some_and(|first| first.seq <= from) {
                    self.complain(format!("a pull from {from} gave {:?}", messages[0]));
                }
                self.apply(messages, next);
                if again || packet.has_more == Some(true) {
                    self.pull_soon(pull);
                } else {
                    self.reading.current.lock().get_or_insert_with(Instant::now);
                }
            }
            (3, code) => {
                let after = packet.retry_after_ms().unwrap_or(1_000);
                if !matches!(code, 429 | 503) {
                    self.complain(format!("a pull was refused with {code}: {}", packet.payload));
                }
                let at = Instant::now() + Duration::from_millis(after);
                *pull = Some(Pull { sent: false, at, from: self.cursor, again: false });
            }
            _ => {}
        }
        Ok(())
    }

    fn pull_soon(&self, pull: &mut Option<Pull>) {
        match pull {
            Some(pull) if pull.sent => pull.again = true,
            Some(_) => {}
            None => {
                *pull = Some(Pull { sent: false, at: Instant::now(), from: self.cursor, again: false });
            }
        }
    }

    fn apply(&mut self, messages: Vec<StoredMessage>, next: u64) {
        for message in messages {
            if message.seq > self.cursor {
                self.cursor = message.seq;
                self.seen.push(message);
                continue;
            }
            // A message that was pushed while the pull was in flight is known; it may have been changed meanwhile.
            let place = self.seen.binary_search_by_key(&message.seq, |seen| seen.seq);
            let is_same = |seen: &StoredMessage| {
                (&seen.msg_id, &seen.sender_id) == (&message.msg_id, &message.sender_id)
            };
            if place.is_ok_and(|place| is_same(&self.seen[place])) {
                continue;
            }
            self.complain(format!("came at or below the cursor {}: {message:?}", self.cursor));
        }
        self.cursor = self.cursor.max(next);
        self.reading.seen(self.cursor);
        if self.cursors.last().is_none_or(|(cursor, _)| *cursor != self.cursor) {
            self.cursors.push((self.cursor, self.seen.len()));
        }
    }

    fn complain(&mut self, complaint: String) {
        self.complaints.push(format!("{}: {complaint}", self.user));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(cmd: i64, seqs: &[u64], next: u64) -> Packet {
        let message = |seq: &u64| {
            serde_json::json!({
                "msg_id": format!("m{seq}"), "seq": seq, "sender_id": "a", "content": "c", "msg_type": 1, "send_time": 0
            })
        };
        let messages: Vec<_> = seqs.iter().map(message).collect();
        let packet = serde_json::json!({"cmd": cmd, "code": 0, "payload": messages, "next_cursor_seq": next});
        serde_json::from_value(packet).unwrap()
    }

    fn sent(from: u64) -> Option<Pull> {
        Some(Pull { sent: true, at: Instant::now(), from, again: false })
    }

    #[tokio::test]
    async fn pushes_that_continue_the_cursor_are_applied_and_others_cause_a_pull() {
        let mut reader = Reader::new("r".into(), "group_1".into(), Vec::new());
        let mut pull = None;
        reader.take(packet(5, &[1, 2], 2), &mut pull).unwrap();
        assert!(pull.is_none());
        reader.take(packet(5, &[2], 2), &mut pull).unwrap();
        assert!(pull.is_none(), "known");
        reader.take(packet(5, &[4], 4), &mut pull).unwrap();
        assert!(pull.is_some());
        pull = sent(2);
        reader.take(packet(3, &[3, 4], 4), &mut pull).unwrap();
        assert!(pull.is_none());
        assert_eq!(reader.cursors, [(2, 2), (4, 4)]);
        assert_eq!(reader.reading.pushed(), 4);
        assert!(reader.complaints.is_empty());
    }

    #[tokio::test]
    async fn a_message_below_the_cursor_is_a_violation() {
        let mut reader = Reader::new("r".into(), "group_1".into(), Vec::new());
        let mut pull = sent(0);
        reader.take(packet(3, &[1, 3], 3), &mut pull).unwrap();
        // Pulled from 1 while 3 was pushed: known. 2 is not.
        pull = sent(1);
        reader.take(packet(3, &[2, 3], 3), &mut pull).unwrap();
        assert_eq!(reader.complaints.len(), 1, "{:?}", reader.complaints);
        pull = sent(3);
        reader.take(packet(3, &[3], 3), &mut pull).unwrap();
        assert_eq!(reader.complaints.len(), 2, "{:?}", reader.complaints);
    }
}
