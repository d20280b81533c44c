//! Whether an event was lost. Pure: it sees only the headers of the batches that this gateway receives.
//!
//! Each batch has a sequence number in its stream, and an idle stream repeats its last number each second (a beacon), so
//! a batch that was lost on its way shows as a gap. A stream has two sequences that matter here: of the batches for all
//! gateways, and of those for this gateway alone; a beacon has the last number of both. What a gap cannot show is the last
//! batch of a stream whose source was killed. Therefore a worker that releases a shard in order ends its stream with a
//! mark, which every gateway receives before anything that the next owner commits. When a second stream speaks for a shard:
//!
//! | the earlier stream | |
//! |---|---|
//! | has ended, and nothing before the end is missing | nothing was lost |
//! | is still heard: two workers overlap for a moment, in whatever order their batches arrive | nothing was lost so far |
//! | is silent for [`SILENCE`] and has not ended: killed, stuck, or of a version that does not know the mark | its last events may be lost |
//!
//! The second stream's own beginning is checked like any other: its first batch must be number 1, or a beacon of 0.

use std::fmt;
use std::time::{Duration, Instant};

use ahash::AHashMap;

/// For this long after the queue was bound, a stream may be met in the middle: every stream repeats its number each second.
const GRACE: Duration = Duration::from_secs(5);
/// A stream that missed three beacons is silent.
const SILENCE: Duration = Duration::from_secs(3);
/// A stream that speaks for no shard, or has ended, is forgotten after this long without a batch.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(120);
/// Streams remembered before those to be forgotten are looked for.
const REMEMBERED_MIN: usize = 64;

/// What a batch says about its stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) stream: u64,
    /// `None`: a gateway's own stream, which has no successor.
    pub(super) shard: Option<u32>,
    /// Sequence number of the batch, if it is for all gateways; a beacon and an end repeat that of the last batch.
    pub(super) to_all: Option<u64>,
    /// The same in the sequence for this gateway alone. A beacon has none of a stream without batches for it.
    pub(super) to_this: Option<u64>,
    pub(super) kind: Kind,
}

/// What a batch is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Events,
    Beacon,
    End,
}

/// Why events may be lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Loss {
    /// Batches of this stream are missing, the first and the last of them included.
    Gap { first: u64, last: u64 },
    /// An earlier stream of the same shard fell silent without an end.
    BrokenOff { stream: u64 },
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gap { first, last } if first == last => write!(f, "batch {first} is missing"),
            Self::Gap { first, last } => write!(f, "batches {first} to {last} are missing"),
            Self::BrokenOff { stream } => {
                write!(f, "the previous owner's stream {stream:016x} fell silent without an end")
            }
        }
    }
}

#[derive(Debug)]
struct Stream {
    /// The highest sequence number heard of the batches for all, and of those for this gateway alone. `None`: none yet.
    last: [Option<u64>; 2],
    heard: Instant,
    shard: Option<u32>,
    ended: bool,
}

/// The last sequence number of each stream, and the streams that speak for each shard.
#[derive(Debug)]
pub(super) struct StreamNumbers {
    bound: Instant,
    streams: AHashMap<u64, Stream>,
    /// The streams of each shard that have not ended, without those whose silence was reported.
    open: AHashMap<u32, Vec<u64>>,
    /// The number of streams at which the old ones are removed.
    forget_at: usize,
}

impl StreamNumbers {
    /// Of a queue that was bound at `now`.
    pub(super) fn new(now: Instant) -> Self {
        Self { bound: now, streams: AHashMap::new(), open: AHashMap::new(), forget_at: REMEMBERED_MIN }
    }

    /// Records a batch. Reports each loss once, one at a time.
    pub(super) fn heard(&mut self, batch: Header, now: Instant) -> Option<Loss> {
        let gap = self.gap(batch, now);
        if let Some(shard) = batch.shard {
            self.update_open(shard, batch.stream);
        }
        if self.streams.len() > self.forget_at {
            self.forget(now);
        }
        gap.or_else(|| self.broken_off(batch.shard?, batch.stream, now))
    }

    /// Batches of the same stream that were not heard.
    fn gap(&mut self, batch: Header, now: Instant) -> Option<Loss> {
        let Header { stream, shard, to_all, to_this, kind } = batch;
        let is_new_queue = now.duration_since(self.bound) <= GRACE;
        let known = Stream { last: [None; 2], heard: now, shard, ended: false };
        let known = self.streams.entry(stream).or_insert(known);
        // A batch that arrives behind the end of its stream was reported missing, and leaves the stream ended.
        (known.heard, known.ended) = (now, known.ended || kind == Kind::End);
        let mut gap = None;
        for (last, seq) in known.last.iter_mut().zip([to_all, to_this]) {
            let Some(seq) = seq else { continue };
            // The sequence number that must have been heard before this batch.
            let before = if kind == Kind::Events { seq.saturating_sub(1) } else { seq };
            let heard = last.unwrap_or(0);
            let is_met_in_the_middle = last.is_none() && is_new_queue;
            if heard < before && !is_met_in_the_middle {
                gap = gap.or(Some(Loss::Gap { first: heard + 1, last: before }));
            }
            *last = Some(heard.max(seq));
        }
        gap
    }

    /// A stream that speaks is open until it has ended, also after its silence was reported.
    fn update_open(&mut self, shard: u32, heard: u64) {
        let ended = self.streams.get(&heard).is_some_and(|known| known.ended);
        let open = self.open.entry(shard).or_default();
        match open.iter().position(|stream| *stream == heard) {
            Some(at) if ended => drop(open.swap_remove(at)),
            None if !ended => open.push(heard),
            Some(_) | None => {}
        }
    }

    /// Another open stream of the same shard that is silent.
    fn broken_off(&mut self, shard: u32, heard: u64, now: Instant) -> Option<Loss> {
        let open = self.open.get_mut(&shard)?;
        let is_silent = |stream: &u64| {
            let last_heard = self.streams.get(stream).map_or(self.bound, |known| known.heard);
            *stream != heard && now.duration_since(last_heard) >= SILENCE
        };
        let at = open.iter().position(is_silent)?;
        Some(Loss::BrokenOff { stream: open.swap_remove(at) })
    }

    fn forget(&mut self, now: Instant) {
        let open = &self.open;
        self.streams.retain(|stream, known| {
            // A stream that broke off is remembered until another one speaks for its shard.
            let is_open =
                known.shard.and_then(|shard| open.get(&shard)).is_some_and(|open| open.contains(stream));
            is_open || now.duration_since(known.heard) < FORGOTTEN_AFTER
        });
        self.forget_at = REMEMBERED_MIN.max(self.streams.len() * 2);
    }
}

#[cfg(test)]
mod tests;
