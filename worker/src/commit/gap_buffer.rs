//! Messages that are held because a lower sequence number of their conversation is missing.
//!
//! Pure. A message is held from the first plan that found a gap below it; after the gap timeout the missing sequence
//! numbers may be skipped. The time of a database outage does not count: the missing message may be in the queue behind
//! those that could not be acknowledged. For the same reason the timeout is longer while a worker is behind.

use std::time::{Duration, Instant};

use ahash::AHashMap;
use shared::conversation::Conversation;

use super::pending::Pending;

/// Factor of the timeout while some deliveries have not been read. It is finite, because a conversation must not stop for
/// as long as others keep the worker behind.
const TIMEOUT_FACTOR_BEHIND: u32 = 5;

/// The held messages of one shard.
#[derive(Debug)]
pub(crate) struct GapBuffer {
    timeout: Duration,
    held: AHashMap<Conversation, Vec<Pending>>,
}

impl GapBuffer {
    /// An empty buffer that holds messages for `timeout`.
    #[must_use]
    pub(crate) fn new(timeout: Duration) -> Self {
        Self { timeout, held: AHashMap::new() }
    }

    /// Messages that have been held since this moment or longer are overdue. `caught_up`: all deliveries have been read.
    #[must_use]
    pub(crate) fn overdue_since(&self, caught_up: bool, now: Instant) -> Option<Instant> {
        now.checked_sub(if caught_up { self.timeout } else { self.timeout * TIMEOUT_FACTOR_BEHIND })
    }

    /// Holds `pending`. Its time begins now, unless it was held before.
    pub(crate) fn hold(&mut self, mut pending: Pending, now: Instant) {
        pending.held_since.get_or_insert(now);
        self.held.entry(pending.message.conversation.clone()).or_default().push(pending);
    }

    /// Moves the held messages of the batch's conversations to `batch`, which may fill their gaps.
    pub(crate) fn join(&mut self, batch: &mut Vec<Pending>) {
        if self.held.is_empty() {
            return;
        }
        for at in 0..batch.len() {
            if let Some(held) = self.held.remove(&batch[at].message.conversation) {
                batch.extend(held);
            }
        }
    }

    /// Moves the held messages of all conversations to `batch` in which one has been held since `since` or longer.
    pub(crate) fn take_overdue(&mut self, since: Instant, batch: &mut Vec<Pending>) {
        let is_overdue =
            |_: &Conversation, held: &mut Vec<Pending>| oldest(held).is_some_and(|oldest| oldest <= since);
        batch.extend(self.held.extract_if(is_overdue).flat_map(|(_, held)| held));
    }

    /// When the next message is overdue, if the worker has caught up by then.
    #[must_use]
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        let since = self.held.values().filter_map(|held| oldest(held)).min()?;
        Some(since + self.timeout)
    }

    /// Starts the time of all held messages again.
    pub(crate) fn restart(&mut self, now: Instant) {
        for pending in self.held.values_mut().flatten() {
            pending.held_since = Some(now);
        }
    }

    /// How many messages are held.
    #[must_use]
    pub(crate) fn len(&self) -> usize {
        self.held.values().map(Vec::len).sum()
    }

    /// Whether no message is held.
    #[must_use]
    pub(crate) fn is_empty(&self) -> bool {
        self.held.is_empty()
    }
}

fn oldest(held: &[Pending]) -> Option<Instant> {
    held.iter().filter_map(|pending| pending.held_since).min()
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
    fn held_messages_join_new_ones_of_their_conversation() {
        let now = Instant::now();
        let mut buffer = GapBuffer::new(TIMEOUT);
        for held in [pending("group_a", 3), pending("group_a", 4), pending("group_b", 9)] {
            buffer.hold(held, now);
        }
        let mut batch = vec![pending("group_a", 2), pending("group_c", 1)];
        buffer.join(&mut batch);
        assert_eq!((seqs(&batch), buffer.len()), (vec![1, 2, 3, 4], 1));
    }

    #[test]
    fn time_counts_from_the_first_hold_and_restarts_after_an_outage() {
        let begun = Instant::now() + TIMEOUT * 10;
        let mut buffer = GapBuffer::new(TIMEOUT);
        buffer.hold(pending("group_a", 3), begun);
        let mut batch = Vec::new();
        buffer.join(&mut vec![]);
        buffer.take_overdue(begun, &mut batch);
        // A message that a later plan holds again keeps its time.
        buffer.hold(batch.remove(0), begun + TIMEOUT / 2);
        assert_eq!(buffer.next_deadline(), Some(begun + TIMEOUT));
        assert_eq!(buffer.overdue_since(true, begun + TIMEOUT), Some(begun));
        assert!(buffer.overdue_since(false, begun + TIMEOUT) < Some(begun));
        buffer.restart(begun + TIMEOUT);
        assert_eq!(buffer.next_deadline(), Some(begun + TIMEOUT * 2));
    }

    proptest! {
        #[test]
        fn nothing_is_lost_and_a_conversation_is_taken_as_a_whole(
            held in proptest::collection::vec((0usize..4, 0u64..5_000), 0..30),
            taken_at in 0u64..8_000,
        ) {
            let begun = Instant::now() + TIMEOUT * 10;
            let groups = ["group_a", "group_b", "group_c", "group_d"];
            let mut buffer = GapBuffer::new(TIMEOUT);
            for (seq, (group, at)) in (1..).zip(&held) {
                buffer.hold(pending(groups[*group], seq), begun + Duration::from_millis(*at));
            }
            let mut batch = Vec::new();
            let since = buffer.overdue_since(true, begun + Duration::from_millis(taken_at)).unwrap();
            buffer.take_overdue(since, &mut batch);
            let overdue = |group: usize| held.iter().any(|(g, at)| *g == group && at + 2_000 <= taken_at);
            let expected: Vec<u64> =
                (1..).zip(&held).filter(|(_, (group, _))| overdue(*group)).map(|(seq, _)| seq).collect();
            prop_assert_eq!(seqs(&batch), expected);
            prop_assert_eq!(batch.len() + buffer.len(), held.len());
            prop_assert!(buffer.next_deadline().is_none_or(|deadline| deadline > since + TIMEOUT));
        }
    }
}
