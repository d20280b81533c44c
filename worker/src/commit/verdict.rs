//! What a plan decides about the messages of a batch.

use shared::ids::Seq;
use shared::message::Numbered;
use shared::mysql::changes::ChangeWrites;
use shared::permission::Denied;

use super::batch::Batch;

/// The decision about one message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Stored: all lower sequence numbers are settled.
    Take,
    /// Stored, and the missing sequence numbers below are skipped for good.
    Jump {
        /// How many of them were waited for until the gap timeout; 0 after a marked jump.
        skipped: u64,
    },
    /// Held until a lower sequence number arrives.
    Hold,
    /// Needs a fresh sequence number above all that this worker has seen.
    Renumber,
    /// Stored already, or stored by this plan as an earlier copy.
    Known {
        /// Its final sequence number.
        stored: Seq,
    },
    /// Not stored, because it would change nothing: its sender is answered as if it were.
    Unchanged,
    /// Not stored.
    Refuse(Denied),
}

impl Verdict {
    /// The message becomes a row.
    #[must_use]
    pub fn stores(self) -> bool {
        matches!(self, Verdict::Take | Verdict::Jump { .. })
    }

    /// The missing sequence numbers below it that are skipped after the gap timeout.
    pub(crate) fn skipped(self) -> u64 {
        match self {
            Verdict::Jump { skipped } => skipped,
            _ => 0,
        }
    }

    /// No message will have this sequence number: the one that has it is not stored under it.
    #[must_use]
    pub(crate) fn voids(self) -> bool {
        matches!(self, Verdict::Known { .. } | Verdict::Renumber | Verdict::Refuse(_) | Verdict::Unchanged)
    }
}

/// The decisions about a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// One per message, in the order of the batch.
    pub verdicts: Vec<Verdict>,
    /// The last sequence number of each conversation afterwards, in the order of the batch's groups; never lower than
    /// before.
    pub heads: Vec<Seq>,
    /// What the change entries of each conversation change, in the order of the batch's groups; shorter if the last ones
    /// have none.
    pub changes: Vec<ChangeWrites>,
}

impl Plan {
    /// The messages of `batch` that are stored, each with its final sequence number.
    pub(crate) fn rows<'b>(&self, batch: &'b Batch) -> Vec<(Seq, &'b Numbered)> {
        let judged = batch.messages().iter().zip(&self.verdicts);
        let stored = judged.filter(|(_, verdict)| verdict.stores());
        stored.map(|(pending, _)| (pending.seq, &pending.message)).collect()
    }
}
