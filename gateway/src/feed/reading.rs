//! A call of a user that reads the feed.

use shared::feed::{Cursors, Reader};
use shared::ids::UserId;

use super::heads::Newest;
use crate::budget::Payer;

/// A call that reads.
#[derive(Debug)]
pub(crate) struct Reading<'c> {
    pub(super) payer: &'c Payer,
    pub(super) user: &'c UserId,
    /// Events of a page.
    pub(super) limit: u16,
    /// How far it has read.
    pub(super) cursors: Cursors,
    /// The newest position of each shard, as far as it is known.
    pub(super) heads: Newest,
    /// What the user sees, once that is needed.
    pub(super) reader: Option<Reader>,
}

impl Reading<'_> {
    /// The newest position of `shard`.
    pub(super) fn head(&self, shard: u16) -> u64 {
        self.heads.get(&shard).copied().unwrap_or(0)
    }
}
