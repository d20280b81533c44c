//! Whether a consumer that receives nothing is broken. Pure.
//!
//! A queue that was deleted and declared again at once may have no consumer, or one whose deliveries get lost in the
//! broker (they count as delivered, so the queue looks empty), and its worker is not always told. So an idle consumer
//! looks at its queue, and publishes an empty batch to it, which it must receive.

use std::time::{Duration, Instant};

/// How often the queue is looked at while nothing is delivered.
pub(crate) const LOOK_INTERVAL: Duration = Duration::from_secs(2);
/// A consumer that received nothing for this long publishes a probe.
const PROBE_AFTER: Duration = Duration::from_secs(5);
/// A consumer is broken if it gets nothing for this long although messages are ready or a probe was published.
const SILENCE_MAX: Duration = Duration::from_secs(5);
/// The same for one that has not received anything yet: it may wait for the queue's active consumer to end.
const SILENCE_MAX_BEFORE_FIRST: Duration = Duration::from_secs(30);

/// What one look at the queue says about the consumer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Finding {
    /// Nothing is expected.
    Idle,
    /// A probe is to be published.
    Probe,
    /// A delivery is expected.
    Waiting,
    /// The consumer is broken.
    Broken,
}

/// The watchdog of one consumer.
#[derive(Debug)]
pub(crate) struct Watchdog {
    has_received: bool,
    /// The last delivery, or the beginning.
    idle_since: Instant,
    /// Since when a delivery is expected.
    expected_since: Option<Instant>,
}

impl Watchdog {
    /// The watchdog of a new consumer.
    #[must_use]
    pub(crate) fn new(now: Instant) -> Self {
        Self { has_received: false, idle_since: now, expected_since: None }
    }

    /// Something was delivered.
    pub(crate) fn delivered(&mut self, now: Instant) {
        *self = Self { has_received: true, ..Self::new(now) };
    }

    /// Nothing can be delivered at present.
    pub(crate) fn pause(&mut self, now: Instant) {
        (self.idle_since, self.expected_since) = (now, None);
    }

    /// A probe was published.
    pub(crate) fn probed(&mut self, now: Instant) {
        self.expected_since.get_or_insert(now);
    }

    /// The queue has `ready` messages and `consumers`, and nothing was delivered since the last look.
    pub(crate) fn look(&mut self, ready: u32, consumers: u32, now: Instant) -> Finding {
        if consumers == 0 {
            return Finding::Broken;
        }
        if ready > 0 {
            self.expected_since.get_or_insert(now);
        }
        match self.expected_since {
            Some(since) => {
                let max = if self.has_received { SILENCE_MAX } else { SILENCE_MAX_BEFORE_FIRST };
                if now.duration_since(since) >= max { Finding::Broken } else { Finding::Waiting }
            }
            None if now.duration_since(self.idle_since) >= PROBE_AFTER => Finding::Probe,
            None => Finding::Idle,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_consumer_is_broken_if_it_gets_nothing_although_something_was_published() {
        let begun = Instant::now();
        let at = |at_s: u64| begun + Duration::from_secs(at_s);
        let mut watchdog = Watchdog::new(begun);
        assert_eq!(watchdog.look(5, 2, at(0)), Finding::Waiting, "another consumer may be active");
        assert_eq!(watchdog.look(0, 2, at(29)), Finding::Waiting);
        assert_eq!(watchdog.look(5, 2, at(30)), Finding::Broken);
        watchdog.delivered(at(31));
        assert_eq!(watchdog.look(5, 1, at(40)), Finding::Waiting);
        assert_eq!(watchdog.look(5, 1, at(44)), Finding::Waiting);
        assert_eq!(watchdog.look(5, 1, at(45)), Finding::Broken);
        watchdog.pause(at(46));
        assert_eq!(watchdog.look(0, 0, at(46)), Finding::Broken, "it does not consume this queue");
    }

    #[test]
    fn an_idle_consumer_sends_a_probe_and_is_broken_if_it_does_not_get_it() {
        let begun = Instant::now();
        let at = |at_s: u64| begun + Duration::from_secs(at_s);
        let mut watchdog = Watchdog::new(begun);
        assert_eq!(watchdog.look(0, 1, at(4)), Finding::Idle);
        assert_eq!(watchdog.look(0, 1, at(5)), Finding::Probe);
        assert_eq!(watchdog.look(0, 1, at(7)), Finding::Probe, "it could not be published");
        watchdog.probed(at(7));
        watchdog.delivered(at(7));
        assert_eq!(watchdog.look(0, 1, at(9)), Finding::Idle);
        watchdog.probed(at(12));
        assert_eq!(watchdog.look(0, 1, at(16)), Finding::Waiting, "the queue looks empty");
        assert_eq!(watchdog.look(0, 1, at(17)), Finding::Broken);
    }
}
