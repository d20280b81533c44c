//! `feed_reader`: how far the gateways' own readers have read, and which gateway runs each of them.
//!
//! A reader of a shard runs in the gateway that has its lease. A gateway that was frozen for longer than its lease may still
//! believe that it has it: so its place is moved only by the statement that compares the owner ([`advance`]).

use sqlx::MySqlConnection;

use crate::feed::{Cursor, FeedShards};
use crate::ids::unix_millis;
use crate::mysql::Pool;

/// A reader of a shard, as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredReader {
    /// Its name.
    pub name: String,
    /// The shard that it reads.
    pub shard: u16,
    /// How far it has read.
    pub cursor: Cursor,
    /// Nobody runs it.
    pub is_paused: bool,
    /// The gateway that runs it; empty if none does.
    pub owner: String,
}

type Columns = (String, u16, u64, u64, bool, String);

impl From<Columns> for StoredReader {
    fn from((name, shard, position, index, is_paused, owner): Columns) -> Self {
        Self { name, shard, cursor: Cursor { position, index }, is_paused, owner }
    }
}

/// Adds a reader of all `shards` that begins after the newest row; what exists of it stays as it is.
///
/// # Errors
/// The database's.
pub async fn add_reader(
    connection: &mut MySqlConnection,
    name: &str,
    shards: FeedShards,
) -> sqlx::Result<()> {
    sqlx::query(
        "INSERT IGNORE INTO feed_reader (name, shard, position) SELECT ?, shard, head FROM feed_shard WHERE shard < ?",
    )
    .bind(name)
    .bind(shards.get())
    .execute(connection)
    .await
    .map(drop)
}

/// Removes a reader.
///
/// # Errors
/// The database's.
pub async fn remove_reader(connection: &mut MySqlConnection, name: &str) -> sqlx::Result<()> {
    sqlx::query("DELETE FROM feed_reader WHERE name = ?").bind(name).execute(connection).await.map(drop)
}

/// All readers, by name and shard.
///
/// # Errors
/// The database's.
pub async fn all_readers(pool: &Pool) -> sqlx::Result<Vec<StoredReader>> {
    // An owner whose lease is over is none.
    let rows: Vec<Columns> = sqlx::query_as(
        "SELECT name, shard, position, event_index, is_paused, \
         IF(leased_until > CAST(UNIX_TIMESTAMP(NOW(3)) * 1000 AS SIGNED), owner, '') \
         FROM feed_reader ORDER BY name, shard",
    )
    .fetch_all(pool)
    .await?;
    Ok(rows.into_iter().map(StoredReader::from).collect())
}

/// Stops a reader, or lets it go on. Its owner loses the lease, and its failures are over.
///
/// # Errors
/// The database's.
pub async fn pause_reader(connection: &mut MySqlConnection, name: &str, is_paused: bool) -> sqlx::Result<()> {
    sqlx::query(
        "UPDATE feed_reader SET is_paused = ?, owner = '', leased_until = 0, failures = 0, failing_since = 0, \
         next_attempt_at = 0 WHERE name = ?",
    )
    .bind(is_paused)
    .bind(name)
    .execute(connection)
    .await
    .map(drop)
}

/// Lets a reader go on after `cursor` in `shard`. Its owner loses the lease, so nothing that it has in hand moves the place,
/// and its failures are over. False if there is no such reader.
///
/// # Errors
/// The database's.
pub async fn move_reader(
    connection: &mut MySqlConnection,
    name: &str,
    shard: u16,
    cursor: Cursor,
) -> sqlx::Result<bool> {
    let moved = sqlx::query(
        "UPDATE feed_reader SET position = ?, event_index = ?, owner = '', leased_until = 0, failures = 0, \
         failing_since = 0, next_attempt_at = 0 WHERE name = ? AND shard = ?",
    )
    .bind(cursor.position)
    .bind(cursor.index)
    .bind(name)
    .bind(shard)
    .execute(&mut *connection)
    .await?;
    if moved.rows_affected() > 0 {
        return Ok(true);
    }
    // A statement that changes nothing affects no row.
    let found: Option<(u16,)> = sqlx::query_as("SELECT shard FROM feed_reader WHERE name = ? AND shard = ?")
        .bind(name)
        .bind(shard)
        .fetch_optional(connection)
        .await?;
    Ok(found.is_some())
}

/// Extends all leases of `owner` to `lease_ms` from now.
///
/// # Errors
/// The database's.
pub async fn renew_leases(pool: &Pool, owner: &str, lease_ms: i64) -> sqlx::Result<()> {
    sqlx::query(
        "UPDATE feed_reader SET leased_until = CAST(UNIX_TIMESTAMP(NOW(3)) * 1000 AS SIGNED) + ? WHERE owner = ?",
    )
    .bind(lease_ms)
    .bind(owner)
    .execute(pool)
    .await
    .map(drop)
}

/// Takes the lease of a reader for `lease_ms`. False if another gateway has it, or the reader is paused or removed.
///
/// # Errors
/// The database's.
pub async fn take_lease(
    pool: &Pool,
    owner: &str,
    (name, shard): (&str, u16),
    lease_ms: i64,
) -> sqlx::Result<bool> {
    let taken = sqlx::query(
        "UPDATE feed_reader SET owner = ?, leased_until = CAST(UNIX_TIMESTAMP(NOW(3)) * 1000 AS SIGNED) + ? \
         WHERE name = ? AND shard = ? AND NOT is_paused \
         AND leased_until <= CAST(UNIX_TIMESTAMP(NOW(3)) * 1000 AS SIGNED)",
    )
    .bind(owner)
    .bind(lease_ms)
    .bind(name)
    .bind(shard)
    .execute(pool)
    .await?;
    Ok(taken.rows_affected() > 0)
}

/// Gives all leases of `owner` back.
///
/// # Errors
/// The database's.
pub async fn release_leases(pool: &Pool, owner: &str) -> sqlx::Result<()> {
    sqlx::query("UPDATE feed_reader SET owner = '', leased_until = 0 WHERE owner = ?")
        .bind(owner)
        .execute(pool)
        .await
        .map(drop)
}

/// Moves the place of a reader from one cursor to the next, which ends its failures. `is_success`: what it does with the
/// events succeeded just now; not if there were none for it. False if `owner` has the lease no longer, or the place was moved
/// by somebody else: then what was read is read again.
///
/// # Errors
/// The database's.
pub async fn advance(
    connection: &mut MySqlConnection,
    (owner, name, shard): (&str, &str, u16),
    (from, to): (Cursor, Cursor),
    is_success: bool,
) -> sqlx::Result<bool> {
    if from == to {
        return Ok(true);
    }
    let moved = sqlx::query(
        "UPDATE feed_reader SET position = ?, event_index = ?, failures = 0, failing_since = 0, next_attempt_at = 0, \
         last_success_at = IF(?, ?, last_success_at) \
         WHERE name = ? AND shard = ? AND owner = ? AND position = ? AND event_index = ?",
    )
    .bind(to.position)
    .bind(to.index)
    .bind(is_success)
    .bind(unix_millis())
    .bind(name)
    .bind(shard)
    .bind(owner)
    .bind(from.position)
    .bind(from.index)
    .execute(connection)
    .await?;
    Ok(moved.rows_affected() > 0)
}
