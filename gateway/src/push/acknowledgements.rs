//! When deliveries of the push queue are acknowledged: seldom, since each acknowledgement costs RabbitMQ and the gateway as
//! much as a small delivery. Pure.
//!
//! The queue is this connection's own and its events are hints, so a late acknowledgement has one effect only: RabbitMQ keeps
//! what was delivered a little longer.

use std::time::{Duration, Instant};

/// Unacknowledged deliveries: bounds what waits in a gateway that is slow.
pub(super) const PREFETCH: u16 = 500;
/// Half of the window, so that RabbitMQ never waits for an acknowledgement of a gateway that keeps up.
const DELIVERIES_MAX: usize = PREFETCH as usize / 2;
/// Bytes that RabbitMQ keeps for one gateway beside its queue.
const BYTES_MAX: usize = 1 << 20;
/// RabbitMQ closes a channel whose oldest delivery is unacknowledged for 30 minutes. Every process sends an event each
/// second, so that the age is looked at often.
const AGE_MAX: Duration = Duration::from_secs(60);

/// The deliveries since the last acknowledgement.
#[derive(Debug, Default)]
pub(super) struct Unacknowledged {
    deliveries: usize,
    bytes: usize,
    since: Option<Instant>,
}

impl Unacknowledged {
    /// A delivery was handled.
    pub(super) fn add(&mut self, bytes: usize, now: Instant) {
        self.deliveries += 1;
        self.bytes += bytes;
        self.since.get_or_insert(now);
    }

    /// Whether all of them are to be acknowledged now; then they no longer count.
    pub(super) fn take_due(&mut self, now: Instant) -> bool {
        let is_old = self.since.is_some_and(|since| now.duration_since(since) >= AGE_MAX);
        let is_due = is_old || self.deliveries >= DELIVERIES_MAX || self.bytes >= BYTES_MAX;
        if is_due {
            *self = Self::default();
        }
        is_due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_deliveries_many_bytes_or_an_old_one_are_acknowledged() {
        let begun = Instant::now();
        for (deliveries, bytes, age, is_due) in [
            (0, 0, Duration::from_secs(3_600), false),
            (1, 100, Duration::ZERO, false),
            (DELIVERIES_MAX - 1, 100, AGE_MAX / 2, false),
            (DELIVERIES_MAX, 100, Duration::ZERO, true),
            (4, BYTES_MAX / 4, Duration::ZERO, true),
            (1, 100, AGE_MAX, true),
        ] {
            let mut open = Unacknowledged::default();
            (0..deliveries).for_each(|_| open.add(bytes, begun));
            assert_eq!(open.take_due(begun + age), is_due, "{deliveries} of {bytes} bytes after {age:?}");
            if is_due {
                assert!(!open.take_due(begun + age), "they are acknowledged once");
            }
        }
    }
}
