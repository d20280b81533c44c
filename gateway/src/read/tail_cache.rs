//! The newest messages of conversations, for unread counts and for the last message of a list entry.
//!
//! Messages never change their sequence number or sender, so that a cached tail stays true and only newer messages are
//! added; a change of an earlier message is a newer entry. Requests for one conversation wait for the same query: a thousand members that reconnect at once cost one.

use std::collections::VecDeque;
use std::sync::Arc;

use ahash::{AHashMap, RandomState};
use parking_lot::Mutex;
use shared::conversation::Conversation;
use shared::ids::{Seq, UserId};
use shared::message::Stored;
use shared::mysql::timeline;
use shared::mysql::{self, Pool, unread};

/// Messages of one tail. Older messages are counted by MySQL.
const TAIL_MESSAGES_MAX: usize = 1_000;
/// Cached tails; one more empties the cache first. Each takes 24 KiB at most, and the last message.
const TAILS_MAX: usize = 2_000;

/// What a user sees of a conversation in a list.
#[derive(Debug, Clone)]
pub(super) struct Summary {
    pub(super) last_seq: Seq,
    pub(super) last_message: Option<Arc<Stored>>,
    pub(super) unread: u64,
    /// Some of the unread messages may mention the user.
    pub(super) may_mention: bool,
    /// Most messages that MySQL counted for it.
    pub(super) counted: u64,
}

/// The tails of conversations that were requested.
#[derive(Debug)]
pub(super) struct TailCache {
    pool: Pool,
    hasher: RandomState,
    tails: Mutex<AHashMap<Conversation, Arc<tokio::sync::Mutex<Tail>>>>,
}

impl TailCache {
    pub(super) fn new(pool: Pool) -> Self {
        Self { pool, hasher: RandomState::new(), tails: Mutex::default() }
    }

    /// The conversation as of `at_least` this `last_seq` or a later one, with the number of messages that others than
    /// `user` sent above `counted_from`.
    pub(super) async fn summary(
        &self,
        conversation: &Conversation,
        at_least: Seq,
        user: &UserId,
        counted_from: Seq,
    ) -> Result<Summary, mysql::Error> {
        let tail = self.tail(conversation);
        let (mut summary, tail_begins) = {
            let mut tail = tail.lock().await;
            if !tail.was_read || tail.last_seq < at_least {
                self.extend(conversation, &mut tail, at_least).await?;
            }
            let unread = tail.unread(self.hasher.hash_one(user.as_str()), counted_from);
            let last_message = tail.last_message.clone();
            let may_mention = counted_from < tail.last_mention.max(tail.begins_after);
            let last_seq = tail.last_seq;
            (Summary { last_seq, last_message, unread, may_mention, counted: 0 }, tail.begins_after)
        };
        if counted_from < tail_begins {
            summary.counted = (tail_begins.0 - counted_from.0).min(u64::from(unread::COUNTED_MAX));
            summary.unread +=
                unread::count(&self.pool, conversation, user, counted_from, tail_begins).await?;
        }
        Ok(summary)
    }

    fn tail(&self, conversation: &Conversation) -> Arc<tokio::sync::Mutex<Tail>> {
        let mut tails = self.tails.lock();
        if tails.len() >= TAILS_MAX && !tails.contains_key(conversation) {
            tails.clear();
        }
        Arc::clone(tails.entry(conversation.clone()).or_default())
    }

    /// Adds the messages that are newer than the tail.
    async fn extend(
        &self,
        conversation: &Conversation,
        tail: &mut Tail,
        at_least: Seq,
    ) -> Result<(), mysql::Error> {
        metrics::counter!(shared::metrics::GATEWAY_TAIL_READS).increment(1);
        let limit = u32::try_from(TAIL_MESSAGES_MAX).unwrap_or(u32::MAX);
        let rows = unread::newest(&self.pool, conversation, tail.last_seq, limit).await?;
        if let Some(last) = last_message(tail, &rows) {
            tail.last_message = match last {
                LastMessage::At(seq) => timeline::one(&self.pool, conversation, seq).await?,
                LastMessage::Below(seq) => timeline::last_message(&self.pool, conversation, seq).await?,
            }
            .map(Arc::new);
        }
        tail.add(&rows, &self.hasher);
        tail.last_seq = tail.last_seq.max(at_least);
        tail.was_read = true;
        Ok(())
    }
}

