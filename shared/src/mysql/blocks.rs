//! `user_block`: which users have blocked which others.

use std::sync::LazyLock;

use ahash::{AHashMap, AHashSet};
use sqlx::Row as _;
use sqlx::mysql::MySqlRow;

use super::multi_row::MultiRow;
use super::{Pool, Transaction, Tx, access, run_tx};
use crate::conversation::Conversation;
use crate::ids::{UserId, unix_millis};

/// Blocks `other` for `user`, or ends the block: no private messages, no adding to groups, no presence, no read positions.
/// Invitations of `other` are removed. Returns the new access version of their
/// conversation; `None` if nothing changed.
///
/// # Errors
/// The database's.
pub async fn set(pool: &Pool, user: &UserId, other: &UserId, blocked: bool) -> sqlx::Result<Option<u64>> {
    let conversation = Conversation::between(user, other);
    run_tx(pool, &SetBlock { user, other, conversation, blocked }).await
}

struct SetBlock<'b> {
    user: &'b UserId,
    other: &'b UserId,
    conversation: Conversation,
    blocked: bool,
}

impl Transaction for SetBlock<'_> {
    type Output = Option<u64>;
    type Error = sqlx::Error;

    const NAME: &'static str = "block";

    async fn run(&self, tx: &mut Tx) -> sqlx::Result<Option<u64>> {
        let head = access::lock(tx, &self.conversation).await?;
        if is_blocked(tx, self.user, self.other).await? == self.blocked {
            return Ok(None);
        }
        if self.blocked {
            sqlx::query("INSERT INTO user_block (user_id, blocked_id, created_at) VALUES (?, ?, ?)")
                .bind(self.user.as_str())
                .bind(self.other.as_str())
                .bind(unix_millis())
                .execute(&mut *tx)
                .await?;
            sqlx::query("DELETE FROM group_invitation WHERE user_id = ? AND invited_by = ?")
                .bind(self.user.as_str())
                .bind(self.other.as_str())
                .execute(&mut *tx)
                .await?;
        } else {
            sqlx::query("DELETE FROM user_block WHERE user_id = ? AND blocked_id = ?")
                .bind(self.user.as_str())
                .bind(self.other.as_str())
                .execute(&mut *tx)
                .await?;
        }
        access::raise(tx, &self.conversation, head).await.map(Some)
    }
}

/// Whether `user` has blocked `other`, as the transaction sees it.
async fn is_blocked(tx: &mut Tx, user: &UserId, other: &UserId) -> sqlx::Result<bool> {
    let found: Option<i64> =
        sqlx::query_scalar("SELECT 1 FROM user_block WHERE user_id = ? AND blocked_id = ?")
            .bind(user.as_str())
            .bind(other.as_str())
            .fetch_optional(&mut *tx)
            .await?;
    Ok(found.is_some())
}

/// The users that `user` has blocked, after `cursor` in the order of ids, at most `limit`.
///
/// # Errors
/// The database's.
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

static BLOCKING: LazyLock<MultiRow> = LazyLock::new(|| {
    MultiRow::new("SELECT user_id FROM user_block WHERE blocked_id = ? AND user_id IN (", "?", ",", ")")
});

/// Those of `others` who have blocked `user`.
///
/// # Errors
/// The database's.
pub async fn blocking(pool: &Pool, user: &UserId, others: &[UserId]) -> sqlx::Result<Vec<UserId>> {
    let ids: Vec<[&str; 1]> = others.iter().map(|other| [other.as_str()]).collect();
    among(others, &BLOCKING.select_from(pool, Some(user.as_str()), &ids).await?)
}

/// The same in a transaction.
pub(super) async fn blocking_in(tx: &mut Tx, user: &UserId, others: &[UserId]) -> sqlx::Result<Vec<UserId>> {
    let ids: Vec<[&str; 1]> = others.iter().map(|other| [other.as_str()]).collect();
    among(others, &BLOCKING.select(tx, Some(user.as_str()), &ids).await?)
}

/// Those of `users` whose ids are in the first column of `rows`.
fn among(users: &[UserId], rows: &[MySqlRow]) -> sqlx::Result<Vec<UserId>> {
    let ids = rows.iter().map(|row| row.try_get(0)).collect::<sqlx::Result<AHashSet<&str>>>()?;
    Ok(users.iter().filter(|user| ids.contains(user.as_str())).cloned().collect())
}

static BLOCKERS_OF: LazyLock<MultiRow> = LazyLock::new(|| {
    MultiRow::new("SELECT blocked_id, user_id FROM user_block WHERE blocked_id IN (", "?", ",", ")")
});

/// For each of `users` the users who have blocked it; a user whom nobody has blocked has no entry.
///
/// # Errors
/// The database's; an ill-formed stored id is left out and logged.
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
