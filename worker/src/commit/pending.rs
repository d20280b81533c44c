//! A message between its delivery and its acknowledgement.

use std::time::Instant;

use shared::ids::Seq;
use shared::message::Numbered;

/// The broker's number of a delivery on the current channel: from 1, without gaps.
pub type DeliveryTag = u64;

/// A message that is not settled yet, with everything that the plan needs to know about it.
#[derive(Debug, Clone)]
pub struct Pending {
    /// The message as delivered. Its `seq` is the one that its sender was told.
    pub message: Numbered,
    /// The sequence number under which it is to be stored: that of the message, or a fresh one.
    pub seq: Seq,
    /// The delivery of its body.
    pub delivery: DeliveryTag,
    /// Rises with each message that is received. Messages of one connection arrive in the order in which they were sent.
    pub arrival: u64,
    /// It was delivered before: it may be stored already, and its event may be lost.
    pub redelivered: bool,
    /// A transaction with it failed in this worker, but may have been committed.
    pub attempted: bool,
    /// When a plan first held it.
    pub held_since: Option<Instant>,
}

impl Pending {
    /// A message that has just been delivered.
    #[must_use]
    pub fn new(message: Numbered, delivery: DeliveryTag, arrival: u64, redelivered: bool) -> Self {
        let seq = message.seq;
        Self { message, seq, delivery, arrival, redelivered, attempted: false, held_since: None }
    }

    /// Whether it has another sequence number than the one that its sender was told.
    #[must_use]
    pub(crate) fn is_renumbered(&self) -> bool {
        self.seq != self.message.seq
    }

    /// Whether the sequence numbers right below the message's own were never given out. False for a fresh one.
    #[must_use]
    pub(crate) fn follows_jump(&self) -> bool {
        self.message.jump && !self.is_renumbered()
    }

    /// Gives it a fresh sequence number; its time in the gap buffer restarts.
    pub(crate) fn renumber(&mut self, seq: Seq) {
        self.seq = seq;
        self.held_since = None;
    }
}
