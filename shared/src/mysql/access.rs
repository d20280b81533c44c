//! `conversation.access_version` and `access_change`: how everyone learns that who may do what has changed.
//!
//! Every such change locks the conversation's row, raises its version and notes both in `access_change`, all in one
//! transaction. Commits lock the same row: a message is stored either before the change or after it, and whoever stores
//! it sees from the version whether what it remembers about members is still true.

use std::sync::LazyLock;

use sqlx::{AssertSqlSafe, Row as _};

use super::conversations::{self, Head};
use super::shapes::Shapes;
use super::{Pool, Tx};
use crate::conversation::Conversation;
use crate::ids::unix_millis;

/// How many changes are read at once.
const CHANGES_MAX: u32 = 1_000;
/// Changes are kept for so long; a gateway that read none for longer must read everything again.
pub const CHANGES_KEPT_MS: i64 = 3_600_000;
/// How many old changes are removed at once.
const REMOVED_AT_ONCE: u32 = 5_000;

/// Locks the row of `conversation`, making it if it is missing. To be called before anything about it is read.
///
/// # Errors
/// As the database says.
pub async fn lock(tx: &mut Tx, conversation: &Conversation) -> sqlx::Result<Head> {
    let heads = conversations::lock_heads(tx, &[conversation]).await?;
    Ok(heads.get(conversation).copied().unwrap_or_default())
}

/// Raises the version of a conversation that this transaction has locked at `head`, and returns the new one.
///
/// # Errors
/// As the database says.
pub async fn raise(tx: &mut Tx, conversation: &Conversation, head: Head) -> sqlx::Result<u64> {
    let version = head.access_version + 1;
    sqlx::query("UPDATE conversation SET access_version = ? WHERE conversation_id = ?")
        .bind(version)
        .bind(conversation.key())
        .execute(&mut *tx)
        .await?;
    sqlx::query("INSERT INTO access_change (conversation_id, version, changed_at) VALUES (?, ?, ?)")
        .bind(conversation.key())
        .bind(version)
        .bind(unix_millis())
        .execute(&mut *tx)
        .await?;
    Ok(version)
}

/// One change. Ids rise in the order in which transactions began to write them, not in the order of their commits: one
/// that is skipped may still appear.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Its place in the table.
    pub id: u64,
    /// What it is about.
    pub conversation: Conversation,
    /// The version since then.
    pub version: u64,
    /// When it was made, in milliseconds since 1970 by the clock of the process that made it.
    pub changed_at: i64,
}

static SKIPPED: LazyLock<Shapes> = LazyLock::new(|| {
    Shapes::new(
        "SELECT id, conversation_id, version, changed_at FROM access_change WHERE id IN (",
        "?",
        ",",
        ") ORDER BY id",
    )
});

/// The changes after `id`, at most 1,000, and those of `skipped` that are there by now.
///
/// # Errors
/// As the database says.
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
        "SELECT id, conversation_id, version, changed_at FROM access_change WHERE id > ? ORDER BY id LIMIT ?",
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
/// As the database says.
pub async fn newest_change(pool: &Pool) -> sqlx::Result<u64> {
    let newest: Option<u64> = sqlx::query_scalar("SELECT MAX(id) FROM access_change").fetch_one(pool).await?;
    Ok(newest.unwrap_or(0))
}

/// Removes changes that are older than [`CHANGES_KEPT_MS`], except the newest, whose id tells where to go on.
///
/// # Errors
/// As the database says.
pub async fn remove_old_changes(pool: &Pool) -> sqlx::Result<()> {
    let newest = newest_change(pool).await?;
    sqlx::query("DELETE FROM access_change WHERE id < ? AND changed_at < ? ORDER BY id LIMIT ?")
        .bind(newest)
        .bind(unix_millis() - CHANGES_KEPT_MS)
        .bind(REMOVED_AT_ONCE)
        .execute(pool)
        .await
        .map(drop)
}