/// Where the last message of a conversation is.
#[derive(Debug, PartialEq, Eq)]
enum LastMessage {
    /// It has this sequence number.
    At(Seq),
    /// It is at this number or below.
    Below(Seq),
}

/// Where to read the last message after `rows`, newest first, were added; `None`: the cached one is still right. It is read by
/// its number, so that a commit in between does not make it newer than the count.
fn last_message(tail: &Tail, rows: &[unread::Counted]) -> Option<LastMessage> {
    if let Some(newest) = rows.iter().find(|row| row.is_message) {
        return Some(LastMessage::At(newest.seq));
    }
    match &tail.last_message {
        Some(last) => {
            rows.iter().any(|row| row.changes == Some(last.seq)).then_some(LastMessage::At(last.seq))
        }
        None => rows.last().map(|oldest| LastMessage::Below(oldest.seq)),
    }
}

/// One message of a tail.
#[derive(Debug, Clone, Copy)]
struct TailMessage {
    seq: Seq,
    /// Hash of the user id, in 8 bytes instead of 64.
    sender: u64,
    /// It is a message, and not recalled.
    counts: bool,
}

/// The newest messages of one conversation.
#[derive(Debug, Default)]
struct Tail {
    was_read: bool,
    last_seq: Seq,
    last_message: Option<Arc<Stored>>,
    /// `messages` has all messages above this sequence number, up to `last_seq`.
    begins_after: Seq,
    messages: VecDeque<TailMessage>,
    /// The newest message or edit that mentions somebody.
    last_mention: Seq,
}

impl Tail {
    /// Adds `rows`, newest first. A full batch of rows replaces the tail, because older new rows may be missing from it.
    fn add(&mut self, rows: &[unread::Counted], hasher: &RandomState) {
        if rows.len() >= TAIL_MESSAGES_MAX {
            self.messages.clear();
            self.begins_after = rows.last().map_or(self.begins_after, |row| Seq(row.seq.0.saturating_sub(1)));
        }
        for row in rows.iter().rev() {
            let sender = hasher.hash_one(row.sender_id.as_str());
            self.messages.push_back(TailMessage { seq: row.seq, sender, counts: row.counts });
            if row.mentions {
                self.last_mention = self.last_mention.max(row.seq);
            }
            if let Some(recalled) = row.changes.filter(|_| row.is_recall)
                && let Ok(index) = self.messages.binary_search_by_key(&recalled, |message| message.seq)
            {
                self.messages[index].counts = false;
            }
            self.last_seq = self.last_seq.max(row.seq);
        }
        while self.messages.len() > TAIL_MESSAGES_MAX {
            self.begins_after = self.messages.pop_front().map_or(self.begins_after, |message| message.seq);
        }
    }

