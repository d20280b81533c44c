//! `feed_reader`: how the gateways' own readers fare.

use sqlx::{MySqlConnection, Row as _};

use crate::feed::Cursor;
use crate::ids::unix_millis;
use crate::mysql::Pool;

/// Characters of an error that are stored.
const ERROR_CHARS_MAX: usize = 500;

/// How a reader of a shard fares. Times are in milliseconds since 1970; 0: never.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReaderState {
    /// The name of the reader.
    pub name: String,
    /// The shard that it reads.
    pub shard: u16,
    /// How far it has read.
    pub cursor: Cursor,
    /// The position of the newest row of the shard.
    pub head: u64,
    /// When the next row that it reads was written; `None` if there is none.
    pub next_written_at: Option<i64>,
    /// Nobody runs it.
    pub is_paused: bool,
    /// The gateway that runs it; empty if none does.
    pub owner: String,
    /// Failures since the place was moved last.
    pub failures: u32,
    /// The time of the first of them.
    pub failing_since: i64,
    /// Of the last failure there was; empty if there was none.
    pub last_error: String,
    /// Its time.
    pub last_error_at: i64,
    /// When it tries again; 0: it does not wait.
    pub next_attempt_at: i64,
    /// When it succeeded last.
    pub last_success_at: i64,
}

/// The readers whose names begin with `prefix`, by name and shard. One read by primary key for each.
///
/// # Errors
/// The database's.
pub async fn reader_states(pool: &Pool, prefix: &str) -> sqlx::Result<Vec<ReaderState>> {
    let rows = sqlx::query(
        "SELECT r.name, r.shard, r.position, r.event_index, s.head, r.is_paused, \
         IF(r.leased_until > CAST(UNIX_TIMESTAMP(NOW(3)) * 1000 AS SIGNED), r.owner, ''), \
         r.failures, r.failing_since, r.last_error, r.last_error_at, r.next_attempt_at, r.last_success_at, \
         (SELECT f.written_at FROM feed_change f WHERE f.shard = r.shard AND f.position > r.position \
         ORDER BY f.position LIMIT 1) \
         FROM feed_reader r JOIN feed_shard s ON s.shard = r.shard \
         WHERE LEFT(r.name, CHAR_LENGTH(?)) = ? ORDER BY r.name, r.shard",
    )
    .bind(prefix)
    .bind(prefix)
    .fetch_all(pool)
    .await?;
    let state = |row: &sqlx::mysql::MySqlRow| {
        Ok(ReaderState {
            name: row.try_get(0)?,
            shard: row.try_get(1)?,
            cursor: Cursor { position: row.try_get(2)?, index: row.try_get(3)? },
            head: row.try_get(4)?,
            is_paused: row.try_get(5)?,
            owner: row.try_get(6)?,
            failures: row.try_get(7)?,
            failing_since: row.try_get(8)?,
            last_error: row.try_get(9)?,
            last_error_at: row.try_get(10)?,
            next_attempt_at: row.try_get(11)?,
            last_success_at: row.try_get(12)?,
            next_written_at: row.try_get(13)?,
        })
    };
    rows.iter().map(state).collect()
}

/// Records that a reader failed, and tries again at `next_attempt_at`. False if `owner` has the lease no longer.
///
/// # Errors
/// The database's.
pub async fn record_failure(
    connection: &mut MySqlConnection,
    (owner, name, shard): (&str, &str, u16),
    error: &str,
    next_attempt_at: i64,
) -> sqlx::Result<bool> {
    let error: String = error.chars().take(ERROR_CHARS_MAX).collect();
    let now = unix_millis();
    let recorded = sqlx::query(
        "UPDATE feed_reader SET failing_since = IF(failures = 0, ?, failing_since), failures = failures + 1, \
         last_error = ?, last_error_at = ?, next_attempt_at = ? WHERE name = ? AND shard = ? AND owner = ?",
    )
    .bind(now)
    .bind(error)
    .bind(now)
    .bind(next_attempt_at)
    .bind(name)
    .bind(shard)
    .bind(owner)
    .execute(connection)
    .await?;
    Ok(recorded.rows_affected() > 0)
}
