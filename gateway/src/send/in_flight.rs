//! The reply that the sender of a message waits for: who answers, when, exactly once.
//!
//! | what happens | reply to `"ack":"accepted"` | reply to `"ack":"stored"` |
//! |---|---|---|
//! | its sender may not send it now, and it is stored already | code 0 | code 0 |
//! | a check or the hook refuses the message, or it gets no sequence number | the refusal | the refusal |
//! | too little of its time is left when its batch is cut | 503 | 503 |
//! | the broker confirms the batch | code 0, or the known outcome | none yet |
//! | the broker does not confirm the batch | 503, or the known outcome | 503 |
//! | a worker stores the message, under the same number or another one | none: the sender has its reply | code 0 |
//! | a worker refuses the message | the outcome, if the confirm comes later | 403 or 404 |
//! | the deadline passes | none: a batch ends before the deadlines of its messages | 503 |
//! | the reply is dropped, because its task ends | 503 | 503 |
//!
//! An outcome overrides the sequence number: a worker has stored the message under another number, or refused it. Its
//! event may arrive before the confirm, so the outcome is remembered for a while, and the last answer is the final one.
//! Second answers, to all connections of the sender, are sent by `push/fanout.rs` for these two events only.

use std::sync::Arc;
use std::time::Duration;

use ahash::AHashMap;
use parking_lot::{Mutex, RwLock};
use shared::conversation::Conversation;
use shared::ids::{IdError, Seq};
use shared::message::{MessageId, Numbered};
use shared::shutdown::Shutdown;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use super::push_timer::PushTimer;
use super::sampling::SendSpan;
use crate::outbox::ReplyTo;
use crate::wire::api_error::ApiError;
use crate::wire::hook::Replaced;
use crate::wire::name::ConversationName;
use crate::wire::reply;
use crate::wire::request::Cmd;
use crate::wire::retry_delay::RetryDelay;

/// How often replies are checked for their deadlines: they are late by no more than this.
pub(super) const EXPIRE_INTERVAL: Duration = Duration::from_millis(250);
/// How long an outcome is remembered: longer than a batch waits for its confirm.
const OUTCOME_TTL: Duration = Duration::from_secs(10);
/// Outcomes that are remembered. At the limit, further outcomes are not: a reply whose confirm comes after its outcome has
/// the first number, and a retry gets the final one.
const OUTCOMES_MAX: usize = 16_384;

/// 503, to be sent again with the same `msg_id`.
pub(super) fn try_again(why: &str) -> ApiError {
    ApiError::unavailable(format!("{why}: send it again with the same msg_id"), RetryDelay::Overloaded)
}

/// The reply to one message. Sent exactly once: by [`accept`](Self::accept), by [`refuse`](Self::refuse), or, should a
/// task end without either, as a 503 when it is dropped.
#[derive(Debug)]
pub(super) struct PendingReply {
    to: Option<ReplyTo>,
    id: MessageId,
    deadline: Instant,
    /// What a code 0 says beside the sequence number.
    note: Option<Box<Note>>,
    /// The span that ends with the reply.
    trace: Option<Box<SendSpan>>,
}

/// What a code 0 says beside the sequence number.
#[derive(Debug)]
enum Note {
    /// An earlier message with the id has another content.
    ContentDiffers,
    /// The hook has replaced something.
    Replaced(Replaced),
}

impl PendingReply {
    pub(super) fn new(to: ReplyTo, id: MessageId, deadline: Instant) -> Self {
        Self { to: Some(to), id, deadline, note: None, trace: None }
    }

    /// The span of the message ends with this reply.
    pub(super) fn traced(mut self, trace: Option<Box<SendSpan>>) -> Self {
        self.trace = trace;
        self
    }

    /// The span of the message, if its trace is recorded.
    pub(super) fn trace(&mut self) -> Option<&mut SendSpan> {
        self.trace.as_deref_mut()
    }

