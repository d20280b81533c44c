//! The order of messages that wait for the hook: those of one connection to one conversation leave in the order in which they
//! came, although they are decided in any order.
//!
//! A lane exists while a message of it waits. A message in it is *waiting* or *decided*; the decided ones at its front leave. One
//! that is refused leaves at once, because it has no place in the order. So a message waits for those before it only, and
//! these have earlier deadlines.

use std::collections::VecDeque;
use std::hash::Hash;

use ahash::AHashMap;
use shared::conversation::Conversation;
use shared::ids::ConnectionId;

/// The lane of one connection and conversation.
pub(super) type LaneKey = (ConnectionId, Conversation);

/// The lanes of all connections and conversations. `T`: a message.
#[derive(Debug)]
pub(super) struct Lanes<K, T> {
    lanes: AHashMap<K, Lane<T>>,
    /// Messages in all lanes.
    len: usize,
}

#[derive(Debug)]
struct Lane<T> {
    /// The number of the first slot.
    first: u64,
    slots: VecDeque<Slot<T>>,
}

#[derive(Debug)]
enum Slot<T> {
    Waiting,
    Decided(T),
    Gone,
}

impl<K: Hash + Eq + Clone, T> Lanes<K, T> {
    pub(super) fn new() -> Self {
        Self { lanes: AHashMap::new(), len: 0 }
    }

    /// Messages that wait, or stand behind one that waits.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// The place of a message that waits, at the end of its lane.
    pub(super) fn enter(&mut self, key: &K) -> u64 {
        self.push(key, Slot::Waiting)
    }

    /// A message that need not wait: at the end of its lane, or returned if there is none.
    pub(super) fn follow(&mut self, key: &K, message: T) -> Option<T> {
        if !self.lanes.contains_key(key) {
            return Some(message);
        }
        self.push(key, Slot::Decided(message));
        None
    }

    fn push(&mut self, key: &K, slot: Slot<T>) -> u64 {
        let new = || Lane { first: 0, slots: VecDeque::new() };
        let lane = match self.lanes.get_mut(key) {
            Some(lane) => lane,
            None => self.lanes.entry(key.clone()).or_insert_with(new),
        };
        let place = lane.first + lane.slots.len() as u64;
        lane.slots.push_back(slot);
        self.len += 1;
        place
    }

    /// The message at `place` may be sent. `leave` gets those that are due, in their order.
    pub(super) fn decided(&mut self, key: &K, place: u64, message: T, leave: impl FnMut(T)) {
        self.set(key, place, Slot::Decided(message), leave);
    }

    /// The message at `place` is not sent.
    pub(super) fn gone(&mut self, key: &K, place: u64, leave: impl FnMut(T)) {
        self.set(key, place, Slot::Gone, leave);
    }

