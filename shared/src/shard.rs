//! Which shard a conversation belongs to.

use std::fmt;

use xxhash_rust::xxh64::xxh64;

use crate::conversation::Conversation;

/// Number of one shard, below the [`ShardCount`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShardId(pub u16);

impl fmt::Display for ShardId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// How many shards there are: at least 1, fixed for the life of a deployment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShardCount(u16);

impl ShardCount {
    /// Most shards that make sense: each costs a queue and a channel in every gateway.
    pub const MAX: u16 = 1024;

    /// Of a deployment that asks for no other number. A batch costs much more than the messages in it, and each shard
    /// makes batches of its own: few shards mean low latency at middling loads, and one alone carries a burst of two
    /// cores. There is work for so many workers.
    pub const DEFAULT: Self = Self(2);

    /// `None` for 0 or more than [`ShardCount::MAX`].
    #[must_use]
    pub fn new(count: u16) -> Option<Self> {
        (1..=Self::MAX).contains(&count).then_some(Self(count))
    }

    /// The plain number.
    #[must_use]
    pub fn get(self) -> u16 {
        self.0
    }

    /// All shards in rising order.
    pub fn all(self) -> impl Iterator<Item = ShardId> + Clone {
        (0..self.0).map(ShardId)
    }

    /// The shard of `conversation`: XXH64 with seed 0 of its storage key, modulo the count.
    ///
    /// Part of the storage format: with another hash, one conversation would be in two queues during a change.
    #[must_use]
    pub fn of(self, conversation: &Conversation) -> ShardId {
        #[allow(clippy::cast_possible_truncation)] // below a u16
        ShardId((xxh64(conversation.key().as_bytes(), 0) % u64::from(self.0)) as u16)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_never_changes() {
        let count = ShardCount::new(8).unwrap();
        let shards: Vec<u16> = ["group_101", "group_102", "group_a", "private_alice bob"]
            .iter()
            .map(|key| count.of(&Conversation::from_key(key).unwrap()).0)
            .collect();
        assert_eq!(shards, GOLDEN);
        // XXH64 of the empty input with seed 0, from the specification of xxHash.
        assert_eq!(xxh64(b"", 0), 0xEF46_DB37_51D8_E999);
    }

    const GOLDEN: [u16; 4] = [7, 2, 4, 2];

    #[test]
    fn counts_have_bounds() {
        assert_eq!(ShardCount::new(0), None);
        assert_eq!(ShardCount::new(1025), None);
        assert_eq!(ShardCount::new(3).unwrap().all().count(), 3);
    }
}
