//! `feed_shard` and `feed_change`: the change feed (see [`feed`](crate::feed)). `feed_reader`: the gateways' own readers.

mod open;
mod prune;
mod read;
mod reader_state;
mod readers;
mod write;

pub use open::{FeedError, open};
pub use prune::prune;
pub use read::{Extent, extents, heads, messages, position_before, rows};
pub use reader_state::{ReaderState, reader_states, record_failure};
pub use readers::{
    StoredReader, add_reader, advance, all_readers, move_reader, pause_reader, release_leases, remove_reader,
    renew_leases, take_lease,
};
pub(super) use write::append_and_commit;
