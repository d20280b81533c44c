//! Messages that wait for a lower number of their conversation, and until when.
//!
//! Pure. A message waits from the first plan that held it; when the hole timeout is over, the missing numbers below it
//! may be given up. Time in which the database was away does not count: the missing message may stand in the queue
//! behind those that could not be acknowledged. For the same reason a worker that is behind is more patient.

use std::time::{Duration, Instant};

use ahash::AHashMap;
use shared::conversation::Conversation;

use super::pending::Pending;

/// How many times longer is waited while there are deliveries that were not looked at. Not for ever: a conversation must
/// not stand still for as long as there is too much to do in others.
const PATIENCE_BEHIND: u32 = 5;

/// The waiting messages of one shard.
#[derive(Debug)]
pub struct Holes {
    timeout: Duration,
    waiting: AHashMap<Conversation, Vec<Pending>>,
}

impl Holes {
    /// Nothing waits; what will, waits for `timeout`.
    #[must_use]
    pub fn new(timeout: Duration) -> Self {
        Self { timeout, waiting: AHashMap::new() }
    }

    /// What has been held since then, or longer, has waited long enough. `caught_up`: everything delivered was looked at.
    #[must_use]
    pub fn patience_ended(&self, caught_up: bool, now: Instant) -> Option<Instant> {
        now.checked_sub(if caught_up { self.timeout } else { self.timeout * PATIENCE_BEHIND })
    }

    /// Lets `pending` wait. Its time begins now, unless it is running.
    pub fn hold(&mut self, mut pending: Pending, now: Instant) {
        pending.held_since.get_or_insert(now);
        self.waiting.entry(pending.message.conversation.clone()).or_default().push(pending);
    }

    /// Adds to `batch` what waits in its conversations: what has arrived may be what they wait for.
    pub fn join(&mut self, batch: &mut Vec<Pending>) {
        if self.waiting.is_empty() {
            return;
        }
        for at in 0..batch.len() {
            if let Some(waiting) = self.waiting.remove(&batch[at].message.conversation) {
                batch.extend(waiting);
            }
        }
    }

    /// Adds to `batch` all conversations in which something has been held since `end` or longer.
    pub fn take_overdue(&mut self, end: Instant, batch: &mut Vec<Pending>) {
        let is_overdue =
            |_: &Conversation, waiting: &mut Vec<Pending>| oldest(waiting).is_some_and(|since| since <= end);
        batch.extend(self.waiting.extract_if(is_overdue).flat_map(|(_, waiting)| waiting));
    }

    /// When the next one will have waited long enough for a worker that has caught up.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        let since = self.waiting.values().filter_map(|waiting| oldest(waiting)).min()?;
        Some(since + self.timeout)
    }

    /// Everything that waits begins to wait anew.
    pub fn restart(&mut self, now: Instant) {
        for pending in self.waiting.values_mut().flatten() {
            pending.held_since = Some(now);
        }
    }

    /// How many messages wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.waiting.values().map(Vec::len).sum()
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}

fn oldest(waiting: &[Pending]) -> Option<Instant> {
    waiting.iter().filter_map(|pending| pending.held_since).min()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use shared::message::fixture::numbered;

    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(2);

    fn pending(group: &str, seq: u64) -> Pending {
        let message = numbered(group, seq, "alice", &format!("m{seq}"));
        Pending::new(message, 1, seq, false)
    }

    fn seqs(batch: &[Pending]) -> Vec<u64> {
        let mut seqs: Vec<u64> = batch.iter().map(|pending| pending.seq.0).collect();
        seqs.sort_unstable();
        seqs
    }

    #[test]
    fn whoever_waits_joins_what_arrives_in_its_conversation() {
        let now = Instant::now();
        let mut holes = Holes::new(TIMEOUT);
        for held in [pending("group_a", 3), pending("group_a", 4), pending("group_b", 9)] {
            holes.hold(held, now);
        }
        let mut batch = vec![pending("group_a", 2), pending("group_c", 1)];
        holes.join(&mut batch);
        assert_eq!((seqs(&batch), holes.len()), (vec![1, 2, 3, 4], 1));
    }

    #[test]
    fn time_runs_from_the_first_hold_and_anew_after_an_outage() {
        let begun = Instant::now() + TIMEOUT * 10;
        let mut holes = Holes::new(TIMEOUT);
        holes.hold(pending("group_a", 3), begun);
        let mut batch = Vec::new();
        holes.join(&mut vec![]);
        holes.take_overdue(begun, &mut batch);
        // Held again by a later plan, its time goes on.
        holes.hold(batch.remove(0), begun + TIMEOUT / 2);
        assert_eq!(holes.next_deadline(), Some(begun + TIMEOUT));
        assert_eq!(holes.patience_ended(true, begun + TIMEOUT), Some(begun));
        assert!(holes.patience_ended(false, begun + TIMEOUT) < Some(begun));
        holes.restart(begun + TIMEOUT);
        assert_eq!(holes.next_deadline(), Some(begun + TIMEOUT * 2));
    }

    proptest! {
        #[test]
        fn nothing_is_lost_and_all_of_a_conversation_leaves_together(
            held in proptest::collection::vec((0usize..4, 0u64..5_000), 0..30),
            taken_at in 0u64..8_000,
        ) {
            let begun = Instant::now() + TIMEOUT * 10;
            let groups = ["group_a", "group_b", "group_c", "group_d"];
            let mut holes = Holes::new(TIMEOUT);
            for (seq, (group, at)) in (1..).zip(&held) {
                holes.hold(pending(groups[*group], seq), begun + Duration::from_millis(*at));
            }
            let mut batch = Vec::new();
            let end = holes.patience_ended(true, begun + Duration::from_millis(taken_at)).unwrap();
            holes.take_overdue(end, &mut batch);
            let overdue = |group: usize| held.iter().any(|(g, at)| *g == group && at + 2_000 <= taken_at);
            let expected: Vec<u64> =
                (1..).zip(&held).filter(|(_, (group, _))| overdue(*group)).map(|(seq, _)| seq).collect();
            prop_assert_eq!(seqs(&batch), expected);
            prop_assert_eq!(batch.len() + holes.len(), held.len());
            prop_assert!(holes.next_deadline().is_none_or(|deadline| deadline > end + TIMEOUT));
        }
    }
}