    /// The conversation, as the sender names it.
    fn name(&self) -> ConversationName<'_> {
        ConversationName::of(&self.id.conversation, self.id.sender.as_str())
    }

    /// The sender gets its reply by then.
    pub(super) fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Code 0 with the message's sequence number.
    pub(super) fn accept(mut self, seq: Seq) {
        if let Some(to) = self.to.take() {
            let (msg_id, name) = (&self.id.msg_id, self.name());
            to.send(match self.note.as_deref() {
                None => reply::chat(msg_id, &name, seq),
                Some(Note::ContentDiffers) => reply::chat_content_differs(msg_id, &name, seq),
                Some(Note::Replaced(replaced)) => reply::chat_replaced(msg_id, &name, seq, replaced),
            });
        }
        if let Some(trace) = self.trace.take() {
            trace.end(&self.id, Ok(seq));
        }
    }

    /// The id was used for an earlier message with another content, which stays: a code 0 says so.
    pub(super) fn content_differs(&mut self) {
        self.note = Some(Box::new(Note::ContentDiffers));
    }

    /// The hook has replaced something in the message: a code 0 says so, unless an earlier message with the id stays.
    pub(super) fn replaced(&mut self, replaced: Replaced) {
        self.note = Some(Box::new(Note::Replaced(replaced)));
    }

    /// Code 0 for an earlier attempt that is stored.
    pub(super) fn answer_earlier(mut self, seq: Seq, content_differs: bool) {
        if content_differs {
            self.content_differs();
        }
        self.accept(seq);
    }

    pub(super) fn refuse(mut self, refusal: &ApiError) {
        self.send_refusal(refusal);
    }

    fn send_refusal(&mut self, refusal: &ApiError) {
        if let Some(to) = self.to.take() {
            to.send(refusal.frame_about(Cmd::CHAT, Some(self.id.msg_id.as_str()), &self.name()));
        }
        if let Some(trace) = self.trace.take() {
            trace.end(&self.id, Err(refusal.code()));
        }
    }

    fn finish(self, outcome: &Outcome) {
        match outcome {
            Outcome::Stored(seq) => self.accept(*seq),
            Outcome::Refused(refusal) => self.refuse(refusal),
        }
    }
}

impl Drop for PendingReply {
    fn drop(&mut self) {
        if self.to.is_some() {
            self.send_refusal(&try_again("the message was not taken"));
        }
    }
}

/// A message with its sequence number, and the reply that its sender waits for.
#[derive(Debug)]
pub(super) struct InFlightMessage {
    pub(super) message: Numbered,
    /// `None` once it waits for the commit.
    reply: Option<PendingReply>,
    _permit: OwnedSemaphorePermit,
}

impl InFlightMessage {
    pub(super) fn new(message: Numbered, reply: PendingReply, permit: OwnedSemaphorePermit) -> Self {
        Self { message, reply: Some(reply), _permit: permit }
    }

    /// The sender gets its reply by then. `None` once the reply waits for the commit.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.reply.as_ref().map(PendingReply::deadline)
    }
}

/// The final decision about a message.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Outcome {
    /// It is stored under this sequence number.
    Stored(Seq),
    /// It is not stored: its sender has lost the right to send.
    Refused(ApiError),
}

/// The replies of this gateway from the sequence number on. Shared by the pipelines, which publish, and the fanout, which
/// receives the events of the workers.
#[derive(Debug, Default)]
pub(crate) struct InFlight {
    /// Replies that wait for the commit. There are no more than connections have reserved places for replies.
    until_stored: Mutex<AHashMap<MessageId, Vec<PendingReply>>>,
    /// Outcomes that override the sequence number, with the time of their events.
    outcomes: RwLock<AHashMap<MessageId, (Instant, Outcome)>>,
    /// How long it takes until messages are pushed.
    pub(crate) push_timer: PushTimer,
}

