//! Shards: the work queues into which conversations are hashed.

use std::fmt;
use std::str::FromStr;

use xxhash_rust::xxh64::xxh64;

use crate::conversation::Conversation;

/// One shard of one layout.
///
/// As a number: in the lower 16 bits its place in the layout, in the upper ones the generation of the layout, less one. So a
/// shard of the first layout is the plain number that processes of earlier versions know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShardId(pub u32);

impl ShardId {
    fn new(generation: u16, number: u16) -> Self {
        Self(u32::from(generation - 1) << 16 | u32::from(number))
    }

    /// Its place in the layout.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "the lower half")]
    pub fn number(self) -> u16 {
        self.0 as u16
    }

    /// The generation of its layout, from 1.
    #[must_use]
    pub fn generation(self) -> u16 {
        u16::try_from((self.0 >> 16) + 1).unwrap_or(u16::MAX)
    }
}

/// The end of the name of its queue: `7` in the first layout, `g2.7` in the second one.
impl fmt::Display for ShardId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.generation() {
            1 => self.number().fmt(f),
            generation => write!(f, "g{generation}.{}", self.number()),
        }
    }
}

/// The text is no name of a shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is not the name of a shard")]
pub struct NoShard;

impl FromStr for ShardId {
    type Err = NoShard;

    fn from_str(text: &str) -> Result<Self, NoShard> {
        let (generation, number) = match text.strip_prefix('g') {
            Some(rest) => rest.split_once('.').ok_or(NoShard)?,
            None => ("1", text),
        };
        let generation = generation.parse().ok().filter(|generation| *generation > 0).ok_or(NoShard)?;
        Ok(Self::new(generation, number.parse().map_err(|_| NoShard)?))
    }
}

/// The shards of a deployment: their number, and how many times it was changed. Each change makes another layout with queues
/// of its own, whose generation is one higher.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShardLayout {
    /// From 1.
    generation: u16,
    count: u16,
}

impl ShardLayout {
    /// The largest useful number: each shard costs a queue, and a channel in every gateway.
    pub const MAX: u16 = 1024;

    /// The layout of a deployment that configures none. A batch costs much more than a message in it, and each shard has
    /// its own batches: one shard means the lowest latency and price at everyday load, and carries a burst on two cores
    /// (`docs/decisions/0025-rounds-of-batches.md`). There is work for at most as many workers as shards; `imctl shards
    /// set` changes their number while the system runs.
    pub const DEFAULT: Self = Self { generation: 1, count: 1 };

    /// A first layout with this number of shards: `None` for 0, and for more than [`ShardLayout::MAX`].
    #[must_use]
    pub fn new(count: u16) -> Option<Self> {
        Self::of_generation(1, count)
    }

    /// A layout of this generation; `None` as for [`new`](Self::new).
    #[must_use]
    pub fn of_generation(generation: u16, count: u16) -> Option<Self> {
        ((1..=Self::MAX).contains(&count) && generation > 0).then_some(Self { generation, count })
    }

    /// The layout after this one, with another number of shards.
    #[must_use]
    pub fn next(self, count: u16) -> Option<Self> {
        Self::of_generation(self.generation.checked_add(1)?, count)
    }

    /// The number of shards.
    #[must_use]
    pub fn get(self) -> u16 {
        self.count
    }

    /// 1, and one more for each change of the number of shards.
    #[must_use]
    pub fn generation(self) -> u16 {
        self.generation
    }

    /// All shards in ascending order.
    pub fn all(self) -> impl Iterator<Item = ShardId> + Clone {
        (0..self.count).map(move |number| ShardId::new(self.generation, number))
    }

    /// Whether `shard` is one of its shards.
    #[must_use]
    pub fn has(self, shard: ShardId) -> bool {
        shard.generation() == self.generation && shard.number() < self.count
    }

    /// The shard of `conversation`: XXH64 of its key with seed 0, modulo the count.
    ///
    /// The hash is part of the storage format: another one would put a conversation into two queues during an update.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "the remainder is below a u16")]
    pub fn of(self, conversation: &Conversation) -> ShardId {
        let number = (xxh64(conversation.key().as_bytes(), 0) % u64::from(self.count)) as u16;
        ShardId::new(self.generation, number)
    }
}

/// `8`, or `8@2` for a layout of generation 2.
impl fmt::Display for ShardLayout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.generation {
            1 => self.count.fmt(f),
            generation => write!(f, "{}@{generation}", self.count),
        }
    }
}

impl FromStr for ShardLayout {
    type Err = NoShard;

    fn from_str(text: &str) -> Result<Self, NoShard> {
        let (count, generation) = text.split_once('@').unwrap_or((text, "1"));
        let parse = |number: &str| number.parse().map_err(|_| NoShard);
        Self::of_generation(parse(generation)?, parse(count)?).ok_or(NoShard)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_never_changes() {
        let count = ShardLayout::new(8).unwrap();
        let shards: Vec<u16> = ["group_101", "group_102", "group_a", "private_alice bob"]
            .iter()
            .map(|key| count.of(&Conversation::from_key(key).unwrap()).number())
            .collect();
        assert_eq!(shards, GOLDEN);
        // XXH64 of the empty input with seed 0, from the specification of xxHash.
        assert_eq!(xxh64(b"", 0), 0xEF46_DB37_51D8_E999);
    }

    const GOLDEN: [u16; 4] = [7, 2, 4, 2];

    #[test]
    fn counts_have_bounds() {
        assert_eq!(ShardLayout::new(0), None);
        assert_eq!(ShardLayout::new(1025), None);
        assert_eq!(ShardLayout::new(3).unwrap().all().count(), 3);
    }

    #[test]
    fn shards_of_the_first_layout_have_plain_names_and_numbers() {
        let (first, third) = (ShardLayout::new(3).unwrap(), ShardLayout::of_generation(3, 5).unwrap());
        let last = |layout: ShardLayout| layout.all().last().unwrap();
        assert_eq!((last(first).0, last(first).to_string()), (2, "2".to_owned()));
        assert_eq!((last(third).0, last(third).to_string()), ((2 << 16) + 4, "g3.4".to_owned()));
        for layout in [first, third] {
            assert_eq!(layout.to_string().parse(), Ok(layout));
            for shard in layout.all() {
                assert_eq!(shard.to_string().parse(), Ok(shard));
                assert!(layout.has(shard));
            }
        }
        assert!(!first.has(last(third)) && !third.has(last(first)));
        for bad in ["", "g", "g0.1", "g2", "-1", "g2.x", "65536"] {
            assert_eq!(bad.parse::<ShardId>(), Err(NoShard), "{bad}");
        }
    }
}
