//! What a notification shows: how many unread messages call for it, and the newest of them.

use sqlx::{AssertSqlSafe, Row as _};

use crate::conversation::Conversation;
use crate::ids::{Seq, UserId};
use crate::message::Stored;
use crate::mysql::changes::EVERYONE;
use crate::mysql::timeline::{self, COLUMNS_OF_T};
use crate::mysql::{Pool, unread};

/// Unread messages of a conversation that call for a notification.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unread {
    /// How many.
    pub count: u64,
    /// The newest of them, in its present state.
    pub newest: Stored,
    /// The newest of them that mentions the user; 0 if none does.
    pub mention: Seq,
}

/// The messages of others than `user` above `read` up to `to`, without change entries and recalled messages. `mentions_only`:
/// only those that mention the user, because the conversation is muted. `None` if there is none.
///
/// # Errors
/// The database's.
pub async fn unread(
    pool: &Pool,
    conversation: &Conversation,
    user: &UserId,
    (read, to): (Seq, Seq),
    mentions_only: bool,
) -> sqlx::Result<Option<Unread>> {
    let (mentions, mention) = mentions(pool, conversation, user, (read, to)).await?;
    let text = if mentions_only {
        if mentions == 0 {
            return Ok(None);
        }
        format!("SELECT {COLUMNS_OF_T} FROM timeline_message t WHERE t.conversation_id = ? AND t.seq = ?")
    } else {
        format!(
            "SELECT {COLUMNS_OF_T} FROM timeline_message t WHERE t.conversation_id = ? AND t.seq > ? AND t.seq <= ? \
             AND t.sender_id <> ? AND t.msg_type NOT IN (3, 4, 5, 6, 8) AND NOT t.is_recalled ORDER BY t.seq DESC LIMIT 1"
        )
    };
    let query = sqlx::query(AssertSqlSafe(text)).bind(conversation.key());
    let query =
        if mentions_only { query.bind(mention.0) } else { query.bind(read.0).bind(to.0).bind(user.as_str()) };
    let Some(row) = query.fetch_optional(pool).await? else { return Ok(None) };
    let newest = timeline::stored(conversation, &row)?;
    let count = if mentions_only {
        mentions
    } else {
        unread::count(pool, conversation, user, read, to).await?.max(1)
    };
    Ok(Some(Unread { count, newest, mention }))
}

/// How many of the messages mention `user` or everyone, and the newest of them.
async fn mentions(
    pool: &Pool,
    conversation: &Conversation,
    user: &UserId,
    (read, to): (Seq, Seq),
) -> sqlx::Result<(u64, Seq)> {
    let row = sqlx::query(
        "SELECT COUNT(DISTINCT m.seq), MAX(m.seq) FROM message_mention m \
         JOIN timeline_message t ON t.conversation_id = m.conversation_id AND t.seq = m.seq \
         WHERE m.conversation_id = ? AND m.user_id IN (?, ?) AND m.seq > ? AND m.seq <= ? AND t.sender_id <> ? \
         AND NOT t.is_recalled",
    )
    .bind(conversation.key())
    .bind(user.as_str())
    .bind(EVERYONE)
    .bind(read.0)
    .bind(to.0)
    .bind(user.as_str())
    .fetch_one(pool)
    .await?;
    let (count, newest): (i64, Option<u64>) = (row.try_get(0)?, row.try_get(1)?);
    Ok((count.unsigned_abs(), Seq(newest.unwrap_or(0))))
}
