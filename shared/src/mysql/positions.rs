//! `user_conversation_state`: how far each user has read.

use super::Pool;
use crate::conversation::Conversation;
use crate::ids::{Seq, UserId};

/// Where a position is now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Advance {
    /// As stored.
    pub position: Seq,
    /// It was lower before.
    pub moved: bool,
}

/// Moves the position forward to `to`, at most to the newest message, never back.
///
/// # Errors
/// As the database says.
pub async fn advance(
    pool: &Pool,
    user: &UserId,
    conversation: &Conversation,
    to: Seq,
) -> sqlx::Result<Advance> {
    // No transaction: each statement moves forward only, so any interleaving ends at the largest position asked for.
    let newest = super::conversations::last_seq(pool, conversation).await?.unwrap_or(Seq::ZERO);
    let before = position(pool, user, conversation).await?;
    let to = to.min(newest);
    if to <= before {
        return Ok(Advance { position: before, moved: false });
    }
    sqlx::query(
        "INSERT INTO user_conversation_state (user_id, conversation_id, last_ack_seq, updated_at) VALUES (?, ?, ?, ?) \
         ON DUPLICATE KEY UPDATE last_ack_seq = GREATEST(last_ack_seq, VALUES(last_ack_seq)), \
         updated_at = VALUES(updated_at)",
    )
    .bind(user.as_str())
    .bind(conversation.key())
    .bind(to.0)
    .bind(crate::ids::unix_millis())
    .execute(pool)
    .await?;
    Ok(Advance { position: position(pool, user, conversation).await?, moved: true })
}

async fn position(pool: &Pool, user: &UserId, conversation: &Conversation) -> sqlx::Result<Seq> {
    let stored: Option<u64> = sqlx::query_scalar(
        "SELECT last_ack_seq FROM user_conversation_state WHERE user_id = ? AND conversation_id = ?",
    )
    .bind(user.as_str())
    .bind(conversation.key())
    .fetch_optional(pool)
    .await?;
    Ok(stored.map_or(Seq::ZERO, Seq))
}
