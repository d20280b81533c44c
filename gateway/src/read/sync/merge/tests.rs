//! The merge against a model: an inbox and heads that change between pages, and between the two reads of one page.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

fn conversation(n: u8) -> Conversation {
    Conversation::from_key(&format!("group_{n}")).unwrap()
}

fn entry(n: u8, version: u64, last_seq: u64) -> Entry {
    Entry { conversation: conversation(n), version, last_seq: Seq(last_seq) }
}

fn head(n: u8, version: u64, last_seq: u64) -> GroupHead {
    (conversation(n), version, Seq(last_seq))
}

/// An inbox with this floor of which `entries` were read.
fn read(floor: u64, entries: Vec<Entry>) -> Inbox {
    Inbox { floor, last: entries.iter().map(|entry| entry.version).fold(floor, u64::max), entries }
}

fn merge(order: Order, limit: usize, inbox: Inbox, heads: Vec<GroupHead>) -> MergedPage {
    let mut merge = Merge::new(order, limit, inbox);
    merge.add(heads.into_iter());
    merge.into_page()
}

fn moment(now: u64, inbox_last: u64) -> ReadMoment {
    ReadMoment { now, inbox_last, ttl_us: 50 }
}

#[test]
fn a_heartbeat_repeats_the_cursor_only_if_nothing_changed_since() {
    let max = Seq::MAX.0;
    for (cursor, newest, now, expected) in [
        (7, 7, 9, 7),
        (8, 7, 9, 8),
        (6, 7, 9, 7),
        (0, 7, 9, 7),
        // The clock was set back, or is behind because many changes fell into one microsecond.
        (12, 12, 9, 12),
        (11, 12, 9, 12),
        // From the future.
        (13, 12, 9, 14),
        (10, 7, 9, 11),
        (max - 1, 7, 9, max),
        (max, 7, 9, 7),
    ] {
        assert_eq!(heartbeat_cursor(cursor, newest, now), expected, "{cursor} {newest} {now}");
    }
}

/// Order, limit, inbox, heads; the entries of the page, `reached` and `has_more`.
type Case = (Order, usize, Vec<Entry>, Vec<GroupHead>, (Vec<Entry>, u64, bool));

#[test]
fn sources_are_merged_by_version_and_cut_where_both_are_complete() {
    use Order::{FallingBefore, RisingAfter};
    let cases: Vec<Case> = vec![
        // Nothing, nothing new.
        (RisingAfter(7), 2, vec![], vec![], (vec![], 7, false)),
        (FallingBefore(7), 2, vec![], vec![], (vec![], 0, false)),
        (RisingAfter(7), 2, vec![], vec![head(1, 7, 3)], (vec![], 7, false)),
        // By version; the limit cuts.
        (
            RisingAfter(1),
            2,
            vec![entry(1, 3, 1)],
            vec![head(2, 2, 1), head(3, 4, 1)],
            (vec![entry(2, 2, 1), entry(1, 3, 1)], 3, true),
        ),
        (
            FallingBefore(9),
            2,
            vec![entry(1, 3, 1)],
            vec![head(2, 2, 1), head(3, 4, 1)],
            (vec![entry(3, 4, 1), entry(1, 3, 1)], 3, true),
        ),
        // A group in both has the version of its head, unless the head is behind.
        (
            RisingAfter(1),
            9,
            vec![entry(1, 3, 7), entry(2, 5, 2)],
            vec![head(1, 4, 7), head(2, 4, 3)],
            (vec![entry(1, 4, 7), entry(2, 5, 3)], 5, false),
        ),
        (
            RisingAfter(1),
            1,
            vec![entry(1, 3, 8), entry(2, 5, 2)],
            vec![head(1, 9, 7)],
            (vec![entry(1, 3, 8)], 3, true),
        ),
        // The inbox has more: heads behind its last entry wait, and the page is complete up to that entry.
        (
            RisingAfter(0),
            1,
            vec![entry(1, 3, 1), entry(2, 5, 1)],
            vec![head(3, 6, 1), head(2, 9, 2)],
            (vec![entry(1, 3, 1)], 5, true),
        ),
        // All entries moved behind the page: it is empty, and the cursor moves.
        (
            RisingAfter(0),
            1,
            vec![entry(1, 3, 1), entry(2, 5, 1)],
            vec![head(1, 8, 2), head(2, 9, 2)],
            (vec![], 5, true),
        ),
        (
            FallingBefore(8),
            1,
            vec![entry(2, 5, 1), entry(1, 3, 1)],
            vec![head(1, 8, 2), head(2, 9, 2)],
            (vec![], 3, true),
        ),
        // Entries of one version stay together, on the next page or beyond the limit.
        (
            RisingAfter(0),
            2,
            vec![entry(1, 3, 1)],
            vec![head(2, 4, 1), head(3, 4, 1)],
            (vec![entry(1, 3, 1)], 3, true),
        ),
        (
            FallingBefore(9),
            1,
            vec![],
            vec![head(2, 4, 1), head(3, 4, 1)],
            (vec![entry(2, 4, 1), entry(3, 4, 1)], 4, false),
        ),
    ];
    for (order, limit, inbox, heads, (entries, reached, has_more)) in cases {
        let what = format!("{order:?} {limit} {inbox:?} {heads:?}");
        let mut page = merge(order, limit, read(0, inbox), heads);
        // The order within one version is open.
        page.entries
            .sort_by_key(|entry| (position(order, entry.version), entry.conversation.key().to_owned()));
        assert_eq!(page, MergedPage { entries, reached, has_more }, "{what}");
    }
}

