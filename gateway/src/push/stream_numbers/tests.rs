use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

/// A batch of `stream`, heard `at` milliseconds after the queue was bound.
#[derive(Debug, Clone, Copy)]
struct Heard(u64, u64, Kind, u64);

const AFTER_GRACE: u64 = 6_000;

fn header(Heard(_, stream, kind, seq): Heard) -> Header {
    // Streams below 100 speak for shard 0, the others for none.
    Header { stream, shard: (stream < 100).then_some(0), to_all: Some(seq), to_this: None, kind }
}

/// The places in the list at which a loss is reported, with the loss.
fn losses(heard: &[Heard]) -> Vec<(usize, Loss)> {
    let bound = Instant::now();
    let mut numbers = StreamNumbers::new(bound);
    let report = |(at, one): (usize, &Heard)| {
        numbers.heard(header(*one), bound + Duration::from_millis(one.0)).map(|loss| (at, loss))
    };
    heard.iter().enumerate().filter_map(report).collect()
}

fn gap(at: usize, first: u64, last: u64) -> (usize, Loss) {
    (at, Loss::Gap { first, last })
}

fn broken_off(at: usize, stream: u64) -> (usize, Loss) {
    (at, Loss::BrokenOff { stream })
}

use Kind::{Beacon, End, Events};

#[test]
fn a_gap_in_one_stream_is_reported_once() {
    let later = AFTER_GRACE;
    let heard = [
        Heard(later, 7, Events, 1),
        Heard(later, 7, Events, 2),
        Heard(later, 7, Beacon, 2),
        Heard(later, 7, Events, 4),
        Heard(later, 7, Events, 5),
        Heard(later, 7, Beacon, 6),
        Heard(later, 7, Events, 7),
        Heard(later, 7, Events, 7),
        Heard(later, 7, End, 9),
    ];
    assert_eq!(losses(&heard), [gap(3, 3, 3), gap(5, 6, 6), gap(8, 8, 9)]);
}

#[test]
fn a_stream_that_starts_in_the_middle_is_complete_only_right_after_the_binding() {
    for (at, stream, kind, seq, expected) in [
        (GRACE.as_millis() / 2, 1, Events, 40, None),
        (GRACE.as_millis() / 2, 1, Beacon, 40, None),
        (GRACE.as_millis() / 2, 1, End, 40, None),
        (GRACE.as_millis() * 2, 1, Events, 2, Some(1)),
        (GRACE.as_millis() * 2, 1, Beacon, 1, Some(1)),
        (GRACE.as_millis() * 2, 1, End, 1, Some(1)),
        (GRACE.as_millis() * 2, 1, Events, 1, None),
        (GRACE.as_millis() * 2, 1, Beacon, 0, None),
        (GRACE.as_millis() * 2, 1, End, 0, None),
    ] {
        let heard = [Heard(u64::try_from(at).unwrap(), stream, kind, seq)];
        let expected: Vec<_> = expected.iter().map(|last| gap(0, 1, *last)).collect();
        assert_eq!(losses(&heard), expected, "{heard:?}");
    }
}

#[test]
fn batches_for_this_gateway_alone_have_a_sequence_of_their_own() {
    let bound = Instant::now();
    let of = |to_all, to_this, kind| Header { stream: 1, shard: Some(0), to_all, to_this, kind };
    let losses = |after_ms: u64, heard: &[Header]| {
        let mut numbers = StreamNumbers::new(bound);
        let now = bound + Duration::from_millis(after_ms);
        heard.iter().map(|batch| numbers.heard(*batch, now)).collect::<Vec<_>>()
    };
    let lost = |first, last| Some(Loss::Gap { first, last });
    let heard = [
        of(Some(1), None, Events),
        of(None, Some(1), Events),
        of(None, Some(2), Events),
        of(Some(2), None, Events),
        of(Some(2), Some(2), Beacon),
        of(None, Some(4), Events),
        of(Some(3), Some(5), Beacon),
        of(Some(3), None, Beacon),
        of(Some(3), Some(6), End),
    ];
    let expected = [None, None, None, None, None, lost(3, 3), lost(3, 3), None, lost(6, 6)];
    assert_eq!(losses(AFTER_GRACE, &heard), expected, "a beacon with two gaps reports one");
    let first = [of(None, Some(1), Events), of(Some(1), None, Events), of(Some(1), Some(1), Beacon)];
    assert_eq!(losses(AFTER_GRACE, &first), [None; 3]);
    let in_the_middle = [of(Some(8), None, Beacon), of(None, Some(4), Events), of(Some(9), None, Events)];
    assert_eq!(losses(300, &in_the_middle), [None; 3], "the queue is new");
    assert_eq!(losses(AFTER_GRACE, &in_the_middle[1..]), [lost(1, 3), lost(1, 8)]);
    assert_eq!(losses(AFTER_GRACE, &[of(Some(0), Some(1), Beacon)]), [lost(1, 1)], "the first one was lost");
}

