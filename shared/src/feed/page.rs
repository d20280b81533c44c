//! Pages of events: which messages a page needs, and in which order it shows what.
//!
//! An entry of a timeline, a run of numbers that no entry has, and everything else that a row says are one event each. The
//! index of a cursor counts the numbers of the row's ranges, whether they have entries or not, and then the other events:
//! so it can be computed without reading messages.

use ahash::AHashMap;

use super::body::{FeedBody, SeqRange};
use super::cursor::Cursor;
use super::event::{Event, EventKind};
use super::reader::Reader;
use super::rows::Row;
use crate::conversation::Conversation;
use crate::ids::Seq;
use crate::message::Stored;

/// The messages of a conversation above a number up to another one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// The conversation.
    pub conversation: Conversation,
    /// Messages above it.
    pub after: Seq,
    /// The last number.
    pub last: Seq,
}

/// What a page needs, in the order in which it shows it.
#[derive(Debug)]
pub struct Plan<'r> {
    parts: Vec<Part<'r>>,
    /// The messages of all parts but the tail; a conversation more than once only if numbers between are not needed.
    pub wanted: Vec<Wanted>,
    /// The last place of each conversation in `wanted`.
    places: AHashMap<Conversation, usize>,
    /// The last part, if it has more numbers than the page has places: only this many of its messages are needed.
    pub tail: Option<(Wanted, usize)>,
    /// There is more in the rows.
    is_cut: bool,
    end: Cursor,
}

#[derive(Debug)]
struct Part<'r> {
    row: &'r Row,
    /// The index of its first number or event in the row.
    offset: u64,
    what: What<'r>,
}

#[derive(Debug)]
enum What<'r> {
    Range { range: &'r SeqRange, after: Seq },
    Other(EventKind<'r>),
}

/// The messages that a plan needs.
#[derive(Debug, Default)]
pub struct Found {
    messages: AHashMap<Conversation, Vec<Stored>>,
    /// The number up to which the tail was read.
    tail_to: Option<Seq>,
}

impl Found {
    /// `messages` in any order. `tail`: those of the tail in ascending order, at most as many as were wanted.
    #[must_use]
    pub fn new(messages: Vec<Stored>, tail: Vec<Stored>, plan: &Plan<'_>) -> Self {
        let tail_to = plan.tail.as_ref().map(|(wanted, rows)| {
            if tail.len() < *rows { wanted.last } else { tail.last().map_or(wanted.last, |last| last.seq) }
        });
        let mut by_conversation: AHashMap<Conversation, Vec<Stored>> = AHashMap::new();
        for message in messages.into_iter().chain(tail) {
            let conversation = message.message.conversation.clone();
            by_conversation.entry(conversation).or_default().push(message);
        }
        for messages in by_conversation.values_mut() {
            messages.sort_unstable_by_key(|message| message.seq);
        }
        Self { messages: by_conversation, tail_to }
    }

    fn between(&self, conversation: &Conversation, after: Seq, last: Seq) -> &[Stored] {
        let all = self.messages.get(conversation).map_or(&[][..], Vec::as_slice);
        let first = all.partition_point(|message| message.seq <= after);
        let end = all.partition_point(|message| message.seq <= last);
        &all[first..end.max(first)]
    }
}

/// Plans a page of at most `limit` events after `cursor` from `rows`, whose first is the next one after it.
#[must_use]
pub fn plan<'r>(rows: impl IntoIterator<Item = &'r Row>, cursor: Cursor, limit: usize) -> Plan<'r> {
    plan_of(rows, cursor, limit, None)
}

/// The same with what `reader` sees. Cursors count what it does not see, too: they stay true when that changes.
#[must_use]
pub fn plan_for<'r>(
    reader: &Reader,
    rows: impl IntoIterator<Item = &'r Row>,
    cursor: Cursor,
    limit: usize,
) -> Plan<'r> {
    plan_of(rows, cursor, limit, Some(reader))
}

fn plan_of<'r>(
    rows: impl IntoIterator<Item = &'r Row>,
    cursor: Cursor,
    limit: usize,
    reader: Option<&Reader>,
) -> Plan<'r> {
    let (parts, wanted, places) = Default::default();
    let mut plan = Plan { parts, wanted, places, tail: None, is_cut: false, end: cursor };
    let mut places = limit;
    for (row, position) in rows.into_iter().zip(cursor.position + 1..) {
        // A row whose predecessor cannot be seen yet is not shown.
        if row.position != position {
            break;
        }
        let skipped = if position == cursor.position + 1 { cursor.index } else { 0 };
        if !plan.add(row, skipped, &mut places, reader) {
            break;
        }
        plan.end = Cursor::after(position);
    }
    plan
}

