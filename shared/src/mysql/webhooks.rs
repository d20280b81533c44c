//! `webhook_endpoint`: endpoints of apps that are told what the change feed has. How far each has come is in `feed_reader`.

use sqlx::Row as _;
use sqlx::mysql::MySqlRow;

use super::{Pool, Transaction, Tx, TxError, feed, run_tx};
use crate::config::Secret;
use crate::feed::{Cursor, FeedShards};
use crate::ids::unix_millis;
use crate::webhook::{
    EventType, Filter, InvalidWebhook, Secrets, WEBHOOKS_MAX, Webhook, WebhookId, WebhookPatch,
};

/// The reason why a webhook is not added.
#[derive(Debug, thiserror::Error)]
pub enum AddError {
    /// There are [`WEBHOOKS_MAX`] already.
    #[error("there are {WEBHOOKS_MAX} webhooks already: remove one")]
    Full,
    /// A statement failed.
    #[error(transparent)]
    Sql(#[from] sqlx::Error),
}

impl TxError for AddError {
    fn sql(&self) -> Option<&sqlx::Error> {
        match self {
            Self::Full => None,
            Self::Sql(error) => Some(error),
        }
    }
}

/// All webhooks, the oldest first.
///
/// # Errors
/// The database's.
pub async fn all(pool: &Pool) -> sqlx::Result<Vec<Webhook>> {
    let rows = sqlx::query(
        "SELECT id, name, url, secret, old_secret, old_secret_until, event_types, conversations, batch_events, batch_bytes, \
         created_at, updated_at FROM webhook_endpoint ORDER BY created_at, id",
    )
    .fetch_all(pool)
    .await?;
    rows.iter().map(webhook).collect()
}

/// A webhook.
///
/// # Errors
/// The database's.
pub async fn find(pool: &Pool, id: &WebhookId) -> sqlx::Result<Option<Webhook>> {
    Ok(all(pool).await?.into_iter().find(|webhook| webhook.id == *id))
}

fn webhook(row: &MySqlRow) -> sqlx::Result<Webhook> {
    let id: String = row.try_get(0)?;
    let unreadable = || sqlx::Error::Decode(format!("{id:?} is no id of a webhook").into());
    let secret = |column| Ok::<_, sqlx::Error>(Secret::from(row.try_get::<&str, _>(column)?));
    let (types, conversations): (&str, &str) = (row.try_get(6)?, row.try_get(7)?);
    let filter = Filter {
        // Types of a later version are none of this one's.
        types: types.split_ascii_whitespace().filter_map(EventType::parse).collect(),
        conversations: conversations.split_ascii_whitespace().map(str::to_owned).collect(),
    };
    Ok(Webhook {
        id: WebhookId::parse(&id).ok_or_else(unreadable)?,
        name: row.try_get(1)?,
        url: row.try_get(2)?,
        secrets: Secrets { present: secret(3)?, old: secret(4)?, old_until: row.try_get(5)? },
        filter,
        batch_events: row.try_get(8)?,
        batch_bytes: row.try_get(9)?,
        created_at: row.try_get(10)?,
        updated_at: row.try_get(11)?,
    })
}

/// Adds a webhook that gets the events after those that there are now.
///
/// # Errors
/// [`AddError`]
pub async fn add(
    pool: &Pool,
    id: &WebhookId,
    (settings, secret): (&WebhookPatch, &Secret),
    shards: FeedShards,
) -> Result<(), AddError> {
    run_tx(pool, &Add { id, settings, secret, shards }).await
}

struct Add<'a> {
    id: &'a WebhookId,
    settings: &'a WebhookPatch,
    secret: &'a Secret,
    shards: FeedShards,
}

impl Transaction for Add<'_> {
    type Output = ();
    type Error = AddError;

    const NAME: &'static str = "add webhook";

    async fn run(&self, tx: &mut Tx) -> Result<(), AddError> {
        let settings = self.settings;
        sqlx::query(
            "INSERT INTO webhook_endpoint (id, name, url, secret, event_types, conversations, batch_events, batch_bytes, \
             created_at, updated_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        )
        .bind(self.id.as_str())
        .bind(settings.name.as_deref().unwrap_or_default())
        .bind(settings.url.as_deref().unwrap_or_default())
        .bind(self.secret.expose())
        .bind(names(settings.types.as_deref().unwrap_or_default()))
        .bind(settings.conversations.as_deref().unwrap_or_default().join(" "))
        .bind(settings.batch_events.unwrap_or(WebhookPatch::BATCH_EVENTS))
        .bind(settings.batch_bytes.unwrap_or(WebhookPatch::BATCH_BYTES))
        .bind(unix_millis())
        .bind(unix_millis())
        .execute(&mut *tx)
        .await?;
        let count: i64 =
            sqlx::query_scalar("SELECT COUNT(*) FROM webhook_endpoint").fetch_one(&mut *tx).await?;
        if usize::try_from(count).is_ok_and(|count| count > WEBHOOKS_MAX) {
            return Err(AddError::Full);
        }
        Ok(feed::add_reader(tx, &self.id.reader(), self.shards).await?)
    }
}

fn names(types: &[EventType]) -> String {
    types.iter().map(|one| one.name()).collect::<Vec<_>>().join(" ")
}

