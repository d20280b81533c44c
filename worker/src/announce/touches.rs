//! Which inboxes are to be written when.
//!
//! Pure. A conversation that was not noted lately is noted at once. One that is busy is noted as often as
//! [`WRITES_PER_SECOND`] allows for its members, whatever comes in between being merged: the entry says how far the
//! conversation has come, not which messages it got.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ahash::AHashMap;
use shared::conversation::{Conversation, Kind};
use shared::ids::Seq;
use shared::permission::Roster;

use crate::commit::facts::Advanced;
use crate::commit::pending::DeliveryTag;
use crate::commit::rights::Rights;

/// Inboxes written per second because of one conversation: 500 members are told five times a second.
const WRITES_PER_SECOND: u32 = 2_500;
/// Conversations whose next moment is remembered before those that are past are looked for.
const REMEMBERED_MIN: usize = 1_024;

/// In whose inboxes a conversation is noted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Readers {
    /// The two users of a private conversation.
    Pair,
    /// All members of a group.
    Members(Arc<Rights>),
    /// Nobody's: a large group has one note of its own.
    Head {
        /// The group's access version.
        version: u64,
    },
}

impl Readers {
    /// Of a conversation with these rights; `None` if nobody reads it any more.
    #[must_use]
    pub fn of(rights: &Arc<Rights>) -> Option<Self> {
        match &rights.roster {
            Roster::Private { .. } => Some(Self::Pair),
            Roster::Group(group) if group.is_large => Some(Self::Head { version: rights.version }),
            Roster::Group(_) => Some(Self::Members(Arc::clone(rights))),
            Roster::NoGroup => None,
        }
    }

    fn version(&self) -> u64 {
        match self {
            Self::Pair => 0,
            Self::Members(rights) => rights.version,
            Self::Head { version } => *version,
        }
    }
}

/// A conversation that has got messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Touch {
    /// Which one.
    pub conversation: Conversation,
    /// Its last number.
    pub last_seq: Seq,
    /// Who is told.
    pub readers: Readers,
    /// Of each message that is settled once this is noted, once per message.
    pub deliveries: Vec<DeliveryTag>,
}

impl Touch {
    /// How many inboxes are written.
    #[must_use]
    pub fn writes(&self) -> usize {
        match (&self.readers, self.conversation.kind()) {
            (Readers::Pair, Kind::Private(lo, hi)) if lo == hi => 1,
            (Readers::Pair, _) => 2,
            (Readers::Members(rights), _) => match &rights.roster {
                Roster::Group(group) => group.members.len(),
                Roster::Private { .. } | Roster::NoGroup => 0,
            },
            (Readers::Head { .. }, _) => 1,
        }
    }

    /// Says what both say.
    fn merge(&mut self, other: Touch) {
        self.last_seq = self.last_seq.max(other.last_seq);
        // Members that have gone are told of that by whoever removed them; the note of a group that has become large
        // covers what was to be noted for each member before.
        if other.readers.version() > self.readers.version() {
            self.readers = other.readers;
        }
        self.deliveries.extend(other.deliveries);
    }
}

/// The inbox updates of a commit. Deliveries of a conversation that nobody reads any more are settled at once.
#[must_use]
pub fn inbox_updates(advanced: Vec<Advanced>, settled: &mut Vec<DeliveryTag>) -> Vec<Touch> {
    let update = |Advanced { conversation, last_seq, rights, deliveries }| match Readers::of(&rights) {
        Some(readers) => Some(Touch { conversation, last_seq, readers, deliveries }),
        None => {
            settled.extend(deliveries);
            None
        }
    };
    advanced.into_iter().filter_map(update).collect()
}

/// What one shard has to note.
#[derive(Debug, Default)]
pub struct Touches {
    waiting: AHashMap<Conversation, Touch>,
    /// Not before then is a conversation noted again.
    next: AHashMap<Conversation, Instant>,
    /// Look for moments that are past when there are so many.
    clean_at: usize,
}

impl Touches {
    /// Nothing waits.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Something is to be noted, perhaps after it was tried in vain.
    pub fn add(&mut self, touch: Touch) {
        match self.waiting.get_mut(&touch.conversation) {
            Some(waiting) => waiting.merge(touch),
            None => {
                self.waiting.insert(touch.conversation.clone(), touch);
            }
        }
    }

    /// Takes what is due; all that waits if there is no more time (`hurry`).
    pub fn take_due(&mut self, hurry: bool, now: Instant) -> Vec<Touch> {
        if self.waiting.is_empty() {
            return Vec::new();
        }
        if self.next.len() > self.clean_at.max(REMEMBERED_MIN) {
            self.next.retain(|_, next| *next > now);
            self.clean_at = self.next.len() * 2;
        }
        let next = &mut self.next;
        let is_due = |conversation: &Conversation, touch: &mut Touch| {
            let is_due = hurry || next.get(conversation).is_none_or(|next| *next <= now);
            if is_due {
                next.insert(conversation.clone(), now + pause(touch.writes()));
            }
            is_due
        };
        self.waiting.extract_if(is_due).map(|(_, touch)| touch).collect()
    }

