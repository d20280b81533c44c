//! `user_conversation_state`: the read positions of users.

use std::sync::LazyLock;

use ahash::AHashMap;
use sqlx::Row as _;

use super::Pool;
use super::multi_row::MultiRow;
use crate::conversation::Conversation;
use crate::ids::{Seq, UserId};

/// A read position after an update.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Advance {
    /// The stored position.
    pub position: Seq,
    /// It was lower before the update.
    pub moved: bool,
    /// The conversation was marked as unread, and is no longer.
    pub unmarked: bool,
}

/// Moves the read position forward to `to`, at most to the newest message. It never moves back. Whatever `to` is, the
/// conversation is not marked as unread any more.
///
/// # Errors
/// The database's.
pub async fn advance(
    pool: &Pool,
    user: &UserId,
    conversation: &Conversation,
    to: Seq,
) -> sqlx::Result<Advance> {
    // No transaction: each statement moves forward only, so any interleaving ends at the largest position asked for.
    let newest = super::conversations::last_seqs(pool, &[conversation]).await?;
    let (before, unmarked) = position(pool, user, conversation).await?;
    let to = to.min(newest.first().copied().unwrap_or(Seq::ZERO));
    if to <= before {
        if unmarked {
            unmark(pool, user, conversation).await?;
        }
        return Ok(Advance { position: before, moved: false, unmarked });
    }
    sqlx::query(
        "INSERT INTO user_conversation_state (user_id, conversation_id, last_ack_seq, updated_at) VALUES (?, ?, ?, ?) \
         ON DUPLICATE KEY UPDATE last_ack_seq = GREATEST(last_ack_seq, VALUES(last_ack_seq)), \
         updated_at = VALUES(updated_at), is_marked_unread = FALSE",
    )
    .bind(user.as_str())
    .bind(conversation.key())
    .bind(to.0)
    .bind(crate::ids::unix_millis())
    .execute(pool)
    .await?;
    Ok(Advance { position: position(pool, user, conversation).await?.0, moved: true, unmarked })
}

/// The read position, and whether the conversation is marked as unread.
async fn position(pool: &Pool, user: &UserId, conversation: &Conversation) -> sqlx::Result<(Seq, bool)> {
    let stored: Option<(u64, bool)> = sqlx::query_as(
        "SELECT last_ack_seq, is_marked_unread FROM user_conversation_state WHERE user_id = ? AND conversation_id = ?",
    )
    .bind(user.as_str())
    .bind(conversation.key())
    .fetch_optional(pool)
    .await?;
    Ok(stored.map_or((Seq::ZERO, false), |(position, is_marked)| (Seq(position), is_marked)))
}

async fn unmark(pool: &Pool, user: &UserId, conversation: &Conversation) -> sqlx::Result<()> {
    sqlx::query(
        "UPDATE user_conversation_state SET is_marked_unread = FALSE WHERE user_id = ? AND conversation_id = ?",
    )
    .bind(user.as_str())
    .bind(conversation.key())
    .execute(pool)
    .await
    .map(drop)
}

static OF_USER: LazyLock<MultiRow> = LazyLock::new(|| {
    MultiRow::new(
        "SELECT conversation_id, last_ack_seq FROM user_conversation_state WHERE user_id = ? AND conversation_id IN (",
        "?",
        ",",
        ")",
    )
});

/// The read positions of `user` in `conversations`; those without a position are left out.
///
/// # Errors
/// The database's.
pub async fn of_user(
    pool: &Pool,
    user: &UserId,
    conversations: &[&Conversation],
) -> sqlx::Result<AHashMap<Conversation, Seq>> {
    OF_USER.by_conversation(pool, Some(user.as_str()), conversations, |row| Ok(Seq(row.try_get(1)?))).await
}

/// The read position of one member.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct ListedPosition {
    /// The member.
    pub user_id: String,
    /// Its read position; 0 if it never sent one.
    pub seq: Seq,
}

/// The read positions of a group's members, after `cursor` in the order of their ids, at most `limit`. Those who have blocked
/// `reader` are left out.
///
/// # Errors
/// The database's.
pub async fn of_group(
    pool: &Pool,
    group: &Conversation,
    reader: &UserId,
    cursor: &str,
    limit: u32,
) -> sqlx::Result<Vec<ListedPosition>> {
    let rows = sqlx::query(
        "SELECT m.user_id, s.last_ack_seq FROM group_member m \
         LEFT JOIN user_conversation_state s ON s.user_id = m.user_id AND s.conversation_id = m.group_id \
         WHERE m.group_id = ? AND m.user_id > ? AND NOT EXISTS \
         (SELECT 1 FROM user_block b WHERE b.blocked_id = ? AND b.user_id = m.user_id) \
         ORDER BY m.user_id LIMIT ?",
    )
    .bind(group.key())
    .bind(cursor)
    .bind(reader.as_str())
    .bind(limit)
    .fetch_all(pool)
    .await?;
    rows.iter()
        .map(|row| {
            let seq: Option<u64> = row.try_get(1)?;
            Ok(ListedPosition { user_id: row.try_get(0)?, seq: Seq(seq.unwrap_or(0)) })
        })
        .collect()
}