/// Changes what `patch` has. False if there is no such webhook.
///
/// # Errors
/// The database's.
pub async fn change(pool: &Pool, id: &WebhookId, patch: &WebhookPatch) -> sqlx::Result<bool> {
    let changed = sqlx::query(
        "UPDATE webhook_endpoint SET name = COALESCE(?, name), url = COALESCE(?, url), \
         event_types = COALESCE(?, event_types), conversations = COALESCE(?, conversations), \
         batch_events = COALESCE(?, batch_events), batch_bytes = COALESCE(?, batch_bytes), \
         updated_at = GREATEST(?, updated_at + 1) WHERE id = ?",
    )
    .bind(patch.name.as_deref())
    .bind(patch.url.as_deref())
    .bind(patch.types.as_deref().map(names))
    .bind(patch.conversations.as_ref().map(|conversations| conversations.join(" ")))
    .bind(patch.batch_events)
    .bind(patch.batch_bytes)
    .bind(unix_millis())
    .bind(id.as_str())
    .execute(pool)
    .await?;
    Ok(changed.rows_affected() > 0)
}

/// Sets another secret. The present one signs too for `keep_old_s`. False if there is no such webhook.
///
/// # Errors
/// The database's.
pub async fn rotate(pool: &Pool, id: &WebhookId, secret: &Secret, keep_old_s: u32) -> sqlx::Result<bool> {
    let now = unix_millis();
    // Assignments are made from left to right.
    let rotated = sqlx::query(
        "UPDATE webhook_endpoint SET old_secret = secret, old_secret_until = ?, secret = ?, \
         updated_at = GREATEST(?, updated_at + 1) WHERE id = ?",
    )
    .bind(now + i64::from(keep_old_s) * 1_000)
    .bind(secret.expose())
    .bind(now)
    .bind(id.as_str())
    .execute(pool)
    .await?;
    Ok(rotated.rows_affected() > 0)
}

/// Removes a webhook and how far it has come. False if there is no such webhook.
///
/// # Errors
/// The database's.
pub async fn remove(pool: &Pool, id: &WebhookId) -> sqlx::Result<bool> {
    run_tx(pool, &Remove(id)).await
}

struct Remove<'a>(&'a WebhookId);

impl Transaction for Remove<'_> {
    type Output = bool;
    type Error = sqlx::Error;

    const NAME: &'static str = "remove webhook";

    async fn run(&self, tx: &mut Tx) -> sqlx::Result<bool> {
        feed::remove_reader(tx, &self.0.reader()).await?;
        let removed = sqlx::query("DELETE FROM webhook_endpoint WHERE id = ?")
            .bind(self.0.as_str())
            .execute(&mut *tx)
            .await?;
        Ok(removed.rows_affected() > 0)
    }
}

/// Stops a webhook, or lets it go on where it stopped.
///
/// # Errors
/// The database's.
pub async fn pause(pool: &Pool, id: &WebhookId, is_paused: bool) -> sqlx::Result<()> {
    let mut connection = pool.acquire().await?;
    let ended = feed::pause_reader(&mut connection, &id.reader(), is_paused).await;
    connection.finish(ended)
}

/// Where a webhook goes on, if an operator says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReplayFrom {
    /// After this one; of one shard.
    Cursor(Cursor),
    /// With the oldest event that is kept.
    Oldest,
    /// After all events that there are.
    Latest,
    /// With the first event that was written then or later, in milliseconds since 1970.
    Time(i64),
}

/// The places from which a webhook goes on in a shard, or in all. The inner error is the operator's.
///
/// # Errors
/// The database's.
pub async fn replay_places(
    pool: &Pool,
    from: ReplayFrom,
    shard: Option<u16>,
) -> sqlx::Result<Result<Vec<(u16, Cursor)>, InvalidWebhook>> {
    let extents = feed::extents(pool).await?;
    let invalid = |field, why: String| Ok(Err(InvalidWebhook::new(field, why)));
    let mut places = Vec::new();
    for extent in extents.iter().filter(|extent| shard.is_none_or(|shard| shard == extent.shard)) {
        let (before, head) = (extent.before, extent.head);
        let place = match from {
            ReplayFrom::Oldest => Cursor::after(before),
            ReplayFrom::Latest => Cursor::after(head),
            ReplayFrom::Time(time_ms) => Cursor::after(feed::position_before(pool, *extent, time_ms).await?),
            ReplayFrom::Cursor(_) if shard.is_none() => {
                return invalid("shard", "is missing: a cursor belongs to a shard".to_owned());
            }
            ReplayFrom::Cursor(cursor) if cursor < Cursor::after(before) || cursor > Cursor::after(head) => {
                return invalid("cursor", format!("must be {before} to {head} in this shard"));
            }
            ReplayFrom::Cursor(cursor) => cursor,
        };
        places.push((extent.shard, place));
    }
    if places.is_empty() {
        return invalid("shard", format!("must be 0 to {}", extents.len().saturating_sub(1)));
    }
    Ok(Ok(places))
}

/// Lets a webhook go on after other places, of all shards or of none.
///
/// # Errors
/// The database's.
pub async fn replay(pool: &Pool, id: &WebhookId, places: &[(u16, Cursor)]) -> sqlx::Result<()> {
    run_tx(pool, &Replay(id, places)).await
}

struct Replay<'a>(&'a WebhookId, &'a [(u16, Cursor)]);

impl Transaction for Replay<'_> {
    type Output = ();
    type Error = sqlx::Error;

    const NAME: &'static str = "replay webhook";

    async fn run(&self, tx: &mut Tx) -> sqlx::Result<()> {
        for (shard, cursor) in self.1 {
            feed::move_reader(tx, &self.0.reader(), *shard, *cursor).await?;
        }
        Ok(())
    }
}
