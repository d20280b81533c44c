//! The newest messages of conversations, for unread counts and for the last message of a list entry.
//!
//! Messages never change their sequence number or sender, so that a cached tail stays true and only newer messages are
//! added. Requests for one conversation wait for the same query: a thousand members that reconnect at once cost one.

use std::collections::VecDeque;
use std::sync::Arc;

use ahash::{AHashMap, RandomState};
use parking_lot::Mutex;
use shared::conversation::Conversation;
use shared::ids::{Seq, UserId};
use shared::message::Stored;
use shared::mysql::timeline::{self, Direction};
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
            (Summary { last_seq: tail.last_seq, last_message, unread, counted: 0 }, tail.begins_after)
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
        let newest = timeline::read(&self.pool, conversation, Seq::ZERO, Direction::Backward, 1).await?;
        let newest = newest.into_iter().next();
        // A commit between the two queries must not make the last message newer than the count.
        if newest.as_ref().map(|message| message.seq) == rows.first().map(|row| row.seq) || rows.is_empty() {
            tail.last_message = newest.map(Arc::new).or(tail.last_message.take());
        } else if let Some(row) = rows.first() {
            let last =
                timeline::read(&self.pool, conversation, row.seq.next(), Direction::Backward, 1).await?;
            tail.last_message = last.into_iter().next().map(Arc::new);
        }
        tail.add(&rows, &self.hasher);
        tail.last_seq = tail.last_seq.max(at_least);
        tail.was_read = true;
        Ok(())
    }
}

/// One message of a tail.
#[derive(Debug, Clone, Copy)]
struct TailMessage {
    seq: Seq,
    /// Hash of the user id, in 8 bytes instead of 64.
    sender: u64,
    /// It is neither a recall nor recalled.
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
            if let Some(recalled) = row.recalls
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
            counts: recalls.is_none(),
            recalls: recalls.map(Seq),
        }
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
