//! The messages of a sender between its first attempt and the reply.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use tokio::time::Instant;

use super::backoff::Backoff;

/// The state of a sender.
pub(super) struct Sending {
    /// The next message to send for the first time.
    pub(super) next: usize,
    /// Unanswered messages, and when each was first sent or due.
    pub(super) begun: BTreeMap<usize, Instant>,
    /// Messages without a reply to their last sending, and when each is sent again.
    pub(super) flights: HashMap<usize, Instant>,
    /// Messages that wait to be sent again, and from when on.
    pub(super) again: BTreeSet<(Instant, usize)>,
    /// Its rate while the gateway refuses.
    pub(super) backoff: Backoff,
    /// The pause before the next connection, if the gateway named one.
    pub(super) reconnect_after: Option<Duration>,
    /// When a message was acknowledged last.
    pub(super) last_success: Instant,
}
