//! What a commit came to, as facts. [`announce`](crate::announce) turns them into events and inbox updates.

use std::sync::Arc;

use shared::conversation::Conversation;
use shared::ids::Seq;
use shared::message::{MessageId, Numbered};
use shared::permission::Denied;

use super::pending::DeliveryTag;
use super::permission_cache::VersionedRoster;

/// The result of one commit.
#[derive(Debug, Default)]
pub(crate) struct Committed {
    /// About single messages.
    pub(crate) facts: Facts,
    /// About conversations.
    pub(crate) advanced: Vec<Advanced>,
    /// The delivery of each message that is settled already, once per message.
    pub(crate) settled: Vec<DeliveryTag>,
}

/// What became of messages, as far as anybody is to be told.
#[derive(Debug, Default)]
pub(crate) struct Facts {
    /// Rising by conversation and sequence number.
    pub(crate) stored: Vec<Stored>,
    /// In any order.
    pub(crate) final_seqs: Vec<FinalSeq>,
    /// In any order.
    pub(crate) refused: Vec<Refused>,
}

/// A message is stored, and the readers of its conversation may not know.
#[derive(Debug)]
pub(crate) struct Stored {
    /// As its sender sent it.
    pub(crate) message: Numbered,
    /// Its final sequence number.
    pub(crate) seq: Seq,
}

/// The final sequence number of a message, for its sender.
#[derive(Debug, Clone)]
pub(crate) struct FinalSeq {
    /// The message.
    pub(crate) id: MessageId,
    /// Its final sequence number.
    pub(crate) seq: Seq,
    /// Its sender was told another one before.
    pub(crate) changed: bool,
}

impl FinalSeq {
    pub(super) fn new(message: &Numbered, seq: Seq, changed: bool) -> Self {
        Self { id: message.id(), seq, changed }
    }

    /// The number that the sender was told stays, although no entry has it.
    pub(super) fn unchanged(message: &Numbered) -> Self {
        Self::new(message, message.seq, false)
    }
}

/// A message is not stored, although its sender was told that it was accepted.
#[derive(Debug)]
pub(crate) struct Refused {
    /// The message.
    pub(crate) message: Numbered,
    /// Why.
    pub(crate) denied: Denied,
}

/// A conversation has messages up to a sequence number that its readers' inboxes may not show yet.
#[derive(Debug)]
pub(crate) struct Advanced {
    /// The conversation.
    pub(crate) conversation: Conversation,
    /// Its last sequence number.
    pub(crate) last_seq: Seq,
    /// Its members.
    pub(crate) roster: Arc<VersionedRoster>,
    /// The delivery of each message that is settled once the inboxes are written, once per message.
    pub(crate) deliveries: Vec<DeliveryTag>,
}
