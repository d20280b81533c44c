//! A message between its delivery and its end.

use std::time::Instant;

use shared::ids::Seq;
use shared::message::Numbered;

/// Which delivery of the current channel brought a message, as the broker numbers them: from 1, rising.
pub type DeliveryTag = u64;

/// A message that is not settled yet, with everything the rules ask about it.
#[derive(Debug, Clone)]
pub struct Pending {
    /// As delivered. Its `seq` is the number that its sender was told.
    pub message: Numbered,
    /// The number under which it is to be stored: the one it brought, or a fresh one.
    pub seq: Seq,
    /// Acknowledged when everything that it brought is settled.
    pub delivery: DeliveryTag,
    /// Rises with every message that this worker receives: what was sent later on one connection arrives later.
    pub arrival: u64,
    /// The broker says that it was delivered before: it may be stored, and its event may be lost.
    pub redelivered: bool,
    /// A transaction with it failed here, and may have been committed all the same.
    pub attempted: bool,
    /// When a plan first left it waiting for a lower number.
    pub held_since: Option<Instant>,
}

impl Pending {
    /// Just delivered.
    #[must_use]
    pub fn new(message: Numbered, delivery: DeliveryTag, arrival: u64, redelivered: bool) -> Self {
        let seq = message.seq;
        Self { message, seq, delivery, arrival, redelivered, attempted: false, held_since: None }
    }

    /// Has another number than the one its sender was told.
    #[must_use]
    pub fn is_renumbered(&self) -> bool {
        self.seq != self.message.seq
    }

    /// The numbers right below it were never given out. Says nothing about a fresh number.
    #[must_use]
    pub fn follows_jump(&self) -> bool {
        self.message.jump && !self.is_renumbered()
    }

    /// Gives it a fresh number, to be waited for anew.
    pub fn renumber(&mut self, seq: Seq) {
        self.seq = seq;
        self.held_since = None;
    }
}
