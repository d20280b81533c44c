//! The newest rows of each shard, decoded once for all calls of users.
//!
//! The calls themselves fill a tail: the first one that needs rows behind its end reads them, and the others wait for that.
//! A call that is further behind reads from MySQL on its own, until it has caught up.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;
use shared::feed::{FeedShards, Row};
use shared::metrics::GATEWAY_FEED_ROWS;
use shared::mysql::feed;
use shared::mysql::{self, Pool};
use tokio::time::{Duration, Instant};

/// Rows that are read at once.
pub(super) const ROWS_AT_ONCE: u32 = 256;
/// Rows of a tail.
const ROWS_MAX: usize = 2_048;
/// What the rows of all tails name, conversations and users, at most: some 20 MB.
const ITEMS_MAX: usize = 131_072;
/// A tail that was not used for this time is dropped.
pub(super) const UNUSED_MAX: Duration = Duration::from_secs(60);

/// The tails of all shards.
#[derive(Debug)]
pub(super) struct Tails {
    pool: Pool,
    shards: Vec<Tail>,
    items_max: usize,
}

#[derive(Debug, Default)]
struct Tail {
    recent: Mutex<Recent>,
    /// Held while rows are read for the tail.
    filling: tokio::sync::Mutex<()>,
}

/// Rows without gaps.
#[derive(Debug, Default)]
struct Recent {
    rows: VecDeque<Arc<Row>>,
    items: usize,
    used_at: Option<Instant>,
}

/// Where a call is.
#[derive(Debug, PartialEq, Eq)]
enum Found {
    /// In the tail: the next rows.
    Rows(Vec<Arc<Row>>),
    /// Before its first row.
    Before,
    /// At its end, or behind it.
    End,
}

/// Some rows.
#[derive(Debug)]
pub(super) struct NextRows {
    /// Without gaps, from the next one on; empty if that one is not there.
    pub(super) rows: Vec<Arc<Row>>,
    /// How many were read from MySQL for this call.
    pub(super) read: usize,
}

impl Tails {
    pub(super) fn new(pool: Pool, shards: FeedShards) -> Self {
        let items_max = ITEMS_MAX / usize::from(shards.get());
        Self { pool, shards: shards.all().map(|_| Tail::default()).collect(), items_max }
    }

    /// The next rows of `shard` after `position`, which is below its newest one.
    ///
    /// # Errors
    /// The database's.
    pub(super) async fn rows(&self, shard: u16, position: u64) -> Result<NextRows, mysql::Error> {
        let Some(tail) = self.shards.get(usize::from(shard)) else {
            return Ok(NextRows { rows: Vec::new(), read: 0 });
        };
        let mut found = tail.recent.lock().after(position);
        let mut filling = None;
        if found == Found::End {
            filling = Some(tail.filling.lock().await);
            // Another call may have read them meanwhile.
            found = tail.recent.lock().after(position);
        }
        if let Found::Rows(rows) = found {
            return Ok(NextRows { rows, read: 0 });
        }
        let rows = feed::rows(&self.pool, shard, position, ROWS_AT_ONCE).await?;
        metrics::counter!(GATEWAY_FEED_ROWS).increment(rows.len() as u64);
        let read = rows.len();
        let rows: Vec<Arc<Row>> = contiguous(rows, position).map(Arc::new).collect();
        if filling.is_some() {
            tail.recent.lock().append(position, &rows, self.items_max);
        }
        Ok(NextRows { rows, read })
    }

    /// Drops the tails that nobody has used since `before`.
    pub(super) fn drop_unused(&self, before: Instant) {
        for tail in &self.shards {
            let mut recent = tail.recent.lock();
            if recent.used_at.is_some_and(|used_at| used_at < before) {
                *recent = Recent::default();
            }
        }
    }
}

/// Those of `rows` that follow `position` without a gap.
fn contiguous(rows: Vec<Row>, position: u64) -> impl Iterator<Item = Row> {
    rows.into_iter().zip(position + 1..).take_while(|(row, next)| row.position == *next).map(|(row, _)| row)
}

