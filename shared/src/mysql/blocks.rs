//! `user_block`: who takes no private messages from whom.

use std::sync::LazyLock;

use ahash::{AHashMap, AHashSet};
use sqlx::Row as _;

use super::shapes::Shapes;
use super::{Pool, access, run_tx};
use crate::conversation::Conversation;
use crate::ids::{UserId, unix_millis};

/// `user` takes private messages from `other` no more (`blocked`), or again. Returns the new access version of their
/// conversation; `None` if nothing changed.
///
/// # Errors
/// As the database says.
pub async fn set(pool: &Pool, user: &UserId, other: &UserId, blocked: bool) -> sqlx::Result<Option<u64>> {
    let conversation = Conversation::between(user, other);
    run_tx(pool, "block", |tx| {
        let (user, other, conversation) = (user.clone(), other.clone(), conversation.clone());
        Box::pin(async move {
            let head = access::lock(tx, &conversation).await?;
            if is_blocked_in(tx, &user, &other).await? == blocked {
                return Ok(None);
            }
            if blocked {
                sqlx::query("INSERT INTO user_block (user_id, blocked_id, created_at) VALUES (?, ?, ?)")
                    .bind(user.as_str())
                    .bind(other.as_str())
                    .bind(unix_millis())
                    .execute(&mut *tx)
                    .await?;
            } else {
                sqlx::query("DELETE FROM user_block WHERE user_id = ? AND blocked_id = ?")
                    .bind(user.as_str())
                    .bind(other.as_str())
                    .execute(&mut *tx)
                    .await?;
            }
            access::raise(tx, &conversation, head).await.map(Some)
        })
    })
    .await
}

/// Whether `user` has blocked `other`, as the transaction sees it.
///
/// # Errors
/// As the database says.
pub async fn is_blocked_in(tx: &mut super::Tx, user: &UserId, other: &UserId) -> sqlx::Result<bool> {
    let found: Option<i64> =
        sqlx::query_scalar("SELECT 1 FROM user_block WHERE user_id = ? AND blocked_id = ?")
            .bind(user.as_str())
            .bind(other.as_str())
            .fetch_optional(&mut *tx)
            .await?;
    Ok(found.is_some())
}

/// Whom `user` has blocked, after `cursor` in the order of ids, at most `limit`.
///
/// # Errors
/// As the database says.
pub async fn blocked_by(pool: &Pool, user: &UserId, cursor: &str, limit: u32) -> sqlx::Result<Vec<String>> {
    sqlx::query_scalar(
        "SELECT blocked_id FROM user_block WHERE user_id = ? AND blocked_id > ? ORDER BY blocked_id LIMIT ?",
    )
    .bind(user.as_str())
    .bind(cursor)
    .bind(limit)
    .fetch_all(pool)
    .await
}

static BLOCKERS_OF: LazyLock<Shapes> = LazyLock::new(|| {
    Shapes::new("SELECT blocked_id, user_id FROM user_block WHERE blocked_id IN (", "?", ",", ")")
});

/// Who has blocked each of `users`; whom nobody has blocked has no entry.
///
/// # Errors
/// As the database says; a stored id that is none is left out and logged.
pub async fn blockers_of(pool: &Pool, users: &[UserId]) -> sqlx::Result<AHashMap<UserId, AHashSet<UserId>>> {
    let ids: Vec<[&str; 1]> = users.iter().map(|user| [user.as_str()]).collect();
    let mut blockers: AHashMap<UserId, AHashSet<UserId>> = AHashMap::new();
    for row in BLOCKERS_OF.select_from(pool, None, &ids).await? {
        let (blocked, by): (&str, &str) = (row.try_get(0)?, row.try_get(1)?);
        let (Ok(blocked), Ok(by)) = (UserId::parse(blocked), UserId::parse(by)) else {
            tracing::error!(%blocked, %by, "ill-formed id in user_block");
            continue;
        };
        blockers.entry(blocked).or_default().insert(by);
    }
    Ok(blockers)
}
