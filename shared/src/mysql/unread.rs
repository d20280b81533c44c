//! `timeline_message`, read to count unread messages: numbers and senders without contents.

use sqlx::Row as _;

use super::Pool;
use crate::conversation::Conversation;
use crate::ids::{Seq, UserId};
use crate::message::Stored;

/// Most messages that one count looks at: some milliseconds.
pub const COUNTED_MAX: u32 = 10_000;

/// The part of a row that counting needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counted {
    /// Its sequence number.
    pub seq: Seq,
    /// The user who sent it.
    pub sender_id: String,
    /// It is shown as the last message of its conversation while no newer one is: it is no change entry, and no system entry.
    pub is_message: bool,
    /// It counts as unread for others than its sender: it is such a message, and was not recalled.
    pub counts: bool,
    /// The message that it changes, if it is a change entry.
    pub changes: Option<Seq>,
    /// It recalls that message.
    pub is_recall: bool,
    /// It mentions users, or is an edit that may.
    pub mentions: bool,
}

/// The newest rows above `after`, in descending order, at most `limit`.
///
/// # Errors
/// The database's.
pub async fn newest(
    pool: &Pool,
    conversation: &Conversation,
    after: Seq,
    limit: u32,
) -> sqlx::Result<Vec<Counted>> {
    let rows = sqlx::query(
        "SELECT seq, sender_id, msg_type, is_recalled, IF(msg_type = 3, content, ''), extra FROM timeline_message \
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
            let extra: Option<&str> = row.try_get(5)?;
            let (kind, details, ..) = Stored::read(msg_type, row.try_get(4)?, extra);
            Ok(Counted {
                seq: Seq(row.try_get(0)?),
                sender_id: row.try_get(1)?,
                is_message: kind.counts(),
                counts: kind.counts() && !is_recalled,
                changes: kind.changes(),
                is_recall: kind.recalls().is_some(),
                mentions: details.is_some_and(|details| details.mentions.is_some()),
            })
        })
        .collect()
}

/// The number of messages of others than `user` above `after`, up to `to`. At most the newest 10,000 messages are
/// counted.
///
/// # Errors
/// The database's.
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
         WHERE sender_id <> ? AND msg_type NOT IN (3, 4, 5, 6, 8) AND NOT is_recalled",
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
