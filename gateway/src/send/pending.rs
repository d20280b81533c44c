//! The answer that a sender waits for.

use rand::RngExt as _;
use shared::conversation::Conversation;
use shared::ids::{MsgId, Seq};

use crate::outbox::ReplyTo;
use crate::wire::refusal::Refusal;
use crate::wire::reply;
use crate::wire::request::Cmd;

/// Answered exactly once: by one of its methods, or, should a task end without using them, by an error when dropped.
#[derive(Debug)]
pub(super) struct PendingReply {
    to: Option<ReplyTo>,
    conversation: Conversation,
    msg_id: MsgId,
}

impl PendingReply {
    pub(super) fn new(to: ReplyTo, conversation: Conversation, msg_id: MsgId) -> Self {
        Self { to: Some(to), conversation, msg_id }
    }

    /// Code 0 with the message's number.
    pub(super) fn accept(mut self, seq: Seq) {
        if let Some(to) = self.to.take() {
            to.send(reply::chat(&self.msg_id, &self.conversation.wire(), seq));
        }
    }

    /// The refusal's code and sentence.
    pub(super) fn refuse(mut self, refusal: &Refusal) {
        self.answer(refusal);
    }

    fn answer(&mut self, refusal: &Refusal) {
        if let Some(to) = self.to.take() {
            to.send(refusal.frame(Cmd::CHAT, Some(self.msg_id.as_str()), Some(&self.conversation.wire())));
        }
    }
}

impl Drop for PendingReply {
    fn drop(&mut self) {
        self.answer(&overloaded("the message was not taken"));
    }
}

/// 503 with a time to come back that differs from sender to sender.
pub(super) fn overloaded(why: &str) -> Refusal {
    let retry_after_ms = rand::rng().random_range(200..=1_000);
    Refusal::Overloaded { message: format!("{why}: send it again with the same msg_id"), retry_after_ms }
}