impl InFlight {
    /// No message is in flight.
    #[must_use]
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// `batch` is about to be published. Replies that wait for the commit are recorded before, because the commit may come
    /// before the confirm.
    pub(super) fn publish(&self, mut batch: Vec<InFlightMessage>) -> Publishing<'_> {
        self.forget_refusals(&batch);
        let mut until_stored = None;
        for one in batch.iter_mut().filter(|one| one.message.reply_when_stored) {
            if let Some(reply) = one.reply.take() {
                let replies = until_stored.get_or_insert_with(|| self.until_stored.lock());
                replies.entry(one.message.id()).or_default().push(reply);
            }
        }
        drop(until_stored);
        Publishing { in_flight: self, batch }
    }

    /// A refusal of an earlier attempt does not count for this one.
    fn forget_refusals(&self, batch: &[InFlightMessage]) {
        if self.outcomes.read().is_empty() {
            return;
        }
        let mut outcomes = self.outcomes.write();
        for one in batch {
            let id = one.message.id();
            if matches!(outcomes.get(&id), Some((_, Outcome::Refused(_)))) {
                outcomes.remove(&id);
            }
        }
    }

    /// A worker has stored the message under this sequence number.
    pub(crate) fn stored(&self, conversation: &Conversation, sender: &str, msg_id: &str, seq: Seq) {
        if self.until_stored.lock().is_empty() {
            return;
        }
        if let Ok(id) = MessageId::parse(conversation.clone(), sender, msg_id) {
            self.reply_to_waiting(&id, &Outcome::Stored(seq));
        }
    }

    /// A worker has stored the message under another sequence number than it had. A second answer has to follow.
    pub(crate) fn renumbered(&self, conversation: &Conversation, sender: &str, msg_id: &str, seq: Seq) {
        self.decided(MessageId::parse(conversation.clone(), sender, msg_id), Outcome::Stored(seq));
    }

    /// A worker has refused the message. A second answer has to follow.
    pub(crate) fn refused(&self, conversation: &Conversation, sender: &str, msg_id: &str, refusal: ApiError) {
        self.decided(MessageId::parse(conversation.clone(), sender, msg_id), Outcome::Refused(refusal));
    }

    /// Events with ill-formed ids are ignored: no message has them.
    fn decided(&self, id: Result<MessageId, IdError>, outcome: Outcome) {
        let Ok(id) = id else { return };
        self.reply_to_waiting(&id, &outcome);
        let mut outcomes = self.outcomes.write();
        if outcomes.len() < OUTCOMES_MAX || outcomes.contains_key(&id) {
            outcomes.insert(id, (Instant::now(), outcome));
        }
    }

    fn reply_to_waiting(&self, id: &MessageId, outcome: &Outcome) {
        let replies = self.until_stored.lock().remove(id);
        replies.into_iter().flatten().for_each(|reply| reply.finish(outcome));
    }

    /// Refuses replies whose deadline has passed, and forgets old outcomes.
    fn expire(&self, now: Instant) {
        self.outcomes.write().retain(|_, (since, _)| now.duration_since(*since) < OUTCOME_TTL);
        self.push_timer.expire(now);
        let mut late = Vec::new();
        self.until_stored.lock().retain(|_, replies| {
            late.extend(replies.extract_if(.., |reply| reply.deadline <= now));
            !replies.is_empty()
        });
        for reply in late {
            reply.refuse(&try_again("the message was not stored in time"));
        }
    }

    /// Keeps the deadlines until the stop: the event about a commit may have been lost.
    pub(crate) async fn keep_deadlines(self: Arc<Self>, shutdown: Shutdown) {
        while shutdown.sleep(EXPIRE_INTERVAL).await {
            self.expire(Instant::now());
        }
    }
}

/// A batch on its way to the broker.
#[derive(Debug)]
pub(super) struct Publishing<'a> {
    in_flight: &'a InFlight,
    batch: Vec<InFlightMessage>,
}

impl Publishing<'_> {
    pub(super) fn messages(&self) -> impl ExactSizeIterator<Item = &Numbered> {
        self.batch.iter().map(|one| &one.message)
    }

    /// The broker has the batch: sends the replies that wait for that.
    pub(super) fn confirmed(self) {
        self.finish(|message, reply| reply.accept(message.seq));
    }

    /// The broker is not known to have the batch: sends all replies.
    pub(super) fn failed(self, why: &str) {
        for one in self.batch.iter().filter(|one| one.message.reply_when_stored) {
            self.in_flight.reply_to_waiting(&one.message.id(), &Outcome::Refused(try_again(why)));
        }
        self.finish(|_, reply| reply.refuse(&try_again(why)));
    }

    fn finish(self, reply_otherwise: impl Fn(&Numbered, PendingReply)) {
        // Held until all replies are sent: a second answer is sent after its outcome is recorded, and so after these.
        let outcomes = self.in_flight.outcomes.read();
        for InFlightMessage { message, reply, .. } in self.batch {
            let Some(reply) = reply else { continue };
            let known = if outcomes.is_empty() { None } else { outcomes.get(&message.id()) };
            match known {
                Some((_, outcome)) => reply.finish(outcome),
                None => reply_otherwise(&message, reply),
            }
        }
    }
}

#[cfg(test)]
mod tests;