#[test]
fn heads_at_or_below_the_floor_of_the_inbox_are_left_out() {
    for order in [Order::RisingAfter(0), Order::FallingBefore(1_000)] {
        let heads = vec![head(1, 7, 3), head(2, 50, 3), head(3, 51, 3)];
        let page = merge(order, 9, read(50, vec![entry(1, 55, 3)]), heads);
        let mut versions: Vec<u64> = page.entries.iter().map(|entry| entry.version).collect();
        versions.sort_unstable();
        assert_eq!(versions, [51, 55], "{order:?}");
    }
}

#[test]
fn a_cursor_stays_below_the_moment_of_the_read_unless_it_would_not_move() {
    let rising = Order::RisingAfter(10);
    let cases = [
        // reached, has_more, now, the inbox's last version: next, has_more
        ((15, true, 100, 90), (15, true)),
        ((120, true, 100, 90), (99, true)),
        // At the end of the list the cursor is as new as the inbox, or has half of its validity before it.
        ((15, false, 100, 90), (90, false)),
        ((15, false, 100, 20), (75, false)),
        ((10, false, 100, 0), (75, false)),
        ((120, false, 100, 90), (99, false)),
        // The clock is behind the cursor.
        ((12, false, 5, 12), (10, false)),
        ((12, true, 5, 12), (12, true)),
        // A page that does not move the cursor is the last one.
        ((10, true, 20, 0), (10, false)),
        ((9, true, 20, 0), (10, false)),
    ];
    for ((reached, has_more, now, inbox_last), (next, more)) in cases {
        let found = Continuation::new(rising, reached, has_more, moment(now, inbox_last));
        assert_eq!(found, Continuation { next, has_more: more }, "{reached} {has_more} {now} {inbox_last}");
    }
    let falling = |reached, has_more| {
        let found = Continuation::new(Order::FallingBefore(10), reached, has_more, moment(2, 0));
        (found.next, found.has_more)
    };
    assert_eq!([falling(4, true), falling(4, false)], [(4, true), (4, false)]);
    assert_eq!([falling(10, true), falling(0, true)], [(10, false), (0, false)]);
}

#[test]
fn a_cursor_is_answered_if_it_is_from_this_inbox_and_not_too_old() {
    let inbox = Inbox { floor: 50, last: 90, entries: Vec::new() };
    let answered = |cursor, now, ttl_us| can_answer(&inbox, cursor, now, ttl_us);
    assert!([0, 50, 90, 100].map(|cursor| answered(cursor, 100, 1_000)).iter().all(|answered| *answered));
    assert!([49, 101].map(|cursor| answered(cursor, 100, 1_000)).iter().all(|answered| !*answered));
    assert!(answered(90, 80, 1_000), "the clock went back");
    assert!(answered(60, 159, 100) && !answered(60, 160, 100) && answered(0, 10_000, 100));
}

/// One change of the stores.
#[derive(Debug, Clone, Copy)]
enum Change {
    /// The clock moves on by 0 to 3 microseconds.
    Tick(u8),
    /// A message in a small conversation, or a large group's entry from when it was small.
    Inbox(u8),
    /// A message in a large group.
    Head(u8),
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        (0..4_u8).prop_map(Change::Tick),
        // 0..8 are small, 4..12 are large: 4..8 are in both sources.
        (0..8_u8).prop_map(Change::Inbox),
        (4..12_u8).prop_map(Change::Head),
    ]
}