/// What is heard of the streams of one shard, and where a loss is due.
type Case<'c> = (&'c str, &'c [Heard], &'c [(usize, Loss)]);

#[test]
fn a_shard_that_moves_loses_events_only_if_its_previous_stream_broke_off() {
    let t = AFTER_GRACE;
    let cases: &[Case<'_>] = &[
        (
            "in order",
            &[Heard(t, 1, Events, 1), Heard(t, 1, End, 1), Heard(t, 2, Beacon, 0), Heard(t, 2, Events, 1)],
            &[],
        ),
        (
            "the new owner subscribes before the old one has ended",
            &[
                Heard(t, 1, Events, 1),
                Heard(t, 2, Beacon, 0),
                Heard(t + 10, 1, Events, 2),
                Heard(t + 20, 1, End, 2),
                Heard(t + 30, 2, Events, 1),
            ],
            &[],
        ),
        (
            "batches of the new owner overtake the end of the old one",
            &[
                Heard(t, 1, Events, 1),
                Heard(t + 10, 2, Events, 1),
                Heard(t + 20, 2, Events, 2),
                Heard(t + 30, 1, Events, 2),
                Heard(t + 40, 1, End, 2),
                Heard(t + 9_000, 2, Beacon, 2),
            ],
            &[],
        ),
        (
            "the last batch before the end is missing",
            &[Heard(t, 1, Events, 1), Heard(t, 1, End, 2), Heard(t, 2, Events, 1)],
            &[gap(1, 2, 2)],
        ),
        (
            "a batch behind the end of its stream was reported, and opens nothing",
            &[
                Heard(t, 1, Events, 1),
                Heard(t, 1, End, 2),
                Heard(t, 1, Events, 2),
                Heard(t + 9_000, 2, Events, 1),
            ],
            &[gap(1, 2, 2)],
        ),
        (
            "the old owner was killed, and the new one takes over after its heartbeat has expired",
            &[Heard(t, 1, Events, 1), Heard(t + 4_000, 2, Beacon, 0), Heard(t + 5_000, 2, Beacon, 0)],
            &[broken_off(1, 1)],
        ),
        (
            "the old owner was killed, and the new one takes over at once",
            &[
                Heard(t, 1, Events, 1),
                Heard(t + 500, 2, Events, 1),
                Heard(t + 2_900, 2, Events, 2),
                Heard(t + 3_100, 2, Events, 3),
                Heard(t + 3_200, 2, Events, 4),
            ],
            &[broken_off(3, 1)],
        ),
        (
            "the new owner began, and events of it are missing",
            &[Heard(t, 1, End, 0), Heard(t, 2, Events, 2)],
            &[gap(1, 1, 1)],
        ),
        (
            "two killed owners in a row",
            &[
                Heard(t, 1, Events, 1),
                Heard(t + 4_000, 2, Events, 1),
                Heard(t + 8_000, 3, Events, 1),
                Heard(t + 12_000, 3, Beacon, 1),
            ],
            &[broken_off(1, 1), broken_off(2, 2)],
        ),
        (
            "a killed owner and an orderly one before anybody hears the next",
            &[Heard(t, 1, Events, 1), Heard(t + 10, 2, End, 0), Heard(t + 9_000, 3, Beacon, 0)],
            &[broken_off(2, 1)],
        ),
        (
            "nobody takes over for a long time",
            &[Heard(t, 1, Events, 1), Heard(t + 900_000, 2, Beacon, 0)],
            &[broken_off(1, 1)],
        ),
        (
            "a frozen owner wakes up after the other one took over, and ends in order",
            &[
                Heard(t, 1, Events, 1),
                Heard(t + 4_000, 2, Events, 1),
                Heard(t + 6_500, 2, Beacon, 1),
                Heard(t + 9_000, 1, Events, 2),
                Heard(t + 9_100, 2, Events, 2),
                Heard(t + 9_200, 1, End, 2),
                Heard(t + 20_000, 2, Beacon, 2),
            ],
            &[broken_off(1, 1)],
        ),
        (
            "a frozen owner wakes up, and is killed",
            &[
                Heard(t, 1, Events, 1),
                Heard(t + 4_000, 2, Events, 1),
                Heard(t + 6_500, 2, Beacon, 1),
                Heard(t + 9_000, 1, Events, 2),
                Heard(t + 9_900, 2, Beacon, 1),
                Heard(t + 13_000, 2, Beacon, 1),
            ],
            &[broken_off(1, 1), broken_off(5, 1)],
        ),
        (
            "two workers that both believe to own the shard, for as long as Redis is unavailable",
            &[
                Heard(t, 1, Beacon, 0),
                Heard(t + 500, 2, Events, 1),
                Heard(t + 1_000, 1, Beacon, 0),
                Heard(t + 1_500, 2, Events, 2),
                Heard(t + 2_000, 1, Beacon, 0),
                Heard(t + 2_500, 2, Events, 3),
                Heard(t + 3_000, 1, Beacon, 0),
                Heard(t + 3_500, 2, Events, 4),
                Heard(t + 4_000, 1, Beacon, 0),
                Heard(t + 4_500, 2, Events, 5),
            ],
            &[],
        ),
        (
            "streams of gateways have no successor",
            &[Heard(t, 100, Events, 1), Heard(t + 9_000, 101, Events, 1), Heard(t + 9_000, 102, Beacon, 0)],
            &[],
        ),
        (
            "this gateway was bound after the old owner had ended",
            &[Heard(300, 2, Events, 17), Heard(400, 2, Events, 18)],
            &[],
        ),
    ];
    for (name, heard, expected) in cases {
        assert_eq!(losses(heard), *expected, "{name}");
    }
}

