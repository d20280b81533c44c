//! Where a sequence counter begins again that Redis has lost.

/// How far above the last committed sequence number a lost counter begins again: more than a gateway has in flight for one
/// conversation in the time that a batch takes to be committed. Should it not be enough, two messages get the same
/// number, and the worker renumbers the second one.
pub(super) const RESEED_MARGIN: u64 = 1_000;
