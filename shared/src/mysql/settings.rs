//! `setting`: properties of the deployment; the layout of its shards and the steps of its change. `shard_process` and
//! `shard_drained`: who has applied which step.

use super::Pool;
use crate::shard::{ShardId, ShardLayout};
use crate::shard_state::ShardState;

/// A process that was not seen for this long is forgotten.
const FORGOTTEN_AFTER_S: i64 = 86_400;

/// The reason why the layout of the shards is not known.
#[derive(Debug, thiserror::Error)]
pub enum ShardCountError {
    /// The stored value was not written by this program.
    #[error("shards.count: the table `setting` contains {stored:?}, which is not a number of shards")]
    Invalid {
        /// In the database.
        stored: String,
    },
    /// A statement failed.
    #[error(transparent)]
    Sql(#[from] sqlx::Error),
}

/// The layout of the shards, which is stored now if this is the first start: then with the number that is `configured`.
///
/// # Errors
/// [`ShardCountError`]
pub async fn first_shard_state(
    pool: &Pool,
    configured: Option<ShardLayout>,
) -> Result<ShardState, ShardCountError> {
    sqlx::query(
        "INSERT INTO setting (name, value) VALUES ('shards.count', ?) ON DUPLICATE KEY UPDATE name = name",
    )
    .bind(configured.unwrap_or(ShardLayout::DEFAULT).to_string())
    .execute(pool)
    .await?;
    let state = shard_state(pool).await?.unwrap_or(ShardState::stable(ShardLayout::DEFAULT));
    if let Some(configured) = configured.filter(|configured| configured.get() != state.main().get()) {
        let (shards, ignored) = (state.main().get(), configured.get());
        tracing::warn!(
            shards,
            ignored,
            "This deployment has {shards} shards; shards.count = {ignored} is ignored, because it is of the first start \
             (`imctl shards set` changes the number)"
        );
    }
    Ok(state)
}

/// The layout of the shards; `None` before the first start.
///
/// # Errors
/// [`ShardCountError`]
pub async fn shard_state(pool: &Pool) -> Result<Option<ShardState>, ShardCountError> {
    let stored: Option<String> = sqlx::query_scalar("SELECT value FROM setting WHERE name = 'shards.count'")
        .fetch_optional(pool)
        .await?;
    let parse = |stored: String| stored.parse().map_err(|_| ShardCountError::Invalid { stored });
    stored.map(parse).transpose()
}

/// Replaces the state, if it is still `from`. Returns whether it was.
///
/// # Errors
/// The database's: it is not known whether the state was replaced.
pub async fn replace_shard_state(pool: &Pool, from: ShardState, to: ShardState) -> sqlx::Result<bool> {
    let replaced = sqlx::query("UPDATE setting SET value = ? WHERE name = 'shards.count' AND value = ?")
        .bind(to.to_string())
        .bind(from.to_string())
        .execute(pool)
        .await?;
    Ok(replaced.rows_affected() == 1)
}

/// A process that follows the state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShardProcess {
    /// As in the liveness registry.
    pub id: String,
    /// `gateway` or `worker`.
    pub role: String,
    /// The state that it has applied, as text; empty while it starts.
    pub applied: String,
    /// When it last said so, in seconds before now.
    pub seen_before_s: i64,
}

/// Records what `id` has applied.
///
/// # Errors
/// The database's.
pub async fn record_applied(pool: &Pool, id: &str, role: &str, applied: &str) -> sqlx::Result<()> {
    sqlx::query(
        "INSERT INTO shard_process (id, role, applied, seen_at) VALUES (?, ?, ?, UNIX_TIMESTAMP()) \
         ON DUPLICATE KEY UPDATE applied = VALUES(applied), seen_at = VALUES(seen_at)",
    )
    .bind(id)
    .bind(role)
    .bind(applied)
    .execute(pool)
    .await
    .map(drop)
}

/// All processes that follow the state, without those that were not seen for a day.
///
/// # Errors
/// The database's.
pub async fn shard_processes(pool: &Pool) -> sqlx::Result<Vec<ShardProcess>> {
    let rows: Vec<(String, String, String, i64)> = sqlx::query_as(
        "SELECT id, role, applied, UNIX_TIMESTAMP() - seen_at FROM shard_process ORDER BY role, id",
    )
    .fetch_all(pool)
    .await?;
    let process = |(id, role, applied, seen_before_s)| ShardProcess { id, role, applied, seen_before_s };
    Ok(rows.into_iter().map(process).collect())
}

/// Removes `id`, which has stopped, and processes that were not seen for a day.
///
/// # Errors
/// The database's.
pub async fn forget_shard_process(pool: &Pool, id: &str) -> sqlx::Result<()> {
    sqlx::query("DELETE FROM shard_process WHERE id = ? OR seen_at < UNIX_TIMESTAMP() - ?")
        .bind(id)
        .bind(FORGOTTEN_AFTER_S)
        .execute(pool)
        .await
        .map(drop)
}

/// Records that the queue of a shard is committed to its end.
///
/// # Errors
/// The database's.
pub async fn record_drained(pool: &Pool, shard: ShardId) -> sqlx::Result<()> {
    sqlx::query("INSERT INTO shard_drained (shard) VALUES (?) ON DUPLICATE KEY UPDATE shard = VALUES(shard)")
        .bind(shard.0)
        .execute(pool)
        .await
        .map(drop)
}

/// The shards that are [recorded](record_drained).
///
/// # Errors
/// The database's.
pub async fn drained_shards(pool: &Pool) -> sqlx::Result<Vec<ShardId>> {
    let shards: Vec<u32> =
        sqlx::query_scalar("SELECT shard FROM shard_drained ORDER BY shard").fetch_all(pool).await?;
    Ok(shards.into_iter().map(ShardId).collect())
}

/// Forgets the shards of layouts before `layout`.
///
/// # Errors
/// The database's.
pub async fn forget_drained(pool: &Pool, layout: ShardLayout) -> sqlx::Result<()> {
    let first = layout.all().next().map_or(0, |shard| shard.0);
    sqlx::query("DELETE FROM shard_drained WHERE shard < ?").bind(first).execute(pool).await.map(drop)
}