/// What happens before a page is read, and between the reads of inbox and heads; and the page's limit.
type Step = (Vec<Change>, Vec<Change>, usize);

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let changes = || proptest::collection::vec(change(), 0..6);
    proptest::collection::vec((changes(), changes(), 1..5_usize), 0..8)
}

/// The stores, with the versions that the Lua scripts give.
#[derive(Debug, Default)]
struct Model {
    now: u64,
    /// When the inbox was filled from the database: entries of that moment have versions directly above.
    floor: u64,
    inbox_last: u64,
    inbox: BTreeMap<u8, (u64, u64)>,
    heads: BTreeMap<u8, (u64, u64)>,
    /// The last sequence number of each conversation.
    last_seqs: BTreeMap<u8, u64>,
}

impl Model {
    fn after(changes: &[Change]) -> Self {
        let mut model = Self { now: 1_000, ..Self::default() };
        model.apply(changes);
        // A request is later than what was recorded before.
        model.now = model.now.max(model.inbox_last) + 1;
        model
    }

    fn apply(&mut self, changes: &[Change]) {
        for change in changes {
            match *change {
                Change::Tick(us) => self.now += u64::from(us),
                Change::Inbox(n) => {
                    let seq = self.next_seq(n);
                    self.inbox_last = self.now.max(self.inbox_last + 1);
                    self.inbox.insert(n, (self.inbox_last, seq));
                }
                Change::Head(n) => {
                    let seq = self.next_seq(n);
                    let before = self.heads.get(&n).map_or(0, |(version, _)| *version);
                    self.heads.insert(n, (self.now.max(before + 1), seq));
                }
            }
        }
    }

    /// The inbox is built anew: it has every conversation, large groups too, up to the present.
    fn rebuild(&mut self) {
        let all: Vec<(u8, u64)> = self.last_seqs.iter().map(|(n, seq)| (*n, *seq)).collect();
        self.now = self.now.max(self.inbox_last) + 100;
        (self.floor, self.inbox_last) = (self.now - all.len() as u64, self.now);
        let versions = self.floor + 1..;
        self.inbox = all.into_iter().zip(versions).map(|((n, seq), version)| (n, (version, seq))).collect();
        self.now += 1;
    }

    fn moment(&self) -> ReadMoment {
        // So long that no cursor is lifted by it.
        ReadMoment { now: self.now, inbox_last: self.inbox_last, ttl_us: 1 << 60 }
    }

    fn next_seq(&mut self, n: u8) -> u64 {
        let seq = self.last_seqs.entry(n).or_default();
        *seq += 1;
        *seq
    }

    fn inbox(&self, order: Order, limit: usize) -> Inbox {
        let mut entries: Vec<_> =
            self.inbox.iter().map(|(n, (version, seq))| entry(*n, *version, *seq)).collect();
        entries.retain(|entry| position(order, entry.version) > start(order));
        entries.sort_by_key(|entry| position(order, entry.version));
        entries.truncate(limit + 1);
        Inbox { floor: self.floor, last: self.inbox_last, entries }
    }

    fn heads(&self) -> Vec<GroupHead> {
        self.heads.iter().map(|(n, (version, seq))| head(*n, *version, *seq)).collect()
    }
}

/// A client that pages, and what it was told of each conversation.
#[derive(Debug)]
struct Client {
    order: Order,
    told: BTreeMap<Conversation, u64>,
    times: BTreeMap<Conversation, usize>,
}

impl Client {
    fn new(order: Order) -> Self {
        Self { order, told: BTreeMap::new(), times: BTreeMap::new() }
    }

    /// Reads a page with `between` happening inside it; whether there is more.
    fn page(&mut self, model: &mut Model, limit: usize, between: &[Change]) -> bool {
        let (moment, inbox) = (model.moment(), model.inbox(self.order, limit));
        model.apply(between);
        let page = merge(self.order, limit, inbox, model.heads());
        assert!(
            page.entries.len() <= limit || page.entries.iter().all(|e| e.version == page.entries[0].version)
        );
        for entry in &page.entries {
            let told = self.told.entry(entry.conversation.clone()).or_default();
            *told = (*told).max(entry.last_seq.0);
            *self.times.entry(entry.conversation.clone()).or_default() += 1;
        }
        let Continuation { next, has_more } =
            Continuation::new(self.order, page.reached, page.has_more, moment);
        assert_eq!(has_more, page.has_more, "{page:?} ends a list that has more");
        assert!(!has_more || next > model.floor, "the inbox cannot answer {next}, a cursor of {page:?}");
        let moved = match self.order {
            Order::RisingAfter(cursor) => next > cursor,
            Order::FallingBefore(before) => next < before,
        };
        assert!(moved || !page.has_more, "{page:?} does not move {:?} to {next}", self.order);
        self.order = match self.order {
            Order::RisingAfter(_) => Order::RisingAfter(next),
            Order::FallingBefore(_) => Order::FallingBefore(next),
        };
        page.has_more
    }

