//! `setting`: properties of the deployment that are fixed at its first start.

use super::Pool;
use crate::shard::ShardCount;

/// The reason why the number of shards cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ShardCountError {
    /// The deployment was first started with another number.
    #[error(
        "shards.count: this deployment was first started with {stored} shards, and is configured with {configured}: \
         conversations would change queues. Set shards.count to {stored}"
    )]
    Differs {
        /// In the database.
        stored: String,
        /// In the configuration.
        configured: u16,
    },
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

/// The number of shards that was stored at the first start; `configured`, if given, must be the same.
///
/// # Errors
/// [`ShardCountError`], which says what to set.
pub async fn shard_count(pool: &Pool, configured: Option<ShardCount>) -> Result<ShardCount, ShardCountError> {
    sqlx::query(
        "INSERT INTO setting (name, value) VALUES ('shards.count', ?) ON DUPLICATE KEY UPDATE name = name",
    )
    .bind(configured.unwrap_or(ShardCount::DEFAULT).get().to_string())
    .execute(pool)
    .await?;
    let stored: String =
        sqlx::query_scalar("SELECT value FROM setting WHERE name = 'shards.count'").fetch_one(pool).await?;
    let count = stored.parse().ok().and_then(ShardCount::new);
    match (count, configured) {
        (Some(count), None) => Ok(count),
        (Some(count), Some(configured)) if count == configured => Ok(count),
        (_, Some(configured)) => Err(ShardCountError::Differs { stored, configured: configured.get() }),
        (None, None) => Err(ShardCountError::Invalid { stored }),
    }
}
