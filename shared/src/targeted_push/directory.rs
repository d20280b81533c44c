//! What a worker knows about the gateways, and which of them get an event.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use ahash::AHashMap;

/// What was read about the gateways longer ago than this does not count.
const VALID_FOR: Duration = Duration::from_secs(3);
/// Events go to all gateways for this long after a run of Redis was first seen: a gateway whose entry in the liveness registry
/// was lost as well has made it again by then (a heartbeat each two seconds, and a pause of two seconds after a failure).
const NEW_RUN: Duration = Duration::from_secs(10);
/// Processor time of a publish, in a worker and in RabbitMQ, in us. This and the two others are rough, from what a message costs
/// with one and with eight gateways (`loadtest scenario fanout`): they decide only which of two right ways is taken.
const PUBLISH_US: usize = 15;
/// Of a delivery, in RabbitMQ and in a gateway.
const DELIVERY_US: usize = 30;
/// Of an event that a gateway decodes for nobody.
const USELESS_US: usize = 1;
/// Runs that are remembered.
const RUNS_MAX: usize = 1_000;

/// The gateways of a user, as one server of Redis has them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The run of the server.
    pub run: String,
    /// The ids of the gateways.
    pub gateways: Vec<u64>,
    /// One of them is of an earlier version, which receives no events of its own.
    pub at_earlier_version: bool,
}

/// Which gateways get an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Route {
    /// All of them.
    All,
    /// These.
    Some(BTreeSet<u64>),
}

/// The gateways, as a worker has read them.
#[derive(Debug)]
pub struct Directory {
    read: Option<Read>,
    /// When each run was first seen.
    runs: AHashMap<String, Instant>,
    /// Events go to all gateways for this long after a run was first seen.
    pause: Duration,
}

impl Default for Directory {
    fn default() -> Self {
        Self { read: None, runs: AHashMap::new(), pause: NEW_RUN }
    }
}

#[derive(Debug)]
struct Read {
    at: Instant,
    gateways: usize,
    /// The runs that every live gateway has announced as complete.
    complete: BTreeSet<String>,
}

impl Directory {
    /// A new run counts at once.
    #[cfg(test)]
    pub(super) fn without_pause() -> Self {
        Self { pause: Duration::ZERO, ..Self::default() }
    }

    /// The live gateways have announced these runs, as of `now`, the time at which the reading began. `None`: nothing, because
    /// its users are not all recorded, or it is of an earlier version.
    pub fn read(&mut self, announced: &[Option<BTreeSet<String>>], now: Instant) {
        let mut each = announced.iter().map(|runs| runs.clone().unwrap_or_default());
        let first = each.next().unwrap_or_default();
        let complete: BTreeSet<String> = each.fold(first, |common, runs| &common & &runs);
        for run in &complete {
            self.see(run, now);
        }
        self.read = Some(Read { at: now, gateways: announced.len(), complete });
    }

    /// Whether to look up the gateways of events: there are at least `from` live gateways, and a run of Redis has the users of
    /// all of them.
    #[must_use]
    pub fn is_worth_a_lookup(&self, from: usize, now: Instant) -> bool {
        self.valid(now).is_some_and(|read| read.gateways >= from && !read.complete.is_empty())
    }

