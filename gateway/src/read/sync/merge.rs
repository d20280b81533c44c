//! Merges the two sources of a conversation list into one page: the entries of the user's inbox, and the heads of its
//! large groups.
//!
//! Pure. Both sources carry versions of the same clock. A group may be in both, for instance because it was small once: it
//! has one entry, at the version of its head if the head is not behind. The inbox is read first and in pages, the heads
//! after it and completely. Three rules follow:
//!
//! * Where the inbox has more entries than were read, the page ends at the last one that was read, because an unread
//!   entry may lie behind it.
//! * A page is never cut between two entries of the same version, because the next page begins behind a version.
//! * A cursor is below the moment at which the inbox was read: a later update may have a lower version than a head that
//!   is on the page.
//! * A head at or below the floor of the inbox is left out: the inbox was filled after it, and has the group above its
//!   floor. So every cursor that a page hands out is above the floor, where the inbox can answer it.
//!
//! Each page therefore moves the cursor or is the last one ([`Continuation`]), and no change is skipped. An entry may be
//! repeated: if it changed since, if it has a version from the moment of the read on, or if a large group is in the inbox
//! at a version that does not belong to the same page as the version of its head.

use ahash::{AHashMap, AHashSet};
use shared::conversation::Conversation;
use shared::ids::Seq;
use shared::redis::inbox::{Entry, Inbox, Order};

/// The newest version and the last sequence number of one large group.
pub(super) type GroupHead = (Conversation, u64, Seq);

/// One page of the merged list.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct MergedPage {
    /// In the requested order.
    pub(super) entries: Vec<Entry>,
    /// The version up to which the page is complete.
    pub(super) reached: u64,
    /// There are more entries behind the page.
    pub(super) has_more: bool,
}

/// The merge of one page. It keeps few of the heads that are added: those that may be on the page.
#[derive(Debug)]
pub(super) struct Merge {
    order: Order,
    limit: usize,
    inbox: Inbox,
    /// The conversations of the entries in `inbox`. Empty before the first head.
    in_inbox: AHashSet<Conversation>,
    /// Heads of groups that have an entry in `inbox`.
    of_entries: Vec<GroupHead>,
    /// Heads of other groups behind the beginning of the page: the first ones of those that were added, and perhaps more.
    others: Vec<GroupHead>,
    /// The length of `others` from which on those that cannot be on the page are removed.
    others_max: usize,
}

impl Merge {
    /// `inbox` was read in `order` with one entry more than `limit` if there are as many. The page has `limit` entries at
    /// most, or those of one version.
    pub(super) fn new(order: Order, limit: usize, inbox: Inbox) -> Self {
        let limit = limit.max(1);
        Self {
            order,
            limit,
            inbox,
            in_inbox: AHashSet::new(),
            of_entries: Vec::new(),
            others: Vec::new(),
            others_max: 2 * (limit + 1),
        }
    }

    /// The number of entries of the inbox.
    pub(super) fn inbox_entries(&self) -> usize {
        self.inbox.entries.len()
    }

    /// Adds heads that were read after the inbox.
    pub(super) fn add(&mut self, heads: impl Iterator<Item = GroupHead>) {
        let (order, floor) = (self.order, self.inbox.floor);
        for head in heads.filter(|(_, version, _)| *version > floor) {
            if self.in_inbox.is_empty() {
                self.in_inbox.extend(self.inbox.entries.iter().map(|entry| entry.conversation.clone()));
            }
            if self.in_inbox.contains(&head.0) {
                self.of_entries.push(head);
            } else if position(order, head.1) > start(order) {
                self.others.push(head);
            }
            if self.others.len() >= self.others_max {
                self.keep_first();
            }
        }
    }

    /// Keeps one head more than a page has entries, those of the same version as the last one, and one behind them: it
    /// tells that there are more.
    fn keep_first(&mut self) {
        let (order, last) = (self.order, self.limit);
        let by_position = |head: &GroupHead| position(order, head.1);
        let (_, last, _) = self.others.select_nth_unstable_by_key(last, by_position);
        let last = by_position(last);
        let mut behind = self.others.iter().map(by_position).filter(|position| *position > last).min();
        self.others.retain(|head| {
            let position = by_position(head);
            position <= last || behind.take_if(|behind| *behind == position).is_some()
        });
        self.others_max = 2 * self.others.len();
    }

    /// The page of the inbox and all heads that were added.
    pub(super) fn into_page(self) -> MergedPage {
        let Self { order, limit, inbox, of_entries, others, .. } = self;
        let inbox_has_more = inbox.entries.len() > limit;
        let complete_to = inbox.entries.last().filter(|_| inbox_has_more).map(|entry| entry.version);
        let mut entries = with_heads(inbox.entries, of_entries, others);
        let (start, end) = (start(order), complete_to.map(|version| position(order, version)));
        entries.retain(|entry| {
            let position = position(order, entry.version);
            position > start && end.is_none_or(|end| position <= end)
        });
        entries.sort_unstable_by_key(|entry| position(order, entry.version));
        let kept = cut(&entries, limit);
        let has_more = inbox_has_more || kept < entries.len();
        let complete_to = complete_to.filter(|_| kept == entries.len());
        entries.truncate(kept);
        let reached = complete_to.or(entries.last().map(|entry| entry.version)).unwrap_or(match order {
            Order::RisingAfter(cursor) => cursor,
            Order::FallingBefore(_) => 0,
        });
        MergedPage { entries, reached, has_more }
    }
}

