//! `user_conversation_state`: how far each user has read.

use super::Pool;
use crate::conversation::Conversation;
use crate::ids::{Seq, UserId};

/// Moves the position forward to `to`, at most to the newest message, never back; returns what is stored now.
///
/// # Errors
/// As the database says.
pub async fn advance(pool: &Pool, user: &UserId, conversation: &Conversation, to: Seq) -> sqlx::Result<Seq> {
    // Two statements, no transaction: a message that is committed in between only makes the cut less strict.
    sqlx::query(
        "INSERT INTO user_conversation_state (user_id, conversation_id, last_ack_seq, updated_at) \
         SELECT ?, ?, LEAST(?, COALESCE(MAX(last_seq), 0)), ? FROM conversation WHERE conversation_id = ? \
         ON DUPLICATE KEY UPDATE last_ack_seq = GREATEST(last_ack_seq, VALUES(last_ack_seq)), \
         updated_at = VALUES(updated_at)",
    )
    .bind(user.as_str())
    .bind(conversation.key())
    .bind(to.0)
    .bind(crate::ids::unix_millis())
    .bind(conversation.key())
    .execute(pool)
    .await?;
    let stored: u64 = sqlx::query_scalar(
        "SELECT last_ack_seq FROM user_conversation_state WHERE user_id = ? AND conversation_id = ?",
    )
    .bind(user.as_str())
    .bind(conversation.key())
    .fetch_one(pool)
    .await?;
    Ok(Seq(stored))
}
