//! Messages that are set aside because another transaction has locked the row of their conversation.
//!
//! Pure. The other conversations of the shard go on. Their places in the prefetch window stay occupied.

use std::time::{Duration, Instant};

use ahash::AHashMap;
use shared::conversation::Conversation;

use super::pending::Pending;

/// Time between two looks at the locks.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);

/// The messages that are set aside, by conversation.
#[derive(Debug, Default)]
pub(crate) struct Aside {
    messages: AHashMap<Conversation, Vec<Pending>>,
    look_at: Option<Instant>,
}

impl Aside {
    /// Sets the conversations aside; the next look at their locks is after a while.
    pub(crate) fn add(&mut self, conversations: Vec<Conversation>, now: Instant) {
        for conversation in conversations {
            tracing::warn!(
                conversation.id = %conversation,
                "Conversation {conversation} is locked by another transaction of MySQL; its messages wait, and the other \
                 conversations go on"
            );
            self.messages.entry(conversation).or_default();
        }
        self.look_at = Some(now + LOOK_INTERVAL);
    }

    /// Takes the messages of conversations that are set aside out of `batch`. The time of a gap does not count meanwhile.
    pub(crate) fn take_from(&mut self, batch: &mut Vec<Pending>) {
        if self.messages.is_empty() {
            return;
        }
        let is_aside = |pending: &mut Pending| self.messages.contains_key(&pending.message.conversation);
        let taken: Vec<Pending> = batch.extract_if(.., is_aside).collect();
        for mut pending in taken {
            pending.held_since = None;
            if let Some(of_conversation) = self.messages.get_mut(&pending.message.conversation) {
                of_conversation.push(pending);
            }
        }
    }

    /// The conversations at whose locks to look now.
    pub(crate) fn due(&self, now: Instant) -> Option<Vec<Conversation>> {
        (self.look_at? <= now).then(|| self.messages.keys().cloned().collect())
    }

    /// Returns the messages of all conversations but those that are still `locked`.
    pub(crate) fn release(&mut self, locked: &[Conversation], now: Instant) -> Vec<Pending> {
        let is_free = |conversation: &Conversation, _: &mut Vec<Pending>| !locked.contains(conversation);
        let mut released = Vec::new();
        for (conversation, messages) in self.messages.extract_if(is_free) {
            tracing::info!(
                conversation.id = %conversation, messages = messages.len(),
                "Conversation {conversation} is not locked any more"
            );
            released.extend(messages);
        }
        self.look_at = (!self.messages.is_empty()).then(|| now + LOOK_INTERVAL);
        released
    }

    /// When to look at the locks next.
    #[must_use]
    pub(crate) fn next_look(&self) -> Option<Instant> {
        self.look_at
    }

    /// How many messages are set aside.
    #[must_use]
    pub(crate) fn len(&self) -> usize {
        self.messages.values().map(Vec::len).sum()
    }
}

#[cfg(test)]
mod tests {
    use shared::message::fixture::numbered;

    use super::*;

    #[test]
    fn later_messages_of_a_locked_conversation_wait_behind_the_first_and_others_go_on() {
        let now = Instant::now();
        let pending = |group: &str, seq: u64| {
            Pending::new(numbered(group, seq, "alice", &format!("m{seq}")), seq, seq, false)
        };
        let group = |key: &str| Conversation::from_key(key).unwrap();
        let mut aside = Aside::default();
        let mut batch = vec![pending("group_a", 1), pending("group_b", 1)];
        aside.take_from(&mut batch);
        assert_eq!((batch.len(), aside.next_look()), (2, None));
        aside.add(vec![group("group_a")], now);
        aside.take_from(&mut batch);
        batch.push(pending("group_a", 2));
        aside.take_from(&mut batch);
        assert_eq!((batch.len(), aside.len(), aside.due(now)), (1, 2, None));
        let later = now + LOOK_INTERVAL;
        assert_eq!(aside.due(later), Some(vec![group("group_a")]));
        assert!(aside.release(&[group("group_a")], later).is_empty());
        assert_eq!(aside.next_look(), Some(later + LOOK_INTERVAL));
        let seqs: Vec<u64> = aside.release(&[], later).iter().map(|pending| pending.seq.0).collect();
        assert_eq!((seqs, aside.next_look(), aside.len()), (vec![1, 2], None, 0));
    }
}
