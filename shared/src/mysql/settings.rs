//! `setting`: facts about the deployment that were fixed at its first start.

use super::Pool;
use crate::shard::ShardCount;

/// Why the number of shards cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ShardCountError {
    /// The deployment was made with another one.
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
    /// Not written by this program.
    #[error("shards.count: the table `setting` says {stored:?}, which is no number of shards")]
    Unusable {
        /// In the database.
        stored: String,
    },
    /// As the database says.
    #[error(transparent)]
    Sql(#[from] sqlx::Error),
}

/// The number of shards: `configured`, if any, which must be what was stored at the first start.
///
/// # Errors
/// [`ShardCountError::Differs`] says how to mend it.
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
        (None, None) => Err(ShardCountError::Unusable { stored }),
    }
}