    /// When the next one is due; `None` if nothing waits.
    #[must_use]
    pub fn next_due(&self, now: Instant) -> Option<Instant> {
        self.waiting.keys().map(|conversation| self.next.get(conversation).copied().unwrap_or(now)).min()
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}

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
        Readers::of(&Arc::new(Rights { version, roster })).unwrap()
    }

    fn touch(name: &str, last_seq: u64, readers: &Readers, delivery: DeliveryTag) -> Touch {
        let readers = readers.clone();
        Touch { conversation: group(name), last_seq: Seq(last_seq), readers, deliveries: vec![delivery] }
    }

    fn seqs(touches: &[Touch]) -> Vec<u64> {
        touches.iter().map(|touch| touch.last_seq.0).collect()
    }

    #[test]
    fn a_quiet_conversation_is_noted_at_once_and_a_busy_one_as_often_as_its_size_allows() {
        let (now, all) = (Instant::now(), members(1, 500));
        let mut touches = Touches::new();
        touches.add(touch("a", 1, &all, 1));
        assert_eq!(touches.next_due(now), Some(now));
        assert_eq!(seqs(&touches.take_due(false, now)), [1]);
        touches.add(touch("a", 3, &all, 2));
        touches.add(touch("a", 2, &all, 3));
        touches.add(touch("b", 9, &all, 4));
        assert_eq!(seqs(&touches.take_due(false, now)), [9], "another conversation is not kept waiting");
        let later = now + Duration::from_millis(200);
        assert_eq!(touches.next_due(now), Some(later));
        assert_eq!(touches.take_due(false, later - Duration::from_millis(1)), []);
        let due = touches.take_due(false, later);
        assert_eq!((seqs(&due), &due[0].deliveries[..]), (vec![3], &[2, 3][..]));
        assert_eq!((touches.next_due(later), touches.is_empty()), (None, true));
        touches.add(touch("a", 4, &all, 5));
        assert_eq!(seqs(&touches.take_due(true, later)), [4], "no time is left");
    }

    #[test]
    fn whoever_reads_it_last_is_told() {
        let now = Instant::now();
        let (few, more, head) = (members(1, 2), members(2, 3), Readers::Head { version: 3 });
        for order in [[&few, &more, &head], [&head, &more, &few]] {
            let mut touches = Touches::new();
            for readers in order {
                touches.add(touch("a", 1, readers, 1));
            }
            assert_eq!(touches.take_due(false, now)[0].readers, head);
        }
        assert_eq!((touch("a", 1, &more, 1).writes(), touch("a", 1, &head, 1).writes()), (3, 1));
        let nobody = Arc::new(Rights { version: 4, roster: Roster::NoGroup });
        assert_eq!(Readers::of(&nobody), None);
    }

    #[test]
    fn moments_that_are_past_are_forgotten() {
        let (mut now, two) = (Instant::now(), members(1, 2));
        let mut touches = Touches::new();
        for n in 0..20_000 {
            touches.add(touch(&n.to_string(), 1, &two, 1));
            touches.take_due(false, now);
            now += Duration::from_millis(1);
        }
        assert!(touches.next.len() <= REMEMBERED_MIN + 1, "{}", touches.next.len());
    }

    proptest! {
        /// Each delivery comes back once, with a number that is at least its own, and no conversation is noted too often.
        #[test]
        fn nothing_is_lost_or_noted_too_often(
            steps in proptest::collection::vec((0usize..3, 0u64..60, prop::bool::weighted(0.2)), 1..60),
        ) {
            let sizes = [2, 50, 500];
            let begun = Instant::now();
            let (mut now, mut touches) = (begun, Touches::new());
            let mut owed: BTreeMap<DeliveryTag, u64> = BTreeMap::new();
            let mut last_noted: BTreeMap<Conversation, Instant> = BTreeMap::new();
            for (seq, (which, wait, fails)) in (1u64..).zip(steps) {
                now += Duration::from_millis(wait);
                touches.add(touch(&which.to_string(), seq, &members(1, sizes[which]), seq));
                owed.insert(seq, seq);
                for taken in touches.take_due(false, now) {
                    let gap = Duration::from_micros(400) * u32::try_from(taken.writes()).unwrap();
                    if let Some(before) = last_noted.insert(taken.conversation.clone(), now) {
                        prop_assert!(now >= before + gap);
                    }
                    if fails {
                        touches.add(taken);
                        continue;
                    }
                    for delivery in &taken.deliveries {
                        let seq = owed.remove(delivery);
                        prop_assert!(seq.is_some_and(|seq| seq <= taken.last_seq.0));
                    }
                }
                prop_assert_eq!(owed.is_empty(), touches.is_empty());
                prop_assert!(touches.next_due(now).is_none_or(|due| due <= now + Duration::from_millis(200)));
            }
        }
    }
}