    fn unread(&self, user: u64, counted_from: Seq) -> u64 {
        let above = self.messages.iter().rev().take_while(|message| message.seq > counted_from);
        above.filter(|message| message.counts && message.sender != user).count() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(seq: u64, sender: &str, recalls: Option<u64>) -> unread::Counted {
        unread::Counted {
            seq: Seq(seq),
            sender_id: sender.to_owned(),
            is_message: recalls.is_none(),
            counts: recalls.is_none(),
            changes: recalls.map(Seq),
            is_recall: recalls.is_some(),
            mentions: false,
        }
    }

    #[test]
    fn the_last_message_is_the_newest_that_is_no_change() {
        let reaction = |seq, to| unread::Counted { is_recall: false, ..row(seq, "bob", Some(to)) };
        let stored = shared::message::fixture::numbered("group_1", 5, "alice", "m").message;
        let tail = |last: Option<u64>| Tail {
            last_message: last.map(|seq| Arc::new(Stored::new(stored.clone(), Seq(seq)))),
            ..Tail::default()
        };
        let at = |seq| Some(LastMessage::At(Seq(seq)));
        assert_eq!(last_message(&tail(None), &[]), None);
        assert_eq!(last_message(&tail(Some(5)), &[row(7, "bob", None), row(6, "bob", None)]), at(7));
        assert_eq!(last_message(&tail(Some(5)), &[reaction(8, 6), row(7, "bob", None)]), at(7));
        assert_eq!(last_message(&tail(Some(5)), &[reaction(7, 4), reaction(6, 3)]), None);
        assert_eq!(last_message(&tail(Some(5)), &[reaction(7, 4), reaction(6, 5)]), at(5), "it changed");
        let system = |seq| unread::Counted { is_message: false, counts: false, ..row(seq, "bob", None) };
        assert_eq!(last_message(&tail(Some(5)), &[system(7), row(6, "bob", None)]), at(6));
        assert_eq!(last_message(&tail(Some(5)), &[system(7)]), None);
        let below = Some(LastMessage::Below(Seq(6)));
        assert_eq!(last_message(&tail(None), &[reaction(7, 4), reaction(6, 5)]), below);
    }

    #[test]
    fn mentions_above_the_read_position_are_noticed() {
        let (hasher, mut tail) = (RandomState::new(), Tail::default());
        let mention = |seq| unread::Counted { mentions: true, ..row(seq, "bob", None) };
        tail.add(&[row(3, "bob", None), mention(2)], &hasher);
        assert_eq!(tail.last_mention, Seq(2));
        tail.add(&[mention(5), row(4, "bob", None)], &hasher);
        assert_eq!(tail.last_mention, Seq(5));
    }

    #[test]
    fn messages_of_others_count_unless_they_are_recalled() {
        let hasher = RandomState::new();
        let mut tail = Tail::default();
        let bob = hasher.hash_one("bob");
        tail.add(&[row(7, "alice", None), row(4, "bob", None), row(2, "alice", None)], &hasher);
        assert_eq!((tail.last_seq, tail.begins_after), (Seq(7), Seq(0)));
        assert_eq!([0, 2, 6, 7].map(|read| tail.unread(bob, Seq(read))), [2, 1, 1, 0]);
        tail.add(&[row(9, "alice", Some(2)), row(8, "carol", None)], &hasher);
        assert_eq!(
            [0, 2, 7].map(|read| tail.unread(bob, Seq(read))),
            [2, 2, 1],
            "2 is recalled, 9 is a recall"
        );
    }

    #[test]
    fn a_tail_is_bounded_and_records_where_it_begins() {
        let hasher = RandomState::new();
        let mut tail = Tail::default();
        let rows = |numbers: std::ops::RangeInclusive<u64>| {
            numbers.rev().map(|n| row(n, "a", None)).collect::<Vec<_>>()
        };
        tail.add(&rows(1..=600), &hasher);
        tail.add(&rows(601..=1_200), &hasher);
        assert_eq!(
            (tail.messages.len(), tail.begins_after, tail.last_seq),
            (TAIL_MESSAGES_MAX, Seq(200), Seq(1_200))
        );
        assert_eq!(tail.unread(1, Seq(1_000)), 200);
        // A full batch: messages between it and the tail may be missing.
        tail.add(&rows(2_001..=3_000), &hasher);
        assert_eq!(
            (tail.messages.len(), tail.begins_after, tail.last_seq),
            (TAIL_MESSAGES_MAX, Seq(2_000), Seq(3_000))
        );
    }
}
