//! `conversation.access_version` and the change log `access_change`: how permissions that are cached elsewhere become
//! invalid.
//!
//! Every change of permissions locks the conversation's row, raises its access version and adds an entry to
//! `access_change`, all in one transaction. Commits lock the same row: a message is stored either before the change or
//! after it, and the worker sees from the version whether its cached permissions are still valid.

use std::sync::LazyLock;

use sqlx::{AssertSqlSafe, Row as _};

use super::conversations::{self, Head};
use super::multi_row::MultiRow;
use super::{Pool, Tx};
use crate::conversation::Conversation;
use crate::ids::{UserId, unix_millis};

/// Most changes that are read at once.
const CHANGES_MAX: u32 = 1_000;
/// The time for which changes are kept. A gateway that has not read the log for longer must reload all groups.
pub const CHANGES_KEPT_MS: i64 = 3_600_000;
/// Most old changes that are removed at once.
const REMOVED_MAX: u32 = 5_000;

/// Locks the row of `conversation`, which is created if it is missing. Call it before anything else about the
/// conversation is read.
///
/// # Errors
/// The database's.
pub async fn lock(tx: &mut Tx, conversation: &Conversation) -> sqlx::Result<Head> {
    let heads = conversations::lock_heads(tx, &[conversation]).await?;
    Ok(heads.get(conversation).copied().unwrap_or_default())
}

/// Raises the access version of a conversation that this transaction has locked at `head`. Returns the new version.
///
/// # Errors
/// The database's.
pub(crate) async fn raise(tx: &mut Tx, conversation: &Conversation, head: Head) -> sqlx::Result<u64> {
    let version = head.access_version + 1;
    sqlx::query("UPDATE conversation SET access_version = ? WHERE conversation_id = ?")
        .bind(version)
        .bind(conversation.key())
        .execute(&mut *tx)
        .await?;
    log(tx, conversation, version, None).await?;
    Ok(version)
}

/// Adds to the change log that `user` has cleared a conversation whose access version is `version` and stays so.
///
/// # Errors
/// The database's.
pub(super) async fn log_clear(
    tx: &mut Tx,
    conversation: &Conversation,
    version: u64,
    user: &UserId,
) -> sqlx::Result<()> {
    log(tx, conversation, version, Some(user)).await
}

async fn log(
    tx: &mut Tx,
    conversation: &Conversation,
    version: u64,
    user: Option<&UserId>,
) -> sqlx::Result<()> {
    sqlx::query(
        "INSERT INTO access_change (conversation_id, version, changed_at, user_id) VALUES (?, ?, ?, ?)",
    )
    .bind(conversation.key())
    .bind(version)
    .bind(unix_millis())
    .bind(user.map(UserId::as_str))
    .execute(&mut *tx)
    .await
    .map(drop)
}

/// One entry of the change log. Ids are assigned when transactions write them, not when they commit: an id that was
/// skipped may still appear.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Its place in the log.
    pub id: u64,
    /// The conversation whose permissions changed.
    pub conversation: Conversation,
    /// The access version since the change.
    pub version: u64,
    /// The time of the change, in milliseconds since 1970, by the clock of the process that made it.
    pub changed_at: i64,
    /// The user who cleared the conversation; `None` if permissions changed.
    pub cleared_by: Option<UserId>,
}

static SKIPPED: LazyLock<MultiRow> = LazyLock::new(|| {
    MultiRow::new(
        "SELECT id, conversation_id, version, changed_at, user_id FROM access_change WHERE id IN (",
        "?",
        ",",
        ") ORDER BY id",
    )
});

/// The changes after `id`, at most 1,000, and those of `skipped` that have appeared.
///
/// # Errors
/// The database's.
pub async fn changes_after(pool: &Pool, id: u64, skipped: &[u64]) -> sqlx::Result<Vec<Change>> {
    let mut rows = Vec::new();
    for (range, length, text) in SKIPPED.padded(skipped.len()) {
        let ids = &skipped[range];
        let mut query = sqlx::query(AssertSqlSafe(text));
        for id in ids.iter().chain(ids.last().into_iter().cycle()).take(length) {
            query = query.bind(id);
        }
        rows.extend(query.fetch_all(pool).await?);
    }
    let after = sqlx::query(
        "SELECT id, conversation_id, version, changed_at, user_id FROM access_change WHERE id > ? ORDER BY id LIMIT ?",
    );
    rows.extend(after.bind(id).bind(CHANGES_MAX).fetch_all(pool).await?);
    let mut changes = Vec::with_capacity(rows.len());
    for row in rows {
        let key: &str = row.try_get(1)?;
        match Conversation::from_key(key) {
            Ok(conversation) => {
                changes.push(Change {
                    id: row.try_get(0)?,
                    conversation,
                    version: row.try_get(2)?,
                    changed_at: row.try_get(3)?,
                    cleared_by: row.try_get::<Option<&str>, _>(4)?.map(UserId::from_stored),
                });
            }
            Err(error) => tracing::error!(%key, %error, "ill-formed id in access_change"),
        }
    }
    Ok(changes)
}

/// The id of the newest change; 0 if there is none.
///
/// # Errors
/// The database's.
pub async fn newest_change(pool: &Pool) -> sqlx::Result<u64> {
    let newest: Option<u64> = sqlx::query_scalar("SELECT MAX(id) FROM access_change").fetch_one(pool).await?;
    Ok(newest.unwrap_or(0))
}

/// Removes changes that are older than [`CHANGES_KEPT_MS`], except the newest, so that its id stays known.
///
/// # Errors
/// The database's.
pub async fn remove_old_changes(pool: &Pool) -> sqlx::Result<()> {
    let newest = newest_change(pool).await?;
    sqlx::query("DELETE FROM access_change WHERE id < ? AND changed_at < ? ORDER BY id LIMIT ?")
        .bind(newest)
        .bind(unix_millis() - CHANGES_KEPT_MS)
        .bind(REMOVED_MAX)
        .execute(pool)
        .await
        .map(drop)
}
