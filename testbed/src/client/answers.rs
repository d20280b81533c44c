//! What a sender does with the replies that it gets.

use std::borrow::Cow;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::Context as _;
use im_client::protocol::{Ended, Refused, Reply};
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::Message;

use super::mix::Kind;
use super::refusals::{Request, cause};
use super::report::messages_in;
use super::sender::Sender;
use super::sending::Sending;

/// Milliseconds before a message is sent again whose refusal names no time.
const RETRY_DEFAULT_MS: u64 = 1_000;

impl Sender {
    /// Records the sequence number of a reply with code 0. Returns whether an earlier reply had another one.
    pub fn record_ack(&mut self, n: usize, seq: u64) -> bool {
        let sent = &mut self.sent[n];
        let is_corrected = sent.acked.is_some_and(|before| before != seq);
        sent.repeated |= is_corrected;
        if let Some(targets) = self.mix.as_ref().filter(|_| sent.acked.is_none() && sent.kind == Kind::Text) {
            targets.acked(&self.user, seq);
        }
        sent.acked = Some(seq);
        is_corrected
    }

    /// Records a refusal. Returns whether it is final.
    pub fn record_refusal(&mut self, n: usize, code: u16) -> bool {
        let sent = &mut self.sent[n];
        sent.repeated = true;
        let is_final = sent.kind.may_end_with(code);
        if is_final {
            sent.acked = None;
        }
        is_final
    }

    pub(super) fn take(&mut self, frame: Message, state: &mut Sending) -> anyhow::Result<()> {
        let text = match frame {
            Message::Text(text) => text,
            Message::Close(Some(frame)) => {
                self.report.refusals.count(Request::Connection, frame.code.into(), "");
                state.reconnect_after = Ended::from(Some(frame)).retry_after();
                return Ok(());
            }
            _ => return Ok(()),
        };
        let reply: Reply<'_> =
            serde_json::from_str(&text).with_context(|| format!("not the protocol: {text}"))?;
        if reply.cmd == 5 {
            self.report.pushed.fetch_add(messages_in(&text), Ordering::Relaxed);
            if let Some(observer) = &self.push_observer {
                observer.observe(&text);
            }
        }
        if reply.cmd != 2 {
            return Ok(());
        }
        let id = reply.msg_id.context("a reply without msg_id")?;
        let n: usize = id.rsplit_once('-').context("not our msg_id")?.1.parse()?;
        state.flights.remove(&n);
        match reply.code {
            0 => self.take_ack(n, reply.seq.context("code 0 without seq")?, state),
            code => self.take_refusal(n, code, reply.payload.map_or("null", |payload| payload.get()), state),
        }
    }

    fn take_ack(&mut self, n: usize, seq: u64, state: &mut Sending) -> anyhow::Result<()> {
        if self.record_ack(n, seq) {
            self.report.corrected.fetch_add(1, Ordering::Relaxed);
        }
        self.progress.acked(seq);
        let Some(begun) = state.begun.remove(&n) else { return Ok(()) };
        state.last_success = Instant::now();
        state.backoff.accepted();
        self.report.acked.fetch_add(1, Ordering::Relaxed);
        let micros = u64::try_from(begun.elapsed().as_micros())?;
        self.latency.saturating_record(micros);
        self.report.record_latency(micros);
        Ok(())
    }

    /// The message is sent again when the gateway says so; a refusal that a retry does not change ends the run.
    fn take_refusal(
        &mut self,
        n: usize,
        code: u16,
        payload: &str,
        state: &mut Sending,
    ) -> anyhow::Result<()> {
        let (message, wait) = match serde_json::from_str(payload) {
            Ok(Refused::Later { message, retry_after_ms }) => (message, retry_after_ms),
            Ok(Refused::Sentence(message)) => (message, None),
            Err(_) => (Cow::Borrowed(payload), None),
        };
        self.report.refusals.count(Request::Message, code, &message);
        if self.record_refusal(n, code) {
            state.begun.remove(&n);
            return Ok(());
        }
        if !matches!(code, 429 | 500 | 503) {
            let cause = cause(Request::Message, code, &message);
            anyhow::bail!(
                "{} to {} was refused with {code}: {message} ({cause})",
                self.msg_id(n),
                self.conversation
            );
        }
        self.report.refused.fetch_add(1, Ordering::Relaxed);
        let (now, wait) = (Instant::now(), Duration::from_millis(wait.unwrap_or(RETRY_DEFAULT_MS)));
        if code == 429 {
            // The limit is the user's: its other messages would be refused too.
            state.backoff.refused(now, wait);
        }
        state.again.insert((now + wait, n));
        Ok(())
    }
}
