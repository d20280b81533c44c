//! Whether an event was lost: pure bookkeeping of stream numbers.

use std::time::{Duration, Instant};

use ahash::AHashMap;

/// So long after the queue was bound, a stream may be met in the middle: every stream says its number each second.
const GRACE: Duration = Duration::from_secs(5);
/// A stream that was not heard of for so long has ended.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(120);

/// The last number heard of each stream.
#[derive(Debug)]
pub(super) struct StreamNumbers {
    bound: Instant,
    last: AHashMap<u64, (u64, Instant)>,
    /// The stream that speaks for each shard.
    speaker: AHashMap<u32, u64>,
}

impl StreamNumbers {
    /// A queue that was bound at `now`.
    pub(super) fn new(now: Instant) -> Self {
        Self { bound: now, last: AHashMap::new(), speaker: AHashMap::new() }
    }

    /// Notes that `stream` speaks for `shard`. True if another one did before: a worker that died may have taken its last
    /// events with it.
    pub(super) fn speaks(&mut self, stream: u64, shard: u32) -> bool {
        self.speaker.insert(shard, stream).is_some_and(|before| before != stream)
    }

    /// Notes a batch, or a beacon, which repeats the number of the last batch. True if something before it was lost.
    pub(super) fn heard(&mut self, stream: u64, number: u64, is_beacon: bool, now: Instant) -> bool {
        // The number that must have been heard before this one.
        let before = if is_beacon { number } else { number.saturating_sub(1) };
        let lost = match self.last.get(&stream) {
            Some((last, _)) => *last < before,
            None => before > 0 && now.duration_since(self.bound) > GRACE,
        };
        let entry = self.last.entry(stream).or_insert((number, now));
        *entry = (entry.0.max(number), now);
        if self.last.len() > 64 {
            self.last.retain(|_, (_, heard)| now.duration_since(*heard) < FORGOTTEN_AFTER);
        }
        lost
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BATCH: bool = false;
    const BEACON: bool = true;

    #[test]
    fn rising_numbers_are_whole_and_a_gap_is_told_once() {
        let start = Instant::now();
        let mut numbers = StreamNumbers::new(start);
        let later = start + GRACE * 2;
        assert!(!numbers.heard(7, 1, BATCH, later));
        assert!(!numbers.heard(7, 2, BATCH, later));
        assert!(!numbers.heard(7, 2, BEACON, later));
        assert!(numbers.heard(7, 4, BATCH, later), "3 is missing");
        assert!(!numbers.heard(7, 5, BATCH, later));
        assert!(numbers.heard(7, 6, BEACON, later), "the last one before a silence is missing");
        assert!(!numbers.heard(7, 7, BATCH, later));
        assert!(!numbers.heard(7, 7, BATCH, later), "a repetition loses nothing");
    }

    #[test]
    fn a_shard_that_changes_hands_may_have_lost_events() {
        let mut numbers = StreamNumbers::new(Instant::now());
        assert!(!numbers.speaks(7, 0));
        assert!(!numbers.speaks(7, 0));
        assert!(!numbers.speaks(8, 1));
        assert!(numbers.speaks(9, 0));
        assert!(!numbers.speaks(9, 0));
    }

    #[test]
    fn a_stream_may_be_met_in_the_middle_only_right_after_the_binding() {
        let start = Instant::now();
        let mut numbers = StreamNumbers::new(start);
        assert!(!numbers.heard(1, 40, BATCH, start + GRACE / 2));
        assert!(!numbers.heard(2, 40, BEACON, start + GRACE / 2));
        assert!(numbers.heard(3, 2, BATCH, start + GRACE * 2));
        assert!(numbers.heard(4, 1, BEACON, start + GRACE * 2));
        assert!(!numbers.heard(5, 1, BATCH, start + GRACE * 2));
        assert!(!numbers.heard(6, 0, BEACON, start + GRACE * 2));
    }
}