impl<'r> Plan<'r> {
    /// Adds what `row` has for `reader` (`None`: for everyone) after the first `skipped`. False if the page is full before
    /// its end.
    fn add(&mut self, row: &'r Row, skipped: u64, places: &mut usize, reader: Option<&Reader>) -> bool {
        let mut offset = 0;
        for range in &row.body.ranges {
            let begin = offset;
            offset += range.width();
            let floor = reader.map_or(Some(Seq::ZERO), |reader| reader.floor(&range.conversation));
            let Some(floor) = floor else { continue };
            let after = Seq(range.after.0 + skipped.saturating_sub(begin)).max(floor);
            if after >= range.last {
                continue;
            }
            if *places == 0 {
                self.is_cut = true;
                return false;
            }
            self.parts.push(Part { row, offset: begin, what: What::Range { range, after } });
            let numbers = usize::try_from(range.last.0 - after.0).unwrap_or(usize::MAX);
            let wanted = Wanted { conversation: range.conversation.clone(), after, last: range.last };
            if numbers > *places {
                self.tail = Some((wanted, *places));
                self.is_cut = true;
                return false;
            }
            *places -= numbers;
            self.want(wanted);
        }
        let is_shown = |kind: &EventKind<'_>| reader.is_none_or(|reader| reader.sees(kind, row.written_at));
        let others = (offset..).zip(others(&row.body)).skip_while(|(at, _)| *at < skipped);
        for (at, kind) in others.filter(|(_, kind)| is_shown(kind)) {
            if *places == 0 {
                self.is_cut = true;
                return false;
            }
            *places -= 1;
            self.parts.push(Part { row, offset: at, what: What::Other(kind) });
        }
        true
    }

    /// Adjacent parts of a conversation are read as one.
    fn want(&mut self, wanted: Wanted) {
        if let Some(before) = self.places.get(&wanted.conversation).map(|at| &mut self.wanted[*at])
            && before.last == wanted.after
        {
            before.last = wanted.last;
            return;
        }
        self.places.insert(wanted.conversation.clone(), self.wanted.len());
        self.wanted.push(wanted);
    }

    /// The page: at most `limit` events, and no further one once their messages have `bytes_max` bytes by `size`.
    #[must_use]
    pub fn page<'f>(
        &'f self,
        found: &'f Found,
        (limit, bytes_max): (usize, usize),
        size: impl Fn(&Stored) -> usize,
    ) -> Page<'f> {
        let mut page = Page { events: Vec::new(), next: self.end, is_cut: self.is_cut };
        let mut bytes = 0;
        for part in &self.parts {
            for (consumed, kind) in part.events(found, self.tail_of(part)) {
                if page.events.len() >= limit || bytes >= bytes_max {
                    page.is_cut = true;
                    return page.end_at_last_event();
                }
                bytes += match kind {
                    EventKind::Message(message) => size(message),
                    EventKind::Group(changed) => changed.users_bytes(),
                    _ => 0,
                };
                let cursor = part.cursor(consumed);
                page.events.push(Event { cursor, written_at: part.row.written_at, kind });
            }
        }
        // The end of the plan is that of a whole row.
        if self.is_cut { page.end_at_last_event() } else { page }
    }

    fn tail_of(&self, part: &Part<'_>) -> bool {
        self.tail.is_some() && self.parts.last().is_some_and(|last| std::ptr::eq(last, part))
    }
}

impl<'r> Part<'r> {
    /// Its events, each with the number of numbers and events of the row that are read after it.
    fn events<'f>(&'f self, found: &'f Found, is_tail: bool) -> Vec<(u64, EventKind<'f>)> {
        let (range, after) = match &self.what {
            What::Other(kind) => return vec![(self.offset + 1, kind.clone())],
            What::Range { range, after } => (*range, *after),
        };
        let last = found.tail_to.filter(|_| is_tail).unwrap_or(range.last);
        let consumed = |seq: Seq| self.offset + (seq.0 - range.after.0);
        let voided = |before: Seq, next: Seq| {
            let (first, last) = (before.next(), Seq(next.0 - 1));
            let kind = EventKind::Voided { conversation: &range.conversation, first, last };
            (first <= last).then(|| (consumed(last), kind))
        };
        let mut events = Vec::new();
        let mut before = after;
        for message in found.between(&range.conversation, after, last) {
            events.extend(voided(before, message.seq));
            events.push((consumed(message.seq), EventKind::Message(message)));
            before = message.seq;
        }
        events.extend(voided(before, last.next()));
        events
    }

    fn cursor(&self, consumed: u64) -> Cursor {
        if consumed == length(&self.row.body) {
            return Cursor::after(self.row.position);
        }
        Cursor { position: self.row.position - 1, index: consumed }
    }
}

/// How many numbers and other events a row has.
fn length(body: &FeedBody) -> u64 {
    let numbers: u64 = body.ranges.iter().map(SeqRange::width).sum();
    numbers + others(body).count() as u64
}

/// What a row says beside its ranges.
fn others(body: &FeedBody) -> impl Iterator<Item = EventKind<'_>> {
    let corrected = body.corrected.iter().map(EventKind::Corrected);
    let refused = body.refused.iter().map(EventKind::Refused);
    let group = body.group.iter().map(EventKind::Group);
    corrected.chain(refused).chain(group).chain(body.profile.iter().map(EventKind::Profile))
}

/// A page of events.
#[derive(Debug)]
pub struct Page<'a> {
    /// In order.
    pub events: Vec<Event<'a>>,
    /// Where the next page begins.
    pub next: Cursor,
    /// The rows that were read have more.
    pub is_cut: bool,
}

impl Page<'_> {
    fn end_at_last_event(mut self) -> Self {
        if let Some(last) = self.events.last() {
            self.next = last.cursor;
        }
        self
    }
}

#[cfg(test)]
mod tests;