    /// The gateways of an event for users of which this was found, and for the gateways `origins` as well, from which its
    /// messages came. The lookup began after the event was committed.
    pub fn route<'f>(
        &mut self,
        found: impl IntoIterator<Item = &'f Found>,
        origins: impl IntoIterator<Item = u64>,
        now: Instant,
    ) -> Route {
        let mut gateways: BTreeSet<u64> = origins.into_iter().collect();
        for Found { run, gateways: of_user, at_earlier_version } in found {
            let is_old = now.duration_since(self.see(run, now)) >= self.pause;
            let is_complete = is_old && self.valid(now).is_some_and(|read| read.complete.contains(run));
            if !is_complete || *at_earlier_version {
                return Route::All;
            }
            gateways.extend(of_user);
        }
        Route::Some(gateways)
    }

    /// Whether to publish these events of one commit to their gateways, instead of all of them to all gateways. `has_others`:
    /// events of the same commit go to all gateways in any case.
    #[must_use]
    pub fn pays<'g>(
        &self,
        events: impl IntoIterator<Item = &'g BTreeSet<u64>>,
        has_others: bool,
        now: Instant,
    ) -> bool {
        let Some(read) = self.valid(now) else { return false };
        let (mut concerned, mut useless) = (BTreeSet::<u64>::new(), 0);
        for gateways in events {
            concerned.extend(gateways);
            useless += read.gateways.saturating_sub(gateways.len());
        }
        let one_for_each = concerned.len() * (PUBLISH_US + DELIVERY_US);
        let one_for_all = if has_others { 0 } else { PUBLISH_US + read.gateways * DELIVERY_US };
        one_for_each < one_for_all + useless * USELESS_US
    }

    fn valid(&self, now: Instant) -> Option<&Read> {
        self.read.as_ref().filter(|read| now.duration_since(read.at) < VALID_FOR)
    }

    /// When `run` was first seen.
    fn see(&mut self, run: &str, now: Instant) -> Instant {
        if let Some(seen) = self.runs.get(run) {
            return *seen;
        }
        if self.runs.len() >= RUNS_MAX {
            self.runs.clear();
        }
        self.runs.insert(run.to_owned(), now);
        now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runs(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    fn found(run: &str, gateways: &[u64]) -> Found {
        Found { run: run.to_owned(), gateways: gateways.into(), at_earlier_version: false }
    }

    fn some(gateways: &[u64]) -> Route {
        Route::Some(gateways.iter().copied().collect())
    }

    /// Read ten seconds ago and again now: four gateways with all users in runs `a` and `b`.
    fn directory() -> (Directory, Instant) {
        let (mut directory, begun) = (Directory::default(), Instant::now());
        let announced = vec![Some(runs(&["a", "b"])); 4];
        directory.read(&announced, begun);
        let now = begun + NEW_RUN;
        directory.read(&announced, now);
        (directory, now)
    }

    #[test]
    fn an_event_goes_to_the_gateways_of_its_users_and_of_its_messages() {
        let (mut directory, now) = directory();
        assert!(directory.is_worth_a_lookup(4, now) && !directory.is_worth_a_lookup(5, now));
        let (alice, bob) = (found("a", &[1, 2]), found("b", &[2]));
        assert_eq!(directory.route([&alice, &bob], [], now), some(&[1, 2]));
        assert_eq!(
            directory.route([&bob], [7], now),
            some(&[2, 7]),
            "also to one that is not in the registry"
        );
        assert_eq!(directory.route([&found("a", &[])], [], now), some(&[]), "nobody is connected");
        assert_eq!(directory.route([&alice, &bob], [3], now), some(&[1, 2, 3]));
    }

    #[test]
    fn bodies_for_single_gateways_are_published_if_they_cost_less_than_one_for_all() {
        let (mut directory, now) = directory();
        directory.read(&vec![Some(runs(&["a"])); 8], now);
        let of = |gateways: &[u64]| gateways.iter().copied().collect::<BTreeSet<u64>>();
        let apart: Vec<_> = (0..8).map(|n| of(&[n, (n + 1) % 8])).collect();
        let many: Vec<_> = std::iter::repeat_n(apart.clone(), 3).flatten().collect();
        let table: [(&str, &[BTreeSet<u64>], bool, bool); 9] = [
            ("nobody is connected", &[of(&[])], false, true),
            ("one of eight", &[of(&[1])], false, true),
            ("five of eight", &[of(&[1, 2, 3, 4, 5])], false, true),
            ("six of eight", &[of(&[1, 2, 3, 4, 5, 6])], false, false),
            ("two events for two gateways", &[of(&[1, 2]), of(&[2])], false, true),
            ("a few events for all eight in sum", &apart, false, false),
            ("many events for all eight in sum", &many, false, true),
            ("beside an event for all", &[of(&[1, 2])], true, false),
            ("nobody is connected, beside an event for all", &[of(&[])], true, true),
        ];
        for (name, events, has_others, expected) in table {
            assert_eq!(directory.pays(events, has_others, now), expected, "{name}");
        }
        assert!(!directory.pays(&[of(&[1])], false, now + VALID_FOR), "read too long ago");
    }

    #[test]
    fn an_event_goes_to_all_if_a_gateway_may_be_missing() {
        let (mut directory, now) = directory();
        let bob = found("b", &[2]);
        let earlier = Found { at_earlier_version: true, ..bob.clone() };
        assert_eq!(directory.route([&bob, &earlier], [], now), Route::All);
        assert_eq!(directory.route([&bob, &found("c", &[1])], [], now), Route::All, "not announced");
        let late = now + VALID_FOR;
        assert_eq!(directory.route([&bob], [], late), Route::All, "read too long ago");
        assert!(!directory.is_worth_a_lookup(1, late));
        let mut announced = vec![Some(runs(&["a", "b", "c"])); 4];
        directory.read(&announced, now);
        assert_eq!(directory.route([&found("c", &[1])], [], now), Route::All, "a new run");
        directory.read(&announced, now + NEW_RUN);
        assert_eq!(directory.route([&found("c", &[1])], [], now + NEW_RUN), some(&[1]));
        announced[3] = None;
        directory.read(&announced, now + NEW_RUN);
        assert_eq!(directory.route([&bob], [], now + NEW_RUN), Route::All, "one has announced nothing");
        assert!(!directory.is_worth_a_lookup(4, now + NEW_RUN));
        directory.read(&[], now + NEW_RUN);
        assert!(!directory.is_worth_a_lookup(0, now + NEW_RUN));
    }
}
