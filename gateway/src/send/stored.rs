//! What the commit means to senders: replies that wait for it (`"ack":"stored"`), and numbers that it changed.

use std::time::{Duration, Instant};

use ahash::AHashMap;
use parking_lot::Mutex;
use shared::conversation::Conversation;
use shared::envelope::ChatMessage;
use shared::ids::Seq;

use super::pending::{PendingReply, overloaded};

/// Which message; the key of the conversation, the sender and the sender's id.
type Key = (Conversation, Box<str>, Box<str>);

/// A correction is remembered for so long: longer than a batch waits for its confirm.
const CORRECTION_KEPT: Duration = Duration::from_secs(10);

/// A reply and when it is due.
type Waiter = (Instant, PendingReply);

/// The waiting senders of this gateway. They are answered by the workers' events, or told to ask again when the deadline
/// passes: the event may have been lost.
#[derive(Debug)]
pub struct StoredReplies {
    waiting: Mutex<AHashMap<Key, Vec<Waiter>>>,
    /// Numbers that the commit changed: its event may be quicker than the confirm, and the last reply must tell the
    /// final number.
    corrected: Mutex<AHashMap<Key, (Instant, Seq)>>,
    deadline: Duration,
}

impl StoredReplies {
    /// Nobody waits longer than `deadline`.
    #[must_use]
    pub fn new(deadline: Duration) -> Self {
        Self { waiting: Mutex::default(), corrected: Mutex::default(), deadline }
    }

    /// How long a batch may wait for its confirm.
    pub(super) fn patience(&self) -> Duration {
        self.deadline
    }

    pub(super) fn wait_for(&self, message: &ChatMessage, reply: PendingReply) {
        let due = Instant::now() + self.deadline;
        self.waiting.lock().entry(key(message)).or_default().push((due, reply));
    }

    /// The message is stored under `seq`.
    pub fn committed(&self, conversation: &Conversation, sender: &str, msg_id: &str, seq: Seq) {
        let mut waiting = self.waiting.lock();
        if waiting.is_empty() {
            return;
        }
        let replies = waiting.remove(&(conversation.clone(), sender.into(), msg_id.into()));
        drop(waiting);
        for (_, reply) in replies.into_iter().flatten() {
            reply.accept(seq);
        }
    }

    /// The message, wherever it was sent, is stored under another number than it was given.
    pub fn corrected(&self, conversation: &Conversation, sender: &str, msg_id: &str, seq: Seq) {
        let key = (conversation.clone(), sender.into(), msg_id.into());
        self.corrected.lock().insert(key, (Instant::now(), seq));
    }

    /// The number to tell the sender.
    pub(super) fn final_seq(&self, message: &ChatMessage) -> Seq {
        let corrected = self.corrected.lock();
        if corrected.is_empty() {
            return message.seq;
        }
        corrected.get(&key(message)).map_or(message.seq, |(_, seq)| *seq)
    }

    pub(super) fn give_up(&self, message: &ChatMessage, why: &str) {
        if !message.reply_when_stored {
            return;
        }
        let replies = self.waiting.lock().remove(&key(message));
        for (_, reply) in replies.into_iter().flatten() {
            reply.refuse(&overloaded(why));
        }
    }

    /// Answers those whose time is up. To be called a few times a second.
    pub fn expire(&self, now: Instant) {
        self.corrected.lock().retain(|_, (since, _)| now.duration_since(*since) < CORRECTION_KEPT);
        let mut late = Vec::new();
        self.waiting.lock().retain(|_, waiters| {
            late.extend(waiters.extract_if(.., |(due, _)| *due <= now).map(|(_, reply)| reply));
            !waiters.is_empty()
        });
        for reply in late {
            reply.refuse(&overloaded("the message was not stored in time"));
        }
    }
}

fn key(message: &ChatMessage) -> Key {
    (message.conversation.clone(), message.sender.as_str().into(), message.msg_id.as_str().into())
}
