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
    /// As the database says.
    #[error(transparent)]
    Sql(#[from] sqlx::Error),
}

/// Stores the number of shards at the first start and compares it afterwards.
///
/// # Errors
/// [`ShardCountError::Differs`] says how to mend it.
pub async fn fix_shard_count(pool: &Pool, configured: ShardCount) -> Result<(), ShardCountError> {
    sqlx::query(
        "INSERT INTO setting (name, value) VALUES ('shards.count', ?) ON DUPLICATE KEY UPDATE name = name",
    )
    .bind(configured.get().to_string())
    .execute(pool)
    .await?;
    let stored: String =
        sqlx::query_scalar("SELECT value FROM setting WHERE name = 'shards.count'").fetch_one(pool).await?;
    if stored == configured.get().to_string() {
        return Ok(());
    }
    Err(ShardCountError::Differs { stored, configured: configured.get() })
}
