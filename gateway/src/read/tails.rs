//! The newest messages of conversations that are asked about, for counting what is unread and for showing the last one.
//!
//! Rows of a timeline never change their number or sender, so what was read stays true and only what is newer has to
//! be added. Everyone who waits for the same conversation waits for the same read: a thousand members who come back at
//! once cost one.

use std::collections::VecDeque;
use std::sync::Arc;

use ahash::{AHashMap, RandomState};
use parking_lot::Mutex;
use shared::conversation::Conversation;
use shared::ids::{Seq, UserId};
use shared::message::Stored;
use shared::mysql::timeline::{self, Direction};
use shared::mysql::{self, Pool, unread};

/// Messages of one conversation that are kept for counting; what is older is counted by the database.
const KEPT_MAX: usize = 1_000;
/// Conversations that are kept; beyond, all are forgotten and read again. Each takes 24 KiB at most, and its last message.
const CONVERSATIONS_MAX: usize = 2_000;

/// What a user sees of a conversation in its list.
#[derive(Debug, Clone)]
pub(super) struct Summary {
    pub(super) last_seq: Seq,
    pub(super) last_message: Option<Arc<Stored>>,
    pub(super) unread: u64,
}

/// What is kept of all conversations.
#[derive(Debug)]
pub(super) struct Tails {
    pool: Pool,
    hasher: RandomState,
    kept: Mutex<AHashMap<Conversation, Arc<tokio::sync::Mutex<Tail>>>>,
}

impl Tails {
    pub(super) fn new(pool: Pool) -> Self {
        Self { pool, hasher: RandomState::new(), kept: Mutex::default() }
    }

    /// The conversation as of `at_least` this number or a later one, and how many messages of others than `user` are
    /// above `read`.
    pub(super) async fn summary(
        &self,
        conversation: &Conversation,
        at_least: Seq,
        user: &UserId,
        read: Seq,
    ) -> Result<Summary, mysql::Error> {
        let tail = {
            let mut kept = self.kept.lock();
            if kept.len() >= CONVERSATIONS_MAX && !kept.contains_key(conversation) {
                kept.clear();
            }
            Arc::clone(kept.entry(conversation.clone()).or_default())
        };
        let (mut summary, counted_from) = {
            let mut tail = tail.lock().await;
            if !tail.was_read || tail.last < at_least {
                self.read_on(conversation, &mut tail, at_least).await?;
            }
            let me = self.hasher.hash_one(user.as_str());
            let unread = tail.unread(me, read);
            let summary = Summary { last_seq: tail.last, last_message: tail.last_message.clone(), unread };
            (summary, tail.from)
        };
        if read < counted_from {
            summary.unread += unread::count(&self.pool, conversation, user, read, counted_from).await?;
        }
        Ok(summary)
    }

    async fn read_on(
        &self,
        conversation: &Conversation,
        tail: &mut Tail,
        at_least: Seq,
    ) -> Result<(), mysql::Error> {
        metrics::counter!(shared::metrics::GATEWAY_TAIL_READS).increment(1);
        let limit = u32::try_from(KEPT_MAX).unwrap_or(u32::MAX);
        let rows = unread::newest(&self.pool, conversation, tail.last, limit).await?;
        let newest = timeline::read(&self.pool, conversation, Seq::ZERO, Direction::Backward, 1).await?;
        let newest = newest.into_iter().next();
        // More may have been committed between the two: what is said must be true of one moment.
        if newest.as_ref().map(|message| message.seq) == rows.first().map(|row| row.seq) || rows.is_empty() {
            tail.last_message = newest.map(Arc::new).or(tail.last_message.take());
        } else if let Some(row) = rows.first() {
            let shown =
                timeline::read(&self.pool, conversation, row.seq.next(), Direction::Backward, 1).await?;
            tail.last_message = shown.into_iter().next().map(Arc::new);
        }
        tail.add(&rows, &self.hasher);
        tail.last = tail.last.max(at_least);
        tail.was_read = true;
        Ok(())
    }
}

#[derive(Debug, Clone, Copy)]
struct Kept {
    seq: Seq,
    sender: u64,
    counts: bool,
}

/// The newest messages of one conversation.
#[derive(Debug, Default)]
struct Tail {
    was_read: bool,
    last: Seq,
    last_message: Option<Arc<Stored>>,
    /// All messages above this number, and up to the last one, are in `messages`.
    from: Seq,
    messages: VecDeque<Kept>,
}

impl Tail {
    /// Adds the newest rows, which fall; if there are as many as were asked for, something between them and what was
    /// there may be missing.
    fn add(&mut self, rows: &[unread::Counted], hasher: &RandomState) {
        if rows.len() >= KEPT_MAX {
            self.messages.clear();
            self.from = rows.last().map_or(self.from, |row| Seq(row.seq.0.saturating_sub(1)));
        }
        for row in rows.iter().rev() {
            let sender = hasher.hash_one(row.sender_id.as_str());
            self.messages.push_back(Kept { seq: row.seq, sender, counts: row.counts });
            if let Some(recalled) = row.recalls
                && let Ok(place) = self.messages.binary_search_by_key(&recalled, |kept| kept.seq)
            {
                self.messages[place].counts = false;
            }
            self.last = self.last.max(row.seq);
        }
        while self.messages.len() > KEPT_MAX {
            self.from = self.messages.pop_front().map_or(self.from, |kept| kept.seq);
        }
    }

    fn unread(&self, me: u64, read: Seq) -> u64 {
        let above = self.messages.iter().rev().take_while(|kept| kept.seq > read);
        above.filter(|kept| kept.counts && kept.sender != me).count() as u64
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
    fn messages_of_others_count_unless_they_were_recalled() {
        let hasher = RandomState::new();
        let mut tail = Tail::default();
        let bob = hasher.hash_one("bob");
        tail.add(&[row(7, "alice", None), row(4, "bob", None), row(2, "alice", None)], &hasher);
        assert_eq!((tail.last, tail.from), (Seq(7), Seq(0)));
        assert_eq!([0, 2, 6, 7].map(|read| tail.unread(bob, Seq(read))), [2, 1, 1, 0]);
        tail.add(&[row(9, "alice", Some(2)), row(8, "carol", None)], &hasher);
        assert_eq!(
            [0, 2, 7].map(|read| tail.unread(bob, Seq(read))),
            [2, 2, 1],
            "2 is recalled, 9 is no message"
        );
    }

    #[test]
    fn a_tail_is_bounded_and_knows_where_it_begins() {
        let hasher = RandomState::new();
        let mut tail = Tail::default();
        let rows = |numbers: std::ops::RangeInclusive<u64>| {
            numbers.rev().map(|n| row(n, "a", None)).collect::<Vec<_>>()
        };
        tail.add(&rows(1..=600), &hasher);
        tail.add(&rows(601..=1_200), &hasher);
        assert_eq!((tail.messages.len(), tail.from, tail.last), (KEPT_MAX, Seq(200), Seq(1_200)));
        assert_eq!(tail.unread(1, Seq(1_000)), 200);
        // As many as asked for: what lies between is not known.
        tail.add(&rows(2_001..=3_000), &hasher);
        assert_eq!((tail.messages.len(), tail.from, tail.last), (KEPT_MAX, Seq(2_000), Seq(3_000)));
    }
}
