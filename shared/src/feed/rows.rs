//! Rows of the feed.

use super::body::FeedBody;

/// A row that a transaction adds to the feed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewRow {
    /// The shard.
    pub shard: u16,
    /// What the transaction changed.
    pub body: FeedBody,
}

/// A row of the feed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Its place in the shard, from 1, without gaps.
    pub position: u64,
    /// When its transaction wrote it, in milliseconds since 1970, by the clock of its process.
    pub written_at: i64,
    /// What the transaction changed.
    pub body: FeedBody,
}
