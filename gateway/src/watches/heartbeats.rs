//! Which gateways are alive, by the heartbeats that a watcher sees in the liveness registry.
//!
//! A heartbeat counts from the moment at which it was seen, by the watcher's own clock, so that no two clocks are compared.

use std::time::{Duration, Instant};

use ahash::AHashMap;

/// A gateway without a new heartbeat for this long is dead. They come every two seconds.
pub(super) const DEAD_AFTER: Duration = Duration::from_secs(6);
/// One whose entry goes after a silence as long as this has died; earlier, it has stopped in order.
const LEFT_BEFORE: Duration = Duration::from_secs(4);

/// The heartbeats of all gateways.
#[derive(Debug, Default)]
pub(super) struct Heartbeats {
    gateways: AHashMap<u64, Gateway>,
}

#[derive(Debug, Clone, Copy)]
struct Gateway {
    /// Of its last heartbeat, by the clock of Redis.
    time: f64,
    /// When that heartbeat was first seen.
    seen: Instant,
    /// When its entry was found missing.
    missing: Option<Instant>,
}

impl Heartbeats {
    /// The registry has these entries: gateways, each with the time of its last heartbeat.
    pub(super) fn read(&mut self, entries: &[(u64, f64)], now: Instant) {
        for gateway in self.gateways.values_mut() {
            gateway.missing.get_or_insert(now);
        }
        for (id, time) in entries {
            let gateway =
                self.gateways.entry(*id).or_insert(Gateway { time: *time, seen: now, missing: None });
            if (gateway.time - time).abs() > f64::EPSILON {
                (gateway.time, gateway.seen) = (*time, now);
            }
            gateway.missing = None;
        }
        // Long enough that every watched user of a dead gateway was told about.
        self.gateways.retain(|_, gateway| now.duration_since(gateway.seen) < DEAD_AFTER * 10);
    }

    /// Nothing could be read for a while: what was not seen meanwhile may have happened all the same.
    pub(super) fn unknown_until(&mut self, now: Instant) {
        for gateway in self.gateways.values_mut() {
            gateway.seen = now;
        }
    }

    pub(super) fn is_alive(&self, id: u64, now: Instant) -> bool {
        self.gateways
            .get(&id)
            .is_some_and(|gateway| gateway.missing.is_none() && now.duration_since(gateway.seen) < DEAD_AFTER)
    }

    /// When the gateway was last known to be alive, if it has died: its users went then, and not when that was noticed.
    pub(super) fn died(&self, id: u64, now: Instant) -> Option<Instant> {
        let gateway = self.gateways.get(&id).filter(|_| !self.is_alive(id, now))?;
        match gateway.missing {
            Some(missing) if missing.duration_since(gateway.seen) < LEFT_BEFORE => Some(missing),
            _ => Some(gateway.seen),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(start: Instant, ms: u64) -> Instant {
        start + Duration::from_millis(ms)
    }

    #[test]
    fn a_gateway_without_heartbeats_is_dead_since_the_last_one() {
        let (mut beats, start) = (Heartbeats::default(), Instant::now());
        for second in 0..=4 {
            beats.read(
                &[(1, f64::from(second / 2)), (2, f64::from(second))],
                after(start, 1_000 * second as u64),
            );
        }
        let now = after(start, 9_000);
        beats.read(&[(1, 2.0), (2, 9.0)], now);
        assert!(beats.is_alive(1, now), "its last heartbeat was seen 5 s ago");
        let now = after(start, 10_000);
        beats.read(&[(1, 2.0), (2, 9.0)], now);
        assert_eq!((beats.is_alive(1, now), beats.is_alive(2, now)), (false, true));
        assert_eq!(beats.died(1, now), Some(after(start, 4_000)));
        assert_eq!((beats.died(2, now), beats.died(3, now)), (None, None));
    }

    #[test]
    fn an_entry_that_is_removed_early_is_of_a_gateway_that_stopped_in_order() {
        let (mut beats, start) = (Heartbeats::default(), Instant::now());
        beats.read(&[(1, 1.0), (2, 1.0)], start);
        beats.read(&[(2, 1.0)], after(start, 1_000));
        let now = after(start, 5_000);
        beats.read(&[], now);
        assert_eq!(beats.died(1, now), Some(after(start, 1_000)), "when it was missed");
        assert_eq!(beats.died(2, now), Some(start), "it had expired");
        beats.read(&[(1, 5.0)], now);
        assert!(beats.is_alive(1, now), "it is back");
    }

    #[test]
    fn after_a_time_without_readings_nobody_is_dead() {
        let (mut beats, start) = (Heartbeats::default(), Instant::now());
        beats.read(&[(1, 1.0)], start);
        let now = after(start, 60_000 - 1);
        assert!(!beats.is_alive(1, now));
        beats.unknown_until(now);
        beats.read(&[(1, 1.0)], now);
        assert!(beats.is_alive(1, now));
        beats.read(&[], after(start, 200_000));
        assert!(beats.gateways.is_empty(), "those that are gone for long are forgotten");
    }
}