impl Recent {
    /// At most [`ROWS_AT_ONCE`] rows.
    fn after(&mut self, position: u64) -> Found {
        self.used_at = Some(Instant::now());
        let Some(first) = self.rows.front().map(|row| row.position) else { return Found::End };
        if position + 1 < first {
            return Found::Before;
        }
        let skipped = usize::try_from(position + 1 - first).unwrap_or(usize::MAX);
        if skipped >= self.rows.len() {
            return Found::End;
        }
        Found::Rows(self.rows.range(skipped..).take(ROWS_AT_ONCE as usize).cloned().collect())
    }

    /// Adds the rows after `position`, and drops the oldest ones beyond the limits. If `position` is not the end, there is a
    /// gap, and the tail begins anew.
    fn append(&mut self, position: u64, rows: &[Arc<Row>], items_max: usize) {
        if self.rows.back().is_some_and(|last| last.position != position) {
            self.rows.clear();
            self.items = 0;
        }
        for row in rows {
            self.items += items(row);
            self.rows.push_back(Arc::clone(row));
        }
        while self.rows.len() > ROWS_MAX || self.items > items_max {
            let Some(oldest) = self.rows.pop_front() else { return };
            self.items -= items(&oldest);
        }
    }
}

/// What a row names, and itself.
fn items(row: &Row) -> usize {
    let body = &row.body;
    let group = body.group.as_ref().map_or(0, |changed| 1 + changed.joined.len() + changed.left.len());
    1 + body.ranges.len() + body.corrected.len() + body.refused.len() + group
}

#[cfg(test)]
mod tests {
    use shared::conversation::Conversation;
    use shared::feed::{FeedBody, SeqRange};
    use shared::ids::Seq;

    use super::*;

    fn row(position: u64, ranges: usize) -> Row {
        let conversation = Conversation::from_key("group_1").unwrap();
        let range = SeqRange { conversation, after: Seq(0), last: Seq(1) };
        let body = FeedBody { ranges: vec![range; ranges], ..FeedBody::default() };
        Row { position, written_at: 0, body }
    }

    fn rows(positions: std::ops::RangeInclusive<u64>) -> Vec<Arc<Row>> {
        positions.map(|position| Arc::new(row(position, 1))).collect()
    }

    fn positions(found: Found) -> Vec<u64> {
        let Found::Rows(rows) = found else { panic!("{found:?}") };
        rows.iter().map(|row| row.position).collect()
    }

    #[test]
    fn a_tail_gives_what_it_has_and_begins_anew_after_a_gap() {
        let mut recent = Recent::default();
        assert_eq!(recent.after(7), Found::End);
        recent.append(7, &rows(8..=10), 1_000);
        recent.append(10, &rows(11..=11), 1_000);
        assert_eq!(positions(recent.after(7)), [8, 9, 10, 11]);
        assert_eq!(positions(recent.after(10)), [11]);
        assert_eq!(recent.after(6), Found::Before);
        assert_eq!(recent.after(11), Found::End);
        assert_eq!(recent.after(20), Found::End);
        recent.append(20, &rows(21..=21), 1_000);
        assert_eq!(positions(recent.after(20)), [21]);
        assert_eq!(recent.after(11), Found::Before);
        recent.append(21, &[], 1_000);
        assert_eq!(positions(recent.after(20)), [21], "nothing was there");
    }

    #[test]
    fn a_tail_is_bounded_by_rows_and_by_what_they_name() {
        let mut recent = Recent::default();
        recent.append(0, &rows(1..=3_000), usize::MAX);
        assert_eq!((recent.rows.len(), recent.items), (ROWS_MAX, 2 * ROWS_MAX));
        assert_eq!(positions(recent.after(952)).len(), ROWS_AT_ONCE as usize);
        recent.append(3_000, &[Arc::new(row(3_001, 50))], 60);
        assert_eq!((recent.rows.len(), recent.items), (5, 59), "51 and four of two");
        recent.append(3_001, &[Arc::new(row(3_002, 500))], 60);
        assert_eq!((recent.rows.len(), recent.items), (0, 0));
        assert_eq!(recent.after(3_002), Found::End);
    }

    #[test]
    fn rows_behind_a_gap_are_left_out() {
        let rows = |positions: &[u64]| positions.iter().map(|position| row(*position, 0)).collect::<Vec<_>>();
        let found = |given: &[u64]| contiguous(rows(given), 4).map(|row| row.position).collect::<Vec<_>>();
        assert_eq!(found(&[5, 6, 8]), [5, 6]);
        assert_eq!(found(&[6, 7]), [0; 0]);
    }
}
