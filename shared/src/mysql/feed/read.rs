//! Reading rows, and the messages that they are about.

use std::sync::LazyLock;

use ahash::AHashMap;
use sqlx::{AssertSqlSafe, Row as _};

use crate::conversation::Conversation;
use crate::feed::{FeedBody, Found, Plan, Row, Wanted};
use crate::message::Stored;
use crate::mysql::multi_row::MultiRow;
use crate::mysql::{Pool, changes, timeline};

/// Which rows a shard has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// The shard.
    pub shard: u16,
    /// The position before the oldest row.
    pub before: u64,
    /// The position of the newest row there was; equal to `before` if none is kept.
    pub head: u64,
}

/// The extents of all shards, rising. Empty if the feed was never switched on. One read by primary key for each shard.
///
/// # Errors
/// The database's.
pub async fn extents(pool: &Pool) -> sqlx::Result<Vec<Extent>> {
    let rows: Vec<(u16, u64, Option<u64>)> = sqlx::query_as(
        "SELECT s.shard, s.head, (SELECT f.position FROM feed_change f WHERE f.shard = s.shard ORDER BY f.position LIMIT 1) \
         FROM feed_shard s ORDER BY s.shard",
    )
    .fetch_all(pool)
    .await?;
    let extent = |(shard, head, first): (u16, u64, Option<u64>)| {
        let before = first.map_or(head, |first| first - 1);
        Extent { shard, before, head }
    };
    Ok(rows.into_iter().map(extent).collect())
}

/// The position of the newest row of each shard, by shard.
///
/// # Errors
/// The database's.
pub async fn heads(pool: &Pool) -> sqlx::Result<Vec<(u16, u64)>> {
    sqlx::query_as("SELECT shard, head FROM feed_shard").fetch_all(pool).await
}

/// The rows of `shard` after `position`, in order, at most `count`.
///
/// # Errors
/// The database's; a body that was not written by this program.
pub async fn rows(pool: &Pool, shard: u16, position: u64, count: u32) -> sqlx::Result<Vec<Row>> {
    let rows: Vec<(u64, i64, Vec<u8>)> = sqlx::query_as(
        "SELECT position, written_at, body FROM feed_change WHERE shard = ? AND position > ? ORDER BY position LIMIT ?",
    )
    .bind(shard)
    .bind(position)
    .bind(count)
    .fetch_all(pool)
    .await?;
    let row = |(position, written_at, body): (u64, i64, Vec<u8>)| {
        let body = FeedBody::from_json(&body).map_err(|error| sqlx::Error::Decode(Box::new(error)))?;
        Ok(Row { position, written_at, body })
    };
    rows.into_iter().map(row).collect()
}

/// The position before the first row of a shard that was written at `time_ms` or later; the newest position if none was.
/// Finds it by some reads by primary key. Rows are written in the order of their positions, but their times are those of
/// several clocks: if these differ, so does the result.
///
/// # Errors
/// The database's.
pub async fn position_before(pool: &Pool, extent: Extent, time_ms: i64) -> sqlx::Result<u64> {
    // All rows up to `low` were written before, none above `high` was.
    let (mut low, mut high) = (extent.before, extent.head);
    while low < high {
        let middle = low + (high - low).div_ceil(2);
        let written: Option<i64> =
            sqlx::query_scalar("SELECT written_at FROM feed_change WHERE shard = ? AND position = ?")
                .bind(extent.shard)
                .bind(middle)
                .fetch_optional(pool)
                .await?;
        // A row that was removed meanwhile is older.
        if written.is_none_or(|written| written < time_ms) {
            low = middle;
        } else {
            high = middle - 1;
        }
    }
    Ok(low)
}

static RANGES: LazyLock<MultiRow> = LazyLock::new(|| {
    MultiRow::new(
        "SELECT seq, msg_id, sender_id, content, msg_type, send_time, is_recalled, extra, conversation_id \
         FROM timeline_message WHERE ",
        "(conversation_id = ? AND seq > ? AND seq <= ?)",
        " OR ",
        "",
    )
});

/// The messages that `plan` needs, in their present state.
///
/// # Errors
/// The database's.
pub async fn messages(pool: &Pool, plan: &Plan<'_>) -> sqlx::Result<Found> {
    let mut messages = Vec::new();
    for (range, length, text) in RANGES.padded(plan.wanted.len()) {
        let wanted = &plan.wanted[range];
        let mut query = sqlx::query(AssertSqlSafe(text));
        for Wanted { conversation, after, last } in
            wanted.iter().chain(wanted.last().into_iter().cycle()).take(length)
        {
            query = query.bind(conversation.key()).bind(after.0).bind(last.0);
        }
        let by_key: AHashMap<&str, &Conversation> =
            wanted.iter().map(|wanted| (wanted.conversation.key(), &wanted.conversation)).collect();
        for row in query.fetch_all(pool).await? {
            if let Some(conversation) = by_key.get(row.try_get::<&str, _>(8)?) {
                messages.push(timeline::stored(conversation, &row)?);
            }
        }
    }
    add_reactions(pool, &mut messages).await?;
    let mut tail = Vec::new();
    if let Some((Wanted { conversation, after, last }, rows)) = &plan.tail {
        let rows = u32::try_from(*rows).unwrap_or(u32::MAX);
        tail = timeline::read(pool, conversation, *after, timeline::Direction::Forward, rows).await?;
        // Those above are of later rows.
        tail.retain(|message| message.seq <= *last);
    }
    Ok(Found::new(messages, tail, plan))
}

async fn add_reactions(pool: &Pool, messages: &mut [Stored]) -> sqlx::Result<()> {
    messages
        .sort_unstable_by(|a, b| a.message.conversation.cmp(&b.message.conversation).then(a.seq.cmp(&b.seq)));
    for of_one in messages.chunk_by_mut(|a, b| a.message.conversation == b.message.conversation) {
        let conversation = of_one[0].message.conversation.clone();
        changes::add_reactions(pool, &conversation, of_one).await?;
    }
    Ok(())
}
