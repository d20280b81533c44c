//! What a plan decides about the messages of a batch.

use shared::ids::Seq;
use shared::permission::Denied;

/// What becomes of one message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Stored: all numbers below are settled.
    Take,
    /// Stored, and the missing numbers below are left behind for ever.
    Jump {
        /// How many of them were waited for in vain; 0 after a marked jump.
        given_up: u64,
    },
    /// Waits for a lower number.
    Hold,
    /// Needs a fresh number above everything seen here.
    Renumber,
    /// Stored already (or by this plan, as an earlier copy).
    Known {
        /// Its final number.
        stored: Seq,
    },
    /// Is not stored.
    Refuse(Denied),
}

impl Verdict {
    /// The message becomes a row.
    #[must_use]
    pub fn stores(self) -> bool {
        matches!(self, Verdict::Take | Verdict::Jump { .. })
    }

    /// The message ends, or goes on under another number: nobody else brings the one that it has.
    #[must_use]
    pub fn spends(self) -> bool {
        matches!(self, Verdict::Known { .. } | Verdict::Renumber | Verdict::Refuse(_))
    }
}

/// The outcome.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// One per message, in the order of the batch.
    pub verdicts: Vec<Verdict>,
    /// The last number of each conversation afterwards, in the order of the batch's groups; never lower than before.
    pub heads: Vec<Seq>,
}
