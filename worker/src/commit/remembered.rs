//! What is known about conversations from earlier commits of a shard.
//!
//! Pure. An attempt uses it instead of queries, and a commit adds to it.

use std::sync::Arc;

use shared::conversation::Kind;
use shared::mysql::conversations::Head;

use super::batch::Batch;
use super::head_cache::HeadCache;
use super::permission_cache::{PermissionCache, VersionedRoster};
use super::verdict::Plan;
use super::voided_seqs::VoidedSeqs;

/// The knowledge of one shard's conversations. Losing it costs queries, and waits for sequence numbers that no message has.
#[derive(Debug, Clone, Default)]
pub(crate) struct Remembered {
    pub(super) voided: VoidedSeqs,
    pub(super) permissions: PermissionCache,
    pub(super) heads: HeadCache,
}

impl Remembered {
    /// Adds what a committed transaction has read and written.
    pub(super) fn committed(&mut self, batch: &Batch, plan: &Plan, rosters: &[Arc<VersionedRoster>]) {
        self.voided.apply(batch, plan);
        let rows = rosters.iter().zip(&plan.heads);
        for (conversation, (roster, last_seq)) in batch.conversations().zip(rows) {
            self.heads.insert(conversation, Head { last_seq: *last_seq, access_version: roster.version });
            if conversation.kind() == Kind::Group || roster.version > 0 {
                self.permissions.insert(conversation, roster);
            }
        }
    }
}
