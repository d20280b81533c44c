//! What a commit came to, as facts. [`announce`](crate::announce) turns them into events and inbox updates.

use std::sync::Arc;

use shared::conversation::Conversation;
use shared::ids::Seq;
use shared::message::{MessageId, Numbered};
use shared::permission::Denied;

use super::pending::DeliveryTag;
use super::rights::Rights;

/// The result of one commit.
#[derive(Debug, Default)]
pub struct Committed {
    /// About single messages.
    pub facts: Facts,
    /// About conversations.
    pub advanced: Vec<Advanced>,
    /// The delivery of each message that is settled already, once per message.
    pub settled: Vec<DeliveryTag>,
}

/// What became of messages, as far as anybody is to be told.
#[derive(Debug, Default)]
pub struct Facts {
    /// Rising by conversation and sequence number.
    pub stored: Vec<Stored>,
    /// In any order.
    pub final_seqs: Vec<FinalSeq>,
    /// In any order.
    pub refused: Vec<Refused>,
}

/// A message is stored, and the readers of its conversation may not know.
#[derive(Debug)]
pub struct Stored {
    /// As its sender sent it.
    pub message: Numbered,
    /// Its final sequence number.
    pub seq: Seq,
}

/// The final sequence number of a message, for its sender.
#[derive(Debug, Clone)]
pub struct FinalSeq {
    /// The message.
    pub id: MessageId,
    /// Its final sequence number.
    pub seq: Seq,
    /// Its sender was told another one before.
    pub changed: bool,
}

impl FinalSeq {
    pub(super) fn new(message: &Numbered, seq: Seq, changed: bool) -> Self {
        Self { id: message.id(), seq, changed }
    }
}

/// A message is not stored, although its sender was told that it was accepted.
#[derive(Debug)]
pub struct Refused {
    /// The message.
    pub message: Numbered,
    /// Why.
    pub denied: Denied,
}

/// A conversation has messages up to a sequence number that its readers' inboxes may not show yet.
#[derive(Debug)]
pub struct Advanced {
    /// The conversation.
    pub conversation: Conversation,
    /// Its last sequence number.
    pub last_seq: Seq,
    /// Who its members are.
    pub rights: Arc<Rights>,
    /// The delivery of each message that is settled once the inboxes are written, once per message.
    pub deliveries: Vec<DeliveryTag>,
}
