//! Which inboxes are to be written, and when.
//!
//! Pure. The inboxes of a quiet conversation are written at once. Those of a busy one are written as often as
//! [`WRITES_PER_SECOND`] allows for its members, and updates in between are merged: an inbox entry holds the last sequence
//! number of the conversation, not its messages.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ahash::AHashMap;
use shared::conversation::{Conversation, Kind};
use shared::ids::Seq;
use shared::permission::Roster;

use crate::commit::facts::Advanced;
use crate::commit::pending::DeliveryTag;
use crate::commit::permission_cache::VersionedRoster;

/// Most inbox writes per second for one conversation: a group of 500 members is written five times per second.
const WRITES_PER_SECOND: u32 = 2_500;
/// Number of conversations whose next write is remembered before past ones are removed.
const REMEMBERED_MIN: usize = 1_024;

/// In whose inboxes an update is recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Readers {
    /// The two users of a private conversation.
    Pair,
    /// All members of a group.
    Members(Arc<VersionedRoster>),
    /// Nobody's: a large group has one record of its own.
    LargeGroup {
        /// Access version of the group.
        version: u64,
    },
}

impl Readers {
    /// The readers of a conversation with this roster; `None` if it has none any more.
    #[must_use]
    fn of(members: &Arc<VersionedRoster>) -> Option<Self> {
        match &members.roster {
            Roster::Private { .. } => Some(Self::Pair),
            Roster::Group(group) if group.is_large => Some(Self::LargeGroup { version: members.version }),
            Roster::Group(_) => Some(Self::Members(Arc::clone(members))),
            Roster::NoGroup => None,
        }
    }

    fn version(&self) -> u64 {
        match self {
            Self::Pair => 0,
            Self::Members(members) => members.version,
            Self::LargeGroup { version } => *version,
        }
    }
}

/// A conversation with new messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ConversationUpdate {
    pub(crate) conversation: Conversation,
    pub(crate) last_seq: Seq,
    pub(crate) readers: Readers,
    /// The delivery of each message that is settled once the update is written, once per message.
    pub(crate) deliveries: Vec<DeliveryTag>,
}

impl ConversationUpdate {
    /// How many inbox writes it takes.
    #[must_use]
    pub(crate) fn writes(&self) -> usize {
        match (&self.readers, self.conversation.kind()) {
            (Readers::Pair, Kind::Private(lo, hi)) if lo == hi => 1,
            (Readers::Pair, _) => 2,
            (Readers::Members(members), _) => match &members.roster {
                Roster::Group(group) => group.members.len(),
                Roster::Private { .. } | Roster::NoGroup => 0,
            },
            (Readers::LargeGroup { .. }, _) => 1,
        }
    }

    fn merge(&mut self, other: ConversationUpdate) {
        self.last_seq = self.last_seq.max(other.last_seq);
        // The gateway that removed a member has updated that member's inbox; the record of a group that has become large
        // covers the updates of its members' inboxes before.
        if other.readers.version() > self.readers.version() {
            self.readers = other.readers;
        }
        self.deliveries.extend(other.deliveries);
    }
}

/// The inbox updates of a commit. Deliveries of a conversation without readers are settled at once.
#[must_use]
pub(crate) fn inbox_updates(
    advanced: Vec<Advanced>,
    settled: &mut Vec<DeliveryTag>,
) -> Vec<ConversationUpdate> {
    let update = |Advanced { conversation, last_seq, roster, deliveries }| match Readers::of(&roster) {
        Some(readers) => Some(ConversationUpdate { conversation, last_seq, readers, deliveries }),
        None => {
            settled.extend(deliveries);
            None
        }
    };
    advanced.into_iter().filter_map(update).collect()
}

/// The updates of one shard, at most one per conversation.
#[derive(Debug, Default)]
pub(crate) struct UpdateQueue {
    waiting: AHashMap<Conversation, ConversationUpdate>,
    /// The earliest next write of each conversation that was written lately.
    next: AHashMap<Conversation, Instant>,
    /// The size of `next` at which past entries are removed.
    clean_at: usize,
}

impl UpdateQueue {
    /// An empty queue.
    #[must_use]
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Adds an update: a new one, or one whose write failed.
    pub(crate) fn add(&mut self, update: ConversationUpdate) {
        match self.waiting.get_mut(&update.conversation) {
            Some(waiting) => waiting.merge(update),
            None => {
                self.waiting.insert(update.conversation.clone(), update);
            }
        }
    }

    /// Takes the updates that are due; with `hurry` all of them.
    pub(crate) fn take_due(&mut self, hurry: bool, now: Instant) -> Vec<ConversationUpdate> {
        if self.waiting.is_empty() {
            return Vec::new();
        }
        if self.next.len() > self.clean_at.max(REMEMBERED_MIN) {
            self.next.retain(|_, next| *next > now);
            self.clean_at = self.next.len() * 2;
        }
        let next = &mut self.next;
        let is_due = |conversation: &Conversation, update: &mut ConversationUpdate| {
            let is_due = hurry || next.get(conversation).is_none_or(|next| *next <= now);
            if is_due {
                next.insert(conversation.clone(), now + pause(update.writes()));
            }
            is_due
        };
        self.waiting.extract_if(is_due).map(|(_, update)| update).collect()
    }

    /// When the next update is due; `None` if the queue is empty.
    #[must_use]
    pub(crate) fn next_due(&self, now: Instant) -> Option<Instant> {
        self.waiting.keys().map(|conversation| self.next.get(conversation).copied().unwrap_or(now)).min()
    }