/// The moment at which a page was read, on the clock of versions.
#[derive(Debug, Clone, Copy)]
pub(super) struct ReadMoment {
    /// The clock of Redis when the inbox was read: whatever is recorded later has this version or a higher one.
    pub(super) now: u64,
    /// The highest version in the inbox at that moment.
    pub(super) inbox_last: u64,
    /// How long a cursor is valid, in microseconds.
    pub(super) ttl_us: u64,
}

impl ReadMoment {
    /// A cursor below has lived through more than half of its validity.
    pub(super) fn aged_below(self) -> u64 {
        self.now.saturating_sub(self.ttl_us / 2)
    }
}

/// How a list goes on behind a page: with a cursor that is further than the one before, or not at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Continuation {
    /// The cursor of the next page, or of the next sync.
    pub(super) next: u64,
    /// There are more entries behind the page.
    pub(super) has_more: bool,
}

impl Continuation {
    /// The page is complete up to the version `reached`. A page that reached no further than the cursor before it is the
    /// last one, whatever `has_more` says.
    pub(super) fn new(order: Order, reached: u64, has_more: bool, moment: ReadMoment) -> Self {
        let has_more = has_more && position(order, reached) > start(order) && reached > 0;
        let Order::RisingAfter(cursor) = order else { return Self { next: reached, has_more } };
        let before_read = moment.now.saturating_sub(1);
        let next = if has_more {
            // The clock is behind the cursor after a failover of Redis: the client must get on all the same.
            Some(reached.min(before_read)).filter(|safe| *safe > cursor).unwrap_or(reached)
        } else {
            // Nothing is behind the page: the cursor need not age while nothing changes.
            reached.max(moment.inbox_last).max(moment.aged_below()).min(before_read).max(cursor)
        };
        Self { next, has_more }
    }
}

/// Whether the changes after `cursor` can be told from `inbox`. Otherwise the client gets the complete list.
pub(super) fn can_answer(inbox: &Inbox, cursor: u64, now: u64, ttl_us: u64) -> bool {
    let is_from_this_inbox = inbox.floor <= cursor && cursor <= inbox.last.max(now);
    cursor == 0 || (is_from_this_inbox && now.saturating_sub(cursor) < ttl_us)
}

/// The answer to a heartbeat with `cursor`, if the user's newest change has the version `newest` and the clock of Redis shows
/// `now`: `cursor` if nothing changed since, otherwise another number.
///
/// A cursor above both is not from this deployment, or from before its clock was set back: nothing is known about what
/// changed since, and the answer differs from it, higher where there is a higher cursor.
pub(super) fn heartbeat_cursor(cursor: u64, newest: u64, now: u64) -> u64 {
    if cursor <= newest.max(now) {
        return newest.max(cursor);
    }
    if cursor < Seq::MAX.0 { cursor + 1 } else { newest }
}

/// The distance of a version from the beginning of the list.
fn position(order: Order, version: u64) -> u64 {
    match order {
        Order::RisingAfter(_) => version,
        Order::FallingBefore(_) => !version,
    }
}

/// The position behind which the page begins.
fn start(order: Order) -> u64 {
    match order {
        Order::RisingAfter(version) | Order::FallingBefore(version) => position(order, version),
    }
}

/// One entry for each conversation of `entries` and `others`. `of_entries` are heads of conversations of `entries`.
fn with_heads(mut entries: Vec<Entry>, of_entries: Vec<GroupHead>, others: Vec<GroupHead>) -> Vec<Entry> {
    if !of_entries.is_empty() {
        let heads: AHashMap<Conversation, (u64, Seq)> =
            of_entries.into_iter().map(|(group, version, last_seq)| (group, (version, last_seq))).collect();
        for entry in &mut entries {
            let Some((version, last_seq)) = heads.get(&entry.conversation) else { continue };
            // A head that is behind, as after a late update, must not move the entry to a later page, where its own, lower
            // `last_seq` would be all that is left.
            if *last_seq >= entry.last_seq {
                entry.version = entry.version.max(*version);
                entry.last_seq = *last_seq;
            }
        }
    }
    let others = others.into_iter();
    entries.extend(others.map(|(conversation, version, last_seq)| Entry { conversation, version, last_seq }));
    entries
}

/// How many of `entries` fit into `limit` if those of one version stay together.
fn cut(entries: &[Entry], limit: usize) -> usize {
    let Some(version) = entries.get(limit).map(|entry| entry.version) else { return entries.len() };
    let end = entries[..limit].iter().rposition(|entry| entry.version != version).map_or(0, |last| last + 1);
    if end > 0 { end } else { entries.iter().take_while(|entry| entry.version == version).count() }
}

#[cfg(test)]
mod tests;
