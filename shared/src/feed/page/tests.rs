use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::feed::{GroupSight, RefusedMessage};
use crate::ids::{MsgId, UserId};
use crate::message::fixture::numbered;

fn conversation(n: u8) -> Conversation {
    Conversation::from_key(&format!("group_{n}")).unwrap()
}

fn message(conversation: u8, seq: u64) -> Stored {
    let message = numbered(&format!("group_{conversation}"), seq, "alice", &format!("m{seq}"));
    Stored::new(message.message, Seq(seq))
}

/// What happened: for each row the conversations whose timelines grew, with which of their next numbers have entries; and
/// how many other events there are.
type History = Vec<(BTreeMap<u8, Vec<bool>>, usize)>;

fn histories() -> impl Strategy<Value = History> {
    let grown = prop::collection::btree_map(0..3_u8, prop::collection::vec(any::<bool>(), 1..9), 0..3);
    prop::collection::vec((grown, 0..3_usize), 0..12)
}

/// The rows of a history, and the messages.
fn written(history: &History) -> (Vec<Row>, Vec<Stored>) {
    let (mut rows, mut stored, mut heads) = (Vec::new(), Vec::new(), BTreeMap::<u8, u64>::new());
    for (position, (grown, others)) in (1..).zip(history) {
        let mut body = FeedBody::default();
        for (name, entries) in grown {
            let head = heads.entry(*name).or_default();
            let after = Seq(*head);
            for has_entry in entries {
                *head += 1;
                stored.extend(has_entry.then(|| message(*name, *head)));
            }
            body.ranges.push(SeqRange { conversation: conversation(*name), after, last: Seq(*head) });
        }
        for n in 0..*others {
            body.refused.push(RefusedMessage {
                conversation: conversation(0),
                sender: UserId::parse("alice").unwrap(),
                msg_id: MsgId::parse(&format!("r{position}.{n}")).unwrap(),
                seq: Seq(1),
                code: 403,
            });
        }
        rows.push(Row { position, written_at: 5, body });
    }
    (rows, stored)
}

/// As the database finds them.
fn find(plan: &Plan<'_>, stored: &[Stored]) -> Found {
    let of = |wanted: &Wanted| {
        let is_it = |one: &&Stored| {
            one.message.conversation == wanted.conversation
                && wanted.after < one.seq
                && one.seq <= wanted.last
        };
        stored.iter().filter(is_it).cloned().collect::<Vec<_>>()
    };
    let messages = plan.wanted.iter().flat_map(of).collect();
    let tail = plan.tail.as_ref().map_or(Vec::new(), |(wanted, rows)| {
        let mut tail = of(wanted);
        tail.truncate(*rows);
        tail
    });
    Found::new(messages, tail, plan)
}

/// What a reader has seen.
#[derive(Debug, Default, PartialEq, Eq)]
struct Seen {
    /// For each conversation its numbers, and whether they have entries.
    numbers: BTreeMap<String, Vec<(u64, bool)>>,
    refused: Vec<String>,
}

impl Seen {
    fn see(&mut self, event: &EventKind<'_>) {
        match event {
            EventKind::Message(message) => {
                let numbers = self.numbers.entry(message.message.conversation.key().to_owned()).or_default();
                numbers.push((message.seq.0, true));
            }
            EventKind::Voided { conversation, first, last } => {
                let numbers = self.numbers.entry(conversation.key().to_owned()).or_default();
                numbers.extend((first.0..=last.0).map(|seq| (seq, false)));
            }
            EventKind::Refused(refused) => self.refused.push(refused.msg_id.as_str().to_owned()),
            other => panic!("{other:?}"),
        }
    }
}

fn expected(history: &History) -> Seen {
    let mut seen = Seen::default();
    let (rows, stored) = written(history);
    for row in &rows {
        for range in &row.body.ranges {
            let key = range.conversation.key();
            let has_entry = |seq: u64| {
                stored.iter().any(|one| one.seq.0 == seq && one.message.conversation == range.conversation)
            };
            let numbers = (range.after.0 + 1..=range.last.0).map(|seq| (seq, has_entry(seq)));
            seen.numbers.entry(key.to_owned()).or_default().extend(numbers);
        }
        seen.refused.extend(row.body.refused.iter().map(|refused| refused.msg_id.as_str().to_owned()));
    }
    seen
}

proptest! {
    #[test]
    fn a_reader_sees_every_number_and_event_once_in_order_whatever_its_pages(
        history in histories(),
        limit in 1..7_usize,
        bytes_max in 1..5_usize,
        rows_at_once in 1..5_usize,
        restarts in prop::collection::vec(any::<prop::sample::Index>(), 0..40),
    ) {
        let (rows, stored) = written(&history);
        let (mut seen, mut cursor, mut restarts) = (Seen::default(), Cursor::default(), restarts.into_iter());
        for _ in 0..1_000 {
            let from = usize::try_from(cursor.position).unwrap();
            let rows = &rows[from.min(rows.len())..];
            let rows = &rows[..rows.len().min(rows_at_once)];
            let plan = plan(rows, cursor, limit);
            let found = find(&plan, &stored);
            let page = plan.page(&found, (limit, bytes_max), |_| 1);
            prop_assert!(page.events.len() <= limit);
            if rows.is_empty() {
                prop_assert_eq!(page.next, cursor);
                break;
            }
            prop_assert!(page.next > cursor, "{:?} does not go on from {:?}", page.next, cursor);
            if !page.is_cut {
                prop_assert_eq!(page.next, Cursor::after((from + rows.len()) as u64));
            }
            // The reader dies after any of the events, and goes on with the cursor of the last one that it has stored.
            let dies_after = restarts.next().filter(|_| !page.events.is_empty());
            let stored_events = dies_after.map_or(page.events.len(), |at| at.index(page.events.len()) + 1);
            for event in &page.events[..stored_events] {
                prop_assert!(event.cursor > cursor);
                cursor = event.cursor;
                prop_assert_eq!(cursor.to_string().parse(), Ok(cursor));
                seen.see(&event.kind);
            }
            if stored_events == page.events.len() {
                cursor = page.next;
            }
        }
        prop_assert_eq!(seen, expected(&history));
    }
}