    /// Whether there is no update.
    #[must_use]
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}

/// Time between two writes of a conversation whose update takes `writes` inbox writes.
fn pause(writes: usize) -> Duration {
    Duration::from_secs(1) * u32::try_from(writes).unwrap_or(u32::MAX) / WRITES_PER_SECOND
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use shared::ids::UserId;
    use shared::permission::{GroupRoster, MemberStatus};

    use super::*;

    fn group(name: &str) -> Conversation {
        Conversation::from_key(&format!("group_{name}")).unwrap()
    }

    fn members(version: u64, count: usize) -> Readers {
        let status = Some(MemberStatus::NEW);
        let members = (0..count).map(|n| (UserId::parse(&format!("u{n}")).unwrap(), status)).collect();
        let roster = Roster::Group(GroupRoster { members, ..GroupRoster::default() });
        Readers::of(&Arc::new(VersionedRoster { version, roster })).unwrap()
    }

    fn update(name: &str, last_seq: u64, readers: &Readers, delivery: DeliveryTag) -> ConversationUpdate {
        let readers = readers.clone();
        ConversationUpdate {
            conversation: group(name),
            last_seq: Seq(last_seq),
            readers,
            deliveries: vec![delivery],
        }
    }

    fn seqs(updates: &[ConversationUpdate]) -> Vec<u64> {
        updates.iter().map(|update| update.last_seq.0).collect()
    }

    #[test]
    fn a_quiet_conversation_is_written_at_once_and_a_busy_one_at_a_limited_rate() {
        let (now, all) = (Instant::now(), members(1, 500));
        let mut queue = UpdateQueue::new();
        queue.add(update("a", 1, &all, 1));
        assert_eq!(queue.next_due(now), Some(now));
        assert_eq!(seqs(&queue.take_due(false, now)), [1]);
        queue.add(update("a", 3, &all, 2));
        queue.add(update("a", 2, &all, 3));
        queue.add(update("b", 9, &all, 4));
        assert_eq!(seqs(&queue.take_due(false, now)), [9], "another conversation does not wait");
        let later = now + Duration::from_millis(200);
        assert_eq!(queue.next_due(now), Some(later));
        assert_eq!(queue.take_due(false, later - Duration::from_millis(1)), []);
        let due = queue.take_due(false, later);
        assert_eq!((seqs(&due), &due[0].deliveries[..]), (vec![3], &[2, 3][..]));
        assert_eq!((queue.next_due(later), queue.is_empty()), (None, true));
        queue.add(update("a", 4, &all, 5));
        assert_eq!(seqs(&queue.take_due(true, later)), [4], "hurry");
    }

    #[test]
    fn the_newest_readers_are_written() {
        let now = Instant::now();
        let (few, more, head) = (members(1, 2), members(2, 3), Readers::LargeGroup { version: 3 });
        for order in [[&few, &more, &head], [&head, &more, &few]] {
            let mut queue = UpdateQueue::new();
            for readers in order {
                queue.add(update("a", 1, readers, 1));
            }
            assert_eq!(queue.take_due(false, now)[0].readers, head);
        }
        assert_eq!((update("a", 1, &more, 1).writes(), update("a", 1, &head, 1).writes()), (3, 1));
        let no_group = Arc::new(VersionedRoster { version: 4, roster: Roster::NoGroup });
        assert_eq!(Readers::of(&no_group), None);
    }

    #[test]
    fn past_entries_are_removed() {
        let (mut now, two) = (Instant::now(), members(1, 2));
        let mut queue = UpdateQueue::new();
        for n in 0..20_000 {
            queue.add(update(&n.to_string(), 1, &two, 1));
            queue.take_due(false, now);
            now += Duration::from_millis(1);
        }
        assert!(queue.next.len() <= REMEMBERED_MIN + 1, "{}", queue.next.len());
    }

    proptest! {
        /// Each delivery is returned once, with a sequence number of at least its own.
        #[test]
        fn no_delivery_is_lost_and_no_conversation_is_written_too_often(
            steps in proptest::collection::vec((0usize..3, 0u64..60, prop::bool::weighted(0.2)), 1..60),
        ) {
            let sizes = [2, 50, 500];
            let begun = Instant::now();
            let (mut now, mut queue) = (begun, UpdateQueue::new());
            let mut owed: BTreeMap<DeliveryTag, u64> = BTreeMap::new();
            let mut last_written: BTreeMap<Conversation, Instant> = BTreeMap::new();
            for (seq, (which, wait, fails)) in (1u64..).zip(steps) {
                now += Duration::from_millis(wait);
                queue.add(update(&which.to_string(), seq, &members(1, sizes[which]), seq));
                owed.insert(seq, seq);
                for taken in queue.take_due(false, now) {
                    let gap = Duration::from_micros(400) * u32::try_from(taken.writes()).unwrap();
                    if let Some(before) = last_written.insert(taken.conversation.clone(), now) {
                        prop_assert!(now >= before + gap);
                    }
                    if fails {
                        queue.add(taken);
                        continue;
                    }
                    for delivery in &taken.deliveries {
                        let seq = owed.remove(delivery);
                        prop_assert!(seq.is_some_and(|seq| seq <= taken.last_seq.0));
                    }
                }
                prop_assert_eq!(owed.is_empty(), queue.is_empty());
                prop_assert!(queue.next_due(now).is_none_or(|due| due <= now + Duration::from_millis(200)));
            }
        }
    }
}
