//! Shards: the work queues into which conversations are hashed.

use std::fmt;

use xxhash_rust::xxh64::xxh64;

use crate::conversation::Conversation;

/// The number of one shard, below the [`ShardCount`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShardId(pub u16);

impl fmt::Display for ShardId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The number of shards: at least 1, fixed when the deployment first starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShardCount(u16);

impl ShardCount {
    /// The largest useful number: each shard costs a queue, and a channel in every gateway.
    pub const MAX: u16 = 1024;

    /// The number for a deployment that configures none. A batch costs much more than a message in it, and each shard has
    /// its own batches: few shards mean a low latency at medium load, and one shard carries a burst on two cores. There is
    /// work for at most as many workers as shards.
    pub const DEFAULT: Self = Self(2);

    /// Checks the number: `None` for 0, and for more than [`ShardCount::MAX`].
    #[must_use]
    pub fn new(count: u16) -> Option<Self> {
        (1..=Self::MAX).contains(&count).then_some(Self(count))
    }

    /// The plain number.
    #[must_use]
    pub fn get(self) -> u16 {
        self.0
    }

    /// All shards in ascending order.
    pub fn all(self) -> impl Iterator<Item = ShardId> + Clone {
        (0..self.0).map(ShardId)
    }

    /// The shard of `conversation`: XXH64 of its key with seed 0, modulo the count.
    ///
    /// The hash is part of the storage format: another one would put a conversation into two queues during an update.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "the remainder is below a u16")]
    pub fn of(self, conversation: &Conversation) -> ShardId {
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
