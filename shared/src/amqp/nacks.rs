//! What to do about a broker that refuses one batch after the other. Pure.
//!
//! A refusal (nack) may mean that the queue is at its limit. It may also mean that this channel, or this connection, does
//! not reach the queue: after the node of a quorum queue's leader is lost, a channel can refuse every publish until that
//! node is back, while other channels work. So the channel is given up, then the connection; only what is refused on a new
//! connection is refused by the queue.

use std::time::{Duration, Instant};

/// How long nothing but refusals may come before the next remedy.
const PATIENCE: Duration = Duration::from_secs(1);
/// How often a connection is given up for a queue that refuses for longer.
const AGAIN: Duration = Duration::from_secs(30);

/// The consequence of a refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Remedy {
    /// The next batch is published on the same channel.
    None,
    /// The channel is given up.
    Channel,
    /// The connection is given up.
    Connection,
}

/// The refusals since the last success.
#[derive(Debug, Default)]
pub(super) struct Nacks {
    /// The first one since the last remedy.
    since: Option<Instant>,
    /// The last remedy.
    tried: Option<Remedy>,
}

impl Nacks {
    /// The broker has confirmed a batch.
    pub(super) fn confirmed(&mut self) {
        *self = Self::default();
    }

    /// The broker has refused a batch. Returns what to do.
    pub(super) fn refused(&mut self, now: Instant) -> Remedy {
        let since = *self.since.get_or_insert(now);
        let patience = if self.is_full() { AGAIN } else { PATIENCE };
        if now.duration_since(since) < patience {
            return Remedy::None;
        }
        let remedy = if self.tried.is_none() { Remedy::Channel } else { Remedy::Connection };
        (self.since, self.tried) = (None, Some(remedy));
        remedy
    }

    /// Whether batches are refused on a new connection too: the queue is at its limit, or has no leader.
    pub(super) fn is_full(&self) -> bool {
        self.tried == Some(Remedy::Connection)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_channel_is_given_up_then_the_connection_and_then_the_queue_is_full() {
        let begun = Instant::now();
        let mut nacks = Nacks::default();
        for (at_ms, remedy, is_full) in [
            (0, Remedy::None, false),
            (900, Remedy::None, false),
            (1_000, Remedy::Channel, false),
            (1_100, Remedy::None, false),
            (2_000, Remedy::None, false),
            (2_100, Remedy::Connection, true),
            (2_200, Remedy::None, true),
            (9_000, Remedy::None, true),
            (32_200, Remedy::Connection, true),
        ] {
            let now = begun + Duration::from_millis(at_ms);
            assert_eq!((nacks.refused(now), nacks.is_full()), (remedy, is_full), "after {at_ms} ms");
        }
        nacks.confirmed();
        let now = begun + Duration::from_secs(40);
        assert_eq!((nacks.refused(now), nacks.is_full()), (Remedy::None, false));
    }
}
