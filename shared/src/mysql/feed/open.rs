//! The start of a process that writes the feed, or does not.

use crate::config::Feed;
use crate::feed::FeedShards;
use crate::ids::unix_millis;
use crate::mysql::Pool;
use crate::shard::ShardLayout;

/// A feed that was written to within this time is in use.
const IN_USE_MS: i64 = 600_000;

/// The reason why the feed cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum FeedError {
    /// The stored value was not written by this program.
    #[error("feed.shards: the table `setting` contains {stored:?}, which is not a number of shards")]
    Invalid {
        /// In the database.
        stored: String,
    },
    /// A statement failed.
    #[error(transparent)]
    Sql(#[from] sqlx::Error),
}

/// The shards of the feed, if `config` switches it on; they are stored now if this is the first time, as many as `layout` has
/// unless `config` says otherwise. `None` if this process does not write the feed; if others do, that is logged.
///
/// # Errors
/// [`FeedError`]
pub async fn open(pool: &Pool, config: &Feed, layout: ShardLayout) -> Result<Option<FeedShards>, FeedError> {
    metrics::gauge!(crate::metrics::FEED_ENABLED).set(f64::from(u8::from(config.enabled)));
    if !config.enabled {
        warn_if_in_use(pool).await?;
        return Ok(None);
    }
    let configured = if config.shards == 0 { layout.get() } else { config.shards };
    sqlx::query(
        "INSERT INTO setting (name, value) VALUES ('feed.shards', ?) ON DUPLICATE KEY UPDATE name = name",
    )
    .bind(configured.to_string())
    .execute(pool)
    .await?;
    let stored: String =
        sqlx::query_scalar("SELECT value FROM setting WHERE name = 'feed.shards'").fetch_one(pool).await?;
    let shards = stored.parse().ok().and_then(FeedShards::new);
    let shards = shards.ok_or(FeedError::Invalid { stored })?;
    if config.shards != 0 && config.shards != shards.get() {
        tracing::warn!(
            shards = shards.get(),
            ignored = config.shards,
            "The change feed has {} shards; feed.shards = {} is ignored, because the number is that of the first start \
             with the feed",
            shards.get(),
            config.shards
        );
    }
    for shard in shards.all() {
        sqlx::query("INSERT INTO feed_shard (shard) VALUES (?) ON DUPLICATE KEY UPDATE shard = shard")
            .bind(shard)
            .execute(pool)
            .await?;
    }
    Ok(Some(shards))
}

async fn warn_if_in_use(pool: &Pool) -> sqlx::Result<()> {
    let newest: Option<i64> = sqlx::query_scalar(
        "SELECT MAX(f.written_at) FROM feed_shard s JOIN feed_change f ON f.shard = s.shard AND f.position = s.head",
    )
    .fetch_one(pool)
    .await?;
    if newest.is_some_and(|newest| unix_millis() - newest < IN_USE_MS) {
        tracing::warn!(
            "Other processes write the change feed, and feed.enabled is off here: readers of the feed miss what this \
             process commits. Switch it on or off for all gateways and workers"
        );
    }
    Ok(())
}
