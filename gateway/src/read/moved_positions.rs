//! Announces moved read positions with their unread counts.
//!
//! Counting may take a while, so it is not part of the acknowledgement: few counts run at the same time, and a position
//! that moved again before it was counted is announced once, where it is then.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use ahash::AHashMap;
use parking_lot::Mutex;
use proto::v1;
use shared::conversation::Conversation;
use shared::ids::{ConnectionId, Seq, UserId};
use shared::message::origin_to_wire;
use shared::shutdown::Shutdown;
use tokio::time::timeout;

use super::tail_cache::TailCache;
use crate::announce::Announcer;
use crate::budget::{Payer, cost};

/// Counts that run at the same time.
const COUNTS_AT_ONCE: usize = 2;
/// Positions that wait to be counted; further ones are announced without a count.
const WAITING_MAX: usize = 10_000;
/// A position whose count takes longer is announced without it.
const COUNT_TIMEOUT: Duration = Duration::from_secs(5);

type Key = (UserId, Conversation);

/// A read position that moved.
#[derive(Debug)]
pub(super) struct MovedPosition {
    pub(super) position: Seq,
    /// Messages up to here are not unread, whatever the position is.
    pub(super) counted_from: Seq,
    /// The connection that moved it, which gets no event.
    pub(super) origin: ConnectionId,
    /// Who pays for the count.
    pub(super) payer: Payer,
}

/// Handle to the announcements. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct MovedPositions {
    tails: Arc<TailCache>,
    announcer: Announcer,
    tasks: Shutdown,
    waiting: Arc<Mutex<Waiting>>,
}

/// Positions that wait to be counted, in the order of their first move.
#[derive(Debug, Default)]
struct Waiting {
    order: VecDeque<Key>,
    moved: AHashMap<Key, MovedPosition>,
    /// Tasks that count.
    counting: usize,
}

/// What to do with a position that moved.
#[derive(Debug)]
enum Added {
    /// A task that counts will take it.
    Waits,
    /// Begin a task that counts.
    Begin,
    /// Too many wait: announce it without a count.
    Full(MovedPosition),
}

impl Waiting {
    fn add(&mut self, key: Key, moved: MovedPosition) -> Added {
        if let Some(earlier) = self.moved.get_mut(&key) {
            // Requests of several connections are answered in any order.
            if earlier.position < moved.position {
                *earlier = moved;
            }
            return Added::Waits;
        }
        if self.moved.len() >= WAITING_MAX {
            return Added::Full(moved);
        }
        self.order.push_back(key.clone());
        self.moved.insert(key, moved);
        if self.counting >= COUNTS_AT_ONCE {
            return Added::Waits;
        }
        self.counting += 1;
        Added::Begin
    }

    /// The next position to count. Without one, the task that asks has ended.
    fn take(&mut self) -> Option<(Key, MovedPosition)> {
        while let Some(key) = self.order.pop_front() {
            if let Some(moved) = self.moved.remove(&key) {
                return Some((key, moved));
            }
        }
        self.counting -= 1;
        None
    }
}

impl MovedPositions {
    /// Counts by `tails`, in tasks of `tasks`, and announces through `announcer`.
    pub(super) fn new(tails: Arc<TailCache>, announcer: Announcer, tasks: Shutdown) -> Self {
        Self { tails, announcer, tasks, waiting: Arc::default() }
    }

    /// Announces that the position of `user` in `conversation` moved, soon and with an unread count.
    pub(super) fn announce(&self, user: &UserId, conversation: &Conversation, moved: MovedPosition) {
        let key = (user.clone(), conversation.clone());
        let added = self.waiting.lock().add(key.clone(), moved);
        match added {
            Added::Waits => {}
            Added::Begin => {
                self.tasks.spawn(self.clone().count_all());
            }
            Added::Full(moved) => self.announce_now(&key, &moved, None),
        }
    }

    async fn count_all(self) {
        loop {
            let next = self.waiting.lock().take();
            let Some((key, moved)) = next else { return };
            let (user, conversation) = &key;
            let counted_from = moved.position.max(moved.counted_from);
            let summary = self.tails.summary(conversation, moved.position, user, counted_from);
            let unread = match timeout(COUNT_TIMEOUT, summary).await {
                Ok(Ok(summary)) => {
                    moved.payer.spend(cost::of_rows(summary.counted));
                    Some(summary.unread)
                }
                _ => None,
            };
            self.announce_now(&key, &moved, unread);
        }
    }

    fn announce_now(&self, (user, conversation): &Key, moved: &MovedPosition, unread: Option<u64>) {
        self.announcer.announce(v1::event::Kind::PositionMoved(v1::PositionMoved {
            conversation: conversation.key().to_owned(),
            user_id: user.as_str().to_owned(),
            seq: moved.position.0,
            origin: Some(origin_to_wire(moved.origin)),
            unread,
        }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: usize) -> Key {
        (UserId::parse("alice").unwrap(), Conversation::from_key(&format!("group_{n}")).unwrap())
    }

    fn moved(position: u64) -> MovedPosition {
        let origin = ConnectionId { gateway: 1, connection: 1 };
        MovedPosition { position: Seq(position), counted_from: Seq::ZERO, origin, payer: Payer::Operator }
    }

    #[test]
    fn a_position_that_moves_again_is_counted_once_where_it_is_then() {
        let mut waiting = Waiting::default();
        assert!(matches!(waiting.add(key(1), moved(5)), Added::Begin));
        assert!(matches!(waiting.add(key(1), moved(9)), Added::Waits));
        assert!(matches!(waiting.add(key(1), moved(7)), Added::Waits));
        assert!(matches!(waiting.add(key(2), moved(1)), Added::Begin), "two counts at once");
        assert!(matches!(waiting.add(key(3), moved(1)), Added::Waits));
        let (first, position) = waiting.take().unwrap();
        assert_eq!((first, position.position), (key(1), Seq(9)));
        assert_eq!(waiting.take().unwrap().0, key(2));
        assert_eq!(waiting.take().unwrap().0, key(3));
        assert!(waiting.take().is_none() && waiting.take().is_none());
        assert!(matches!(waiting.add(key(1), moved(10)), Added::Begin), "both tasks have ended");
    }

    #[test]
    fn waiting_positions_are_bounded() {
        let mut waiting = Waiting::default();
        for n in 0..WAITING_MAX {
            assert!(!matches!(waiting.add(key(n), moved(1)), Added::Full(_)));
        }
        assert!(matches!(waiting.add(key(WAITING_MAX), moved(1)), Added::Full(_)));
        assert!(matches!(waiting.add(key(0), moved(2)), Added::Waits));
        waiting.take();
        assert!(matches!(waiting.add(key(WAITING_MAX), moved(1)), Added::Waits));
    }
}