    fn set(&mut self, key: &K, place: u64, slot: Slot<T>, mut leave: impl FnMut(T)) {
        let Some(lane) = self.lanes.get_mut(key) else { return };
        let at = place.checked_sub(lane.first).and_then(|at| usize::try_from(at).ok());
        if let Some(found) = at.and_then(|at| lane.slots.get_mut(at)) {
            *found = slot;
        }
        while let Some(slot) = lane.slots.pop_front_if(|slot| !matches!(slot, Slot::Waiting)) {
            lane.first += 1;
            self.len -= 1;
            if let Slot::Decided(message) = slot {
                leave(message);
            }
        }
        if lane.slots.is_empty() {
            self.lanes.remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_message_waits_for_those_before_it_in_its_lane_only() {
        let mut lanes = Lanes::new();
        let (mut left, first, second) = (Vec::new(), lanes.enter(&"a"), lanes.enter(&"a"));
        assert_eq!(lanes.follow(&"a", 3), None, "behind the two");
        assert_eq!(lanes.follow(&"b", 9), Some(9), "nothing waits in this lane");
        lanes.decided(&"a", second, 2, |message| left.push(message));
        assert_eq!((left.len(), lanes.len()), (0, 3));
        lanes.decided(&"a", first, 1, |message| left.push(message));
        assert_eq!((left, lanes.len()), (vec![1, 2, 3], 0));
        assert_eq!(lanes.follow(&"a", 4), Some(4), "the lane is gone");
    }

    #[test]
    fn a_message_that_is_gone_holds_up_nobody() {
        let mut lanes = Lanes::new();
        let (mut left, first, second, third) =
            (Vec::new(), lanes.enter(&"a"), lanes.enter(&"a"), lanes.enter(&"a"));
        lanes.gone(&"a", second, |message: i32| left.push(message));
        lanes.decided(&"a", third, 3, |message| left.push(message));
        lanes.gone(&"a", first, |message| left.push(message));
        assert_eq!((left, lanes.len()), (vec![3], 0));
        lanes.gone(&"a", 7, |_| unreachable!("no such place"));
    }

    #[derive(Debug, Clone)]
    enum Step {
        Enter(u8),
        Follow(u8),
        Decide(prop::sample::Index),
        Leave(prop::sample::Index),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            3 => (0_u8..4).prop_map(Step::Enter),
            2 => (0_u8..4).prop_map(Step::Follow),
            3 => any::<prop::sample::Index>().prop_map(Step::Decide),
            1 => any::<prop::sample::Index>().prop_map(Step::Leave),
        ]
    }

    proptest! {
        /// In whatever order messages are decided: each lane keeps its order, none is lost, repeated or sent although it was
        /// refused, and none is held up once those before it are decided.
        #[test]
        fn lanes_keep_their_order(steps in prop::collection::vec(step(), 1..200)) {
            let mut lanes: Lanes<u8, u32> = Lanes::new();
            let (mut next, mut waiting) = (0, Vec::new());
            let (mut due, mut sent): (BTreeMap<u8, Vec<u32>>, BTreeMap<u8, Vec<u32>>) = Default::default();
            let finish = |lanes: &mut Lanes<u8, u32>, sent: &mut BTreeMap<u8, Vec<u32>>, (key, place, message), is_sent| {
                let leave = |message| sent.entry(key).or_default().push(message);
                match is_sent {
                    true => lanes.decided(&key, place, message, leave),
                    false => lanes.gone(&key, place, leave),
                }
            };
            for step in steps {
                match step {
                    Step::Enter(key) => {
                        waiting.push((key, lanes.enter(&key), next));
                        due.entry(key).or_default().push(next);
                        next += 1;
                    }
                    Step::Follow(key) => {
                        if let Some(message) = lanes.follow(&key, next) {
                            prop_assert!(!waiting.iter().any(|(of, ..)| *of == key));
                            sent.entry(key).or_default().push(message);
                        }
                        due.entry(key).or_default().push(next);
                        next += 1;
                    }
                    Step::Decide(_) | Step::Leave(_) if waiting.is_empty() => {}
                    Step::Decide(which) => {
                        let one = waiting.swap_remove(which.index(waiting.len()));
                        finish(&mut lanes, &mut sent, one, true);
                    }
                    Step::Leave(which) => {
                        let one = waiting.swap_remove(which.index(waiting.len()));
                        due.get_mut(&one.0).unwrap().retain(|message| *message != one.2);
                        finish(&mut lanes, &mut sent, one, false);
                    }
                }
                for (key, sent) in &sent {
                    prop_assert!(due[key].starts_with(sent), "{sent:?} of {:?}", due[key]);
                    let first = waiting.iter().filter(|(of, ..)| of == key).map(|(.., message)| *message).min();
                    let before = due[key].iter().filter(|message| first.is_none_or(|first| **message < first));
                    prop_assert_eq!(before.count(), sent.len());
                }
            }
            for one in waiting {
                finish(&mut lanes, &mut sent, one, true);
            }
            due.retain(|_, all| !all.is_empty());
            prop_assert_eq!(due, sent);
            prop_assert_eq!((lanes.len(), lanes.lanes.len()), (0, 0));
        }
    }
}