    /// Reads pages until there are no more, while time passes and nothing changes.
    fn finish(&mut self, model: &mut Model, limit: usize) {
        for _ in 0..100 {
            model.now = model.now.max(model.inbox_last) + 1;
            if !self.page(model, limit, &[]) {
                return;
            }
        }
        panic!("the list has no end");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, ..ProptestConfig::default() })]

    #[test]
    fn a_sync_skips_nothing_however_the_stores_change_meanwhile(
        before in proptest::collection::vec(change(), 0..30),
        is_rebuilt in any::<bool>(),
        steps in steps(),
        limit in 1..5_usize,
    ) {
        let mut model = Model::after(&before);
        if is_rebuilt {
            model.rebuild();
        }
        let mut client = Client::new(Order::RisingAfter(0));
        for (changes, between, limit) in steps {
            model.apply(&changes);
            model.now = model.now.max(model.inbox_last) + 1;
            client.page(&mut model, limit, &between);
        }
        client.finish(&mut model, limit);
        client.finish(&mut model, limit);
        for (n, seq) in &model.last_seqs {
            prop_assert_eq!(client.told.get(&conversation(*n)), Some(seq), "conversation {}", n);
        }
    }

    #[test]
    fn the_heads_that_are_kept_make_the_same_page_as_all_heads(
        inbox in proptest::collection::btree_map(0..40_u8, (1..60_u64, 1..9_u64), 0..10),
        heads in proptest::collection::btree_map(0..200_u8, (1..60_u64, 1..9_u64), 0..200),
        (falls, bound, limit) in (any::<bool>(), 0..60_u64, 1..8_usize),
    ) {
        let order = if falls { Order::FallingBefore(bound) } else { Order::RisingAfter(bound) };
        let mut entries: Vec<Entry> = inbox.iter().map(|(n, (version, seq))| entry(*n, *version, *seq)).collect();
        entries.retain(|entry| position(order, entry.version) > start(order));
        entries.sort_by_key(|entry| position(order, entry.version));
        entries.truncate(limit + 1);
        let heads: Vec<GroupHead> = heads.iter().map(|(n, (version, seq))| head(*n, *version, *seq)).collect();
        let by_key = |mut page: MergedPage| {
            page.entries.sort_by_key(|e| (position(order, e.version), e.conversation.key().to_owned()));
            page
        };
        let mut all = Merge::new(order, limit, read(0, entries.clone()));
        all.others_max = usize::MAX;
        all.add(heads.iter().cloned());
        let mut some = Merge::new(order, limit, read(0, entries));
        some.add(heads.into_iter());
        prop_assert!(some.others.len() < some.others_max);
        prop_assert_eq!(by_key(some.into_page()), by_key(all.into_page()));
    }

    #[test]
    fn a_list_at_rest_has_every_conversation_and_repeats_only_groups_of_both_sources(
        before in proptest::collection::vec(change(), 0..30),
        limits in proptest::collection::vec(1..5_usize, 1..20),
        (falls, is_rebuilt) in any::<(bool, bool)>(),
    ) {
        let mut model = Model::after(&before);
        if is_rebuilt {
            model.rebuild();
        }
        model.now += 1_000;
        let mut client = Client::new(if falls { Order::FallingBefore(u64::MAX) } else { Order::RisingAfter(0) });
        let mut limits = limits.into_iter().cycle();
        let mut pages = 0;
        while client.page(&mut model, limits.next().unwrap(), &[]) {
            pages += 1;
            prop_assert!(pages <= 30, "the list has no end");
        }
        let all: BTreeSet<_> = model.last_seqs.keys().map(|n| conversation(*n)).collect();
        prop_assert_eq!(client.told.keys().cloned().collect::<BTreeSet<_>>(), all);
        for n in 0..12 {
            let is_in_both = model.inbox.contains_key(&n) && model.heads.contains_key(&n);
            let times = client.times.get(&conversation(n)).copied().unwrap_or(0);
            prop_assert!(times <= 1 + usize::from(is_in_both), "conversation {} {} times", n, times);
        }
    }
}
