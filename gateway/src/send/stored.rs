//! What the commit means to senders: replies that wait for it (`"ack":"stored"`), and numbers that it changed.

use std::time::{Duration, Instant};

use ahash::AHashMap;
use parking_lot::Mutex;
use shared::conversation::Conversation;
use shared::envelope::ChatMessage;
use shared::ids::Seq;

use super::pending::{PendingReply, overloaded};
use crate::wire::refusal::Refusal;

/// Which message; the key of the conversation, the sender and the sender's id.
type Key = (Conversation, Box<str>, Box<str>);

/// A correction is remembered for so long: longer than a batch waits for its confirm.
const CORRECTION_KEPT: Duration = Duration::from_secs(10);

/// What became of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Final {
    /// Stored under this number.
    Stored(Seq),
    /// Not stored: its sender lost the right to send.
    Refused(Refusal),
}

/// A reply and when it is due.
type Waiter = (Instant, PendingReply);

/// The waiting senders of this gateway. They are answered by the workers' events, or told to ask again when the deadline
/// passes: the event may have been lost.
#[derive(Debug, Default)]
pub struct StoredReplies {
    waiting: Mutex<AHashMap<Key, Vec<Waiter>>>,
    /// What the commit decided otherwise: its event may be quicker than the confirm, and the last reply must tell what is
    /// final.
    corrected: Mutex<AHashMap<Key, (Instant, Final)>>,
}

impl StoredReplies {
    /// Nobody waits.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Answers `reply` at the commit of `message`, or by `due` with an error.
    pub(super) fn wait_for(&self, message: &ChatMessage, reply: PendingReply, due: Instant) {
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

    /// The message, wherever it was sent, has another end than its sender was told.
    pub fn corrected(&self, conversation: &Conversation, sender: &str, msg_id: &str, end: Final) {
        let key = (conversation.clone(), sender.into(), msg_id.into());
        if let Final::Refused(refusal) = &end {
            let replies = self.waiting.lock().remove(&key);
            for (_, reply) in replies.into_iter().flatten() {
                reply.refuse(refusal);
            }
        }
        self.corrected.lock().insert(key, (Instant::now(), end));
    }

    /// The message is about to be published: what became of an earlier attempt does not count any more.
    pub(super) fn begun(&self, message: &ChatMessage) {
        let mut corrected = self.corrected.lock();
        if !corrected.is_empty() && matches!(corrected.get(&key(message)), Some((_, Final::Refused(_)))) {
            corrected.remove(&key(message));
        }
    }

    /// What to tell the sender.
    pub(super) fn end_of(&self, message: &ChatMessage) -> Final {
        let corrected = self.corrected.lock();
        if corrected.is_empty() {
            return Final::Stored(message.seq);
        }
        corrected.get(&key(message)).map_or(Final::Stored(message.seq), |(_, end)| end.clone())
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

#[cfg(test)]
mod tests {
    use shared::ids::{MsgId, UserId};

    use super::*;
    use crate::outbox::Outbox;

    fn message() -> ChatMessage {
        ChatMessage {
            conversation: Conversation::from_key("group_1").unwrap(),
            seq: Seq(7),
            jump: false,
            sender: UserId::parse("alice").unwrap(),
            msg_id: MsgId::parse("m1").unwrap(),
            content: "hello".into(),
            msg_type: 1,
            send_time_ms: 0,
            origin: None,
            reply_when_stored: true,
            retry: false,
        }
    }

    fn waiting(stored: &StoredReplies, due: Instant) -> std::sync::Arc<Outbox> {
        let (outbox, message) = (Outbox::new(8, 1000), message());
        let reply = PendingReply::new(outbox.reserve(), message.conversation.clone(), message.msg_id.clone());
        stored.wait_for(&message, reply, due);
        outbox
    }

    #[test]
    fn the_commit_answers_with_its_number_everyone_who_waits_for_that_message() {
        let (stored, later) = (StoredReplies::new(), Instant::now() + Duration::from_secs(5));
        let (first, retry) = (waiting(&stored, later), waiting(&stored, later));
        stored.committed(&message().conversation, "bob", "m1", Seq(9));
        assert!(first.pop().is_none(), "another sender's message of the same id");
        stored.committed(&message().conversation, "alice", "m1", Seq(9));
        for outbox in [first, retry] {
            assert!(
                outbox
                    .pop()
                    .unwrap()
                    .contains(r#""code":0,"msg_id":"m1","conversation_id":"group_1","seq":9"#)
            );
        }
    }

    #[test]
    fn who_waited_too_long_is_told_to_ask_again() {
        let (stored, now) = (StoredReplies::new(), Instant::now());
        let outbox = waiting(&stored, now);
        stored.expire(now);
        assert!(outbox.pop().unwrap().contains(r#""code":503"#));
        stored.committed(&message().conversation, "alice", "m1", Seq(9));
        assert!(outbox.pop().is_none(), "answered once");
    }

    #[test]
    fn a_refusal_at_the_commit_answers_who_waits_and_who_is_confirmed_later() {
        let (stored, later) = (StoredReplies::new(), Instant::now() + Duration::from_secs(5));
        let outbox = waiting(&stored, later);
        let refused = Final::Refused(Refusal::Forbidden("not a member".to_owned()));
        stored.corrected(&message().conversation, "alice", "m1", refused.clone());
        assert!(outbox.pop().unwrap().contains(r#""code":403"#));
        assert_eq!(stored.end_of(&message()), refused);
    }

    #[test]
    fn a_correction_that_is_quicker_than_the_confirm_is_what_the_sender_is_told() {
        let stored = StoredReplies::new();
        assert_eq!(stored.end_of(&message()), Final::Stored(Seq(7)));
        stored.corrected(&message().conversation, "alice", "m1", Final::Stored(Seq(12)));
        assert_eq!(stored.end_of(&message()), Final::Stored(Seq(12)));
        stored.expire(Instant::now() + CORRECTION_KEPT);
        assert_eq!(stored.end_of(&message()), Final::Stored(Seq(7)));
    }
}