#[test]
fn old_streams_are_forgotten_and_those_that_broke_off_are_not() {
    let bound = Instant::now();
    let mut numbers = StreamNumbers::new(bound);
    numbers.heard(header(Heard(0, 1, Events, 1)), bound);
    for n in 0..10_000 {
        let now = bound + Duration::from_secs(n);
        numbers.heard(Header { stream: 1_000 + n, shard: None, ..header(Heard(0, 1, Beacon, 0)) }, now);
    }
    assert!(numbers.streams.len() <= 4 * 120, "{}", numbers.streams.len());
    let loss = numbers.heard(header(Heard(0, 2, Beacon, 0)), bound + Duration::from_secs(10_000));
    assert_eq!(loss, Some(Loss::BrokenOff { stream: 1 }));
}

/// What becomes of the owner of a shard.
#[derive(Debug, Clone, Copy)]
struct Owner {
    batches: u64,
    /// The last batch before its end is lost on its way.
    loses_last: bool,
    /// Killed instead of ending in order.
    is_killed: bool,
    /// How long its successor speaks before it ends, in milliseconds.
    overlap_ms: u64,
}

fn owner() -> impl Strategy<Value = Owner> {
    (0u64..6, prop::bool::weighted(0.2), prop::bool::weighted(0.2), 0u64..900).prop_map(
        |(batches, loses_last, is_killed, overlap_ms)| Owner { batches, loses_last, is_killed, overlap_ms },
    )
}

/// What a gateway hears of these owners, one after the other, each with a batch or a beacon every 300 ms.
fn history(owners: &[Owner]) -> Vec<Heard> {
    let mut heard = Vec::new();
    let mut begin = AFTER_GRACE;
    for (stream, owner) in (1..).zip(owners) {
        let mut now = begin;
        heard.push(Heard(now, stream, Beacon, 0));
        for seq in 1..=owner.batches {
            now += 300;
            let is_lost = owner.loses_last && seq == owner.batches;
            if !is_lost {
                heard.push(Heard(now, stream, Events, seq));
            }
        }
        if !owner.is_killed {
            now += 100;
            heard.push(Heard(now, stream, End, owner.batches));
        }
        begin = now.saturating_sub(owner.overlap_ms).max(begin);
    }
    // The last one goes on for a while.
    let last = owners.len() as u64 + 1;
    heard.extend((0..8).map(|n| Heard(begin + n * 1_000, last, Beacon, 0)));
    heard.sort_by_key(|one| one.0);
    heard
}

proptest! {
    /// Streams arrive each in its own order, and overlap in time.
    #[test]
    fn a_loss_is_reported_for_exactly_the_affected_streams(
        owners in proptest::collection::vec(owner(), 0..6),
    ) {
        let mut reported: BTreeMap<u64, usize> = BTreeMap::new();
        let heard = history(&owners);
        for (at, loss) in losses(&heard) {
            let stream = match loss {
                Loss::Gap { .. } => heard[at].1,
                Loss::BrokenOff { stream } => stream,
            };
            *reported.entry(stream).or_default() += 1;
        }
        let expected: BTreeMap<u64, usize> = (1..)
            .zip(&owners)
            .filter(|(_, owner)| owner.is_killed || (owner.loses_last && owner.batches > 0))
            .map(|(stream, _)| (stream, 1))
            .collect();
        prop_assert_eq!(reported, expected);
    }
}
