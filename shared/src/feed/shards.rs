//! The shards of the feed.

use std::num::NonZeroU16;

use xxhash_rust::xxh64::xxh64;

use crate::conversation::Conversation;
use crate::ids::UserId;
use crate::shard::ShardLayout;

/// The number of shards of the feed. It is stored when the feed is first switched on and stays, whatever becomes of the
/// number of work queues: otherwise a conversation would continue in another shard, and a reader would not know when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FeedShards(NonZeroU16);

impl FeedShards {
    /// This number of shards; `None` for 0, and for more than [`ShardLayout::MAX`].
    #[must_use]
    pub fn new(count: u16) -> Option<Self> {
        NonZeroU16::new(count).filter(|_| count <= ShardLayout::MAX).map(Self)
    }

    /// The number of shards.
    #[must_use]
    pub fn get(self) -> u16 {
        self.0.get()
    }

    /// All shards in ascending order.
    pub fn all(self) -> impl Iterator<Item = u16> + Clone {
        0..self.get()
    }

    /// The shard of `conversation`. With as many shards as work queues, or with a divisor of their number, all conversations
    /// of a work queue belong to the same shard, and a commit adds one row.
    #[must_use]
    pub fn of(self, conversation: &Conversation) -> u16 {
        self.of_key(conversation.key())
    }

    /// The shard of `user`'s profile.
    #[must_use]
    pub fn of_user(self, user: &UserId) -> u16 {
        self.of_key(user.as_str())
    }

    #[expect(clippy::cast_possible_truncation, reason = "the remainder is below a u16")]
    fn of_key(self, key: &str) -> u16 {
        (xxh64(key.as_bytes(), 0) % u64::from(self.get())) as u16
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_work_queue_belongs_to_one_shard_if_the_feed_has_a_divisor_of_their_number() {
        for (queues, shards) in [(2, 2), (4, 2), (12, 3), (8, 1)] {
            let (layout, shards) = (ShardLayout::new(queues).unwrap(), FeedShards::new(shards).unwrap());
            for n in 0..200 {
                let conversation = Conversation::from_key(&format!("group_{n}")).unwrap();
                let queue = layout.of(&conversation).number();
                assert_eq!(shards.of(&conversation), queue % shards.get(), "{queues} {shards:?} {n}");
            }
        }
    }

    #[test]
    fn a_feed_has_a_shard_and_not_too_many() {
        assert_eq!(FeedShards::new(0), None);
        assert_eq!(FeedShards::new(ShardLayout::MAX + 1), None);
        assert_eq!(FeedShards::new(3).unwrap().all().collect::<Vec<_>>(), [0, 1, 2]);
    }
}
