//! `timeline_message`, read for counting: who sent what number, without contents.

use sqlx::Row as _;

use super::Pool;
use crate::conversation::Conversation;
use crate::ids::{Seq, UserId};

/// Most messages that one count looks at.
const COUNTED_MAX: u32 = 100_000;

/// One row, as far as counting needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counted {
    /// Its number.
    pub seq: Seq,
    /// Who sent it.
    pub sender_id: String,
    /// It is a message that can be unread: no recall, and not recalled.
    pub counts: bool,
    /// It is the recall of this one.
    pub recalls: Option<Seq>,
}

/// The newest rows above `after`, falling, at most `limit`.
///
/// # Errors
/// As the database says.
pub async fn newest(
    pool: &Pool,
    conversation: &Conversation,
    after: Seq,
    limit: u32,
) -> sqlx::Result<Vec<Counted>> {
    let rows = sqlx::query(
        "SELECT seq, sender_id, msg_type, is_recalled, IF(msg_type = 3, content, '') FROM timeline_message \
         WHERE conversation_id = ? AND seq > ? ORDER BY seq DESC LIMIT ?",
    )
    .bind(conversation.key())
    .bind(after.0)
    .bind(limit)
    .fetch_all(pool)
    .await?;
    rows.iter()
        .map(|row| {
            let (msg_type, is_recalled): (u32, bool) = (row.try_get(2)?, row.try_get(3)?);
            let recalls: &str = row.try_get(4)?;
            Ok(Counted {
                seq: Seq(row.try_get(0)?),
                sender_id: row.try_get(1)?,
                counts: msg_type != 3 && !is_recalled,
                recalls: recalls.parse().ok().map(Seq),
            })
        })
        .collect()
}

/// How many messages of others than `user` are above `after` and not above `to`; at most 100,000 are looked at.
///
/// # Errors
/// As the database says.
pub async fn count(
    pool: &Pool,
    conversation: &Conversation,
    user: &UserId,
    after: Seq,
    to: Seq,
) -> sqlx::Result<u64> {
    let counted: i64 = sqlx::query_scalar(
        "SELECT COUNT(*) FROM (SELECT sender_id, msg_type, is_recalled FROM timeline_message \
         WHERE conversation_id = ? AND seq > ? AND seq <= ? ORDER BY seq DESC LIMIT ?) t \
         WHERE sender_id <> ? AND msg_type <> 3 AND NOT is_recalled",
    )
    .bind(conversation.key())
    .bind(after.0)
    .bind(to.0)
    .bind(COUNTED_MAX)
    .bind(user.as_str())
    .fetch_one(pool)
    .await?;
    Ok(counted.unsigned_abs())
}