/// alice, in these groups, which hide what is at or below a number.
fn alice(groups: &[(u8, u64)]) -> Reader {
    let sight = |(n, floor): &(u8, u64)| {
        let sight = GroupSight { floor: Seq(*floor), joined_at: 0 };
        (conversation(*n), sight)
    };
    let groups = groups.iter().map(sight).collect();
    Reader::new(UserId::parse("alice").unwrap(), groups, AHashMap::new())
}

proptest! {
    #[test]
    fn a_user_sees_what_is_its_own_once_in_order_whichever_other_groups_it_joins_and_leaves(
        history in histories(),
        floor in 0..8_u64,
        limit in 1..7_usize,
        rows_at_once in 1..5_usize,
        restarts in prop::collection::vec(any::<prop::sample::Index>(), 0..40),
        joined in prop::collection::vec(any::<bool>(), 1..20),
    ) {
        let (rows, stored) = written(&history);
        let (mut seen, mut cursor) = (Seen::default(), Cursor::default());
        let (mut restarts, mut joined) = (restarts.into_iter(), joined.into_iter().cycle());
        for _ in 0..1_000 {
            let from = usize::try_from(cursor.position).unwrap();
            let rows = &rows[from.min(rows.len())..];
            let rows = &rows[..rows.len().min(rows_at_once)];
            if rows.is_empty() {
                break;
            }
            let is_joined = joined.next().unwrap();
            let reader = if is_joined { alice(&[(0, floor), (1, 0)]) } else { alice(&[(0, floor)]) };
            let plan = plan_for(&reader, rows, cursor, limit);
            let found = find(&plan, &stored);
            let page = plan.page(&found, (limit, 1_000), |_| 1);
            prop_assert!(page.events.len() <= limit);
            prop_assert!(page.next > cursor, "{:?} does not go on from {:?}", page.next, cursor);
            let is_concerned = rows.iter().any(|row| reader.is_concerned_by(row));
            prop_assert!(is_concerned || page.events.is_empty(), "{:?}", page.events);
            let dies_after = restarts.next().filter(|_| !page.events.is_empty());
            let stored_events = dies_after.map_or(page.events.len(), |at| at.index(page.events.len()) + 1);
            for event in &page.events[..stored_events] {
                prop_assert!(event.cursor > cursor);
                cursor = event.cursor;
                seen.see(&event.kind);
            }
            if stored_events == page.events.len() {
                cursor = page.next;
            }
        }
        let Seen { mut numbers, refused } = expected(&history);
        let own = numbers.remove("group_0").unwrap_or_default();
        let own: Vec<(u64, bool)> = own.into_iter().filter(|(seq, _)| *seq > floor).collect();
        prop_assert_eq!(seen.numbers.remove("group_0").unwrap_or_default(), own);
        prop_assert_eq!(seen.refused, refused);
        // Of the other one what was there while it was a member, each once; of the third one nothing.
        let other = seen.numbers.remove("group_1").unwrap_or_default();
        prop_assert!(other.is_sorted_by(|a, b| a.0 < b.0), "{:?}", other);
        let all = numbers.remove("group_1").unwrap_or_default();
        prop_assert!(other.iter().all(|seen| all.contains(seen)), "{:?} {:?}", other, all);
        prop_assert!(seen.numbers.is_empty(), "{:?}", seen.numbers);
    }
}

#[test]
fn a_row_whose_predecessor_is_not_visible_yet_is_not_shown() {
    let history = vec![(BTreeMap::from([(0, vec![true])]), 0); 3];
    let (mut rows, stored) = written(&history);
    rows.remove(1);
    let plan = plan(&rows, Cursor::default(), 10);
    let page_end = plan.page(&find(&plan, &stored), (10, 1_000), |_| 1).next;
    assert_eq!(page_end, Cursor::after(1));
}

#[test]
fn a_jump_over_many_numbers_is_one_event_and_needs_one_read() {
    let (last, range) = (1_000_000, |after, last| SeqRange { conversation: conversation(0), after, last });
    let body = FeedBody { ranges: vec![range(Seq(0), Seq(last))], ..FeedBody::default() };
    let rows = [Row { position: 1, written_at: 5, body }];
    let stored = [message(0, last - 1), message(0, last)];
    let plan = plan(&rows, Cursor::default(), 2);
    assert_eq!(plan.tail.as_ref().map(|(_, rows)| *rows), Some(2));
    let found = find(&plan, &stored);
    let page = plan.page(&found, (2, 1_000), |_| 1);
    let voided = EventKind::Voided { conversation: &conversation(0), first: Seq(1), last: Seq(last - 2) };
    assert_eq!(page.events[0].kind, voided);
    assert_eq!(page.events[1].kind, EventKind::Message(&stored[0]));
    assert_eq!((page.next, page.is_cut), (Cursor { position: 0, index: last - 1 }, true));
}
