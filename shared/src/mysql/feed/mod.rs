//! `feed_shard` and `feed_change`: the change feed (see [`feed`](crate::feed)).

mod open;
mod prune;
mod read;
mod write;

pub use open::{FeedError, open};
pub use prune::prune;
pub use read::{Extent, extents, heads, messages, rows};
pub(super) use write::append_and_commit;
