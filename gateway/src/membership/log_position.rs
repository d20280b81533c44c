//! The position of a reader in the list of changes.
//!
//! The ids of changes rise in the order in which transactions begin to write, not in the order of their commits. An id
//! that is skipped may still appear.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// How long a skipped id is looked for: no transaction lasts longer.
pub(super) const SKIPPED_FOR: Duration = Duration::from_secs(60);
/// Skipped ids that are looked for; of more, the lowest are dropped.
pub(super) const SKIPPED_MAX: usize = 1_000;

/// The highest id that was read, and the ids below that were not.
#[derive(Debug)]
pub(super) struct LogPosition {
    last: u64,
    skipped: BTreeMap<u64, Instant>,
}

impl LogPosition {
    /// All changes up to `last` are known or of no interest.
    pub(super) fn at(last: u64) -> Self {
        Self { last, skipped: BTreeMap::new() }
    }

    /// The highest id that was read.
    pub(super) fn last(&self) -> u64 {
        self.last
    }

    /// Ids below that may still appear.
    pub(super) fn skipped(&self) -> Vec<u64> {
        self.skipped.keys().copied().collect()
    }

    /// The change `id` was read. Ids between the last one and `id` belong to transactions that are not committed yet, or
    /// never will be.
    pub(super) fn advance(&mut self, id: u64, now: Instant) {
        self.skipped.remove(&id);
        if id <= self.last {
            return;
        }
        let first = (self.last + 1).max(id.saturating_sub(SKIPPED_MAX as u64));
        self.skipped.extend((first..id).map(|skipped| (skipped, now)));
        while self.skipped.len() > SKIPPED_MAX {
            self.skipped.pop_first();
        }
        self.last = id;
    }

    /// Drops the ids that were skipped too long ago.
    pub(super) fn expire(&mut self, now: Instant) {
        self.skipped.retain(|_, since| now.duration_since(*since) < SKIPPED_FOR);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn skipped_ids_are_looked_for_until_no_transaction_can_write_them() {
        let now = Instant::now();
        let mut position = LogPosition::at(10);
        position.advance(11, now);
        assert_eq!((position.last, position.skipped()), (11, vec![]));
        position.advance(14, now);
        assert_eq!((position.last, position.skipped()), (14, vec![12, 13]));
        position.advance(12, now);
        assert_eq!((position.last, position.skipped()), (14, vec![13]));
        position.expire(now + SKIPPED_FOR);
        assert_eq!(position.skipped(), [0; 0]);
        position.advance(1_000_000, now);
        assert_eq!(position.skipped().len(), SKIPPED_MAX, "bounded");
    }
}
