//! The server and the schema.

use crate::mysql::Pool;

/// The version of the server as it says it, such as `10.11.6-MariaDB`.
///
/// # Errors
/// The database's.
pub async fn server_version(pool: &Pool) -> sqlx::Result<String> {
    sqlx::query_scalar("SELECT VERSION()").fetch_one(pool).await
}

/// Whether the table of messages has its unique key of conversation, sender and message id.
///
/// # Errors
/// The database's.
pub async fn has_unique_ids(pool: &Pool) -> sqlx::Result<bool> {
    let columns: i64 = sqlx::query_scalar(
        "SELECT COUNT(*) FROM information_schema.statistics WHERE table_schema = DATABASE() \
         AND table_name = 'timeline_message' AND index_name = 'one_per_id' AND non_unique = 0",
    )
    .fetch_one(pool)
    .await?;
    Ok(columns == 3)
}
