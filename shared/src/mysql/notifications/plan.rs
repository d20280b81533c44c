//! What the reader of the change feed writes, in the transaction that moves its place.

use std::sync::LazyLock;

use sqlx::AssertSqlSafe;

use crate::conversation::Conversation;
use crate::ids::{Seq, UserId};
use crate::mysql::Tx;
use crate::mysql::multi_row::MultiRow;

/// Messages of a conversation that a user is to be notified of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Planned {
    /// The user.
    pub user: UserId,
    /// The conversation.
    pub conversation: Conversation,
    /// The newest of the messages.
    pub last_seq: Seq,
    /// The newest of them that mentions the user; 0 if none does.
    pub mention_seq: Seq,
    /// When the oldest of them was stored, in milliseconds since 1970.
    pub since_ms: i64,
    /// When to send the notification, in milliseconds since 1970.
    pub due_at: i64,
}

// Assignments are made from left to right, each with the values that those before it have set.
static UPSERT: LazyLock<MultiRow> = LazyLock::new(|| {
    MultiRow::new(
        "INSERT INTO notification (user_id, conversation_id, shard, last_seq, mention_seq, since_ms, due_at) VALUES ",
        "(?,?,?,?,?,?,?)",
        ",",
        " ON DUPLICATE KEY UPDATE shard = VALUES(shard), \
         due_at = LEAST(due_at, GREATEST(VALUES(due_at), shown_at + ?)), \
         since_ms = IF(last_seq > shown_seq, since_ms, VALUES(since_ms)), \
         mention_seq = GREATEST(mention_seq, VALUES(mention_seq)), \
         last_seq = GREATEST(last_seq, VALUES(last_seq)), \
         pending = IF(is_withdrawn, '', pending), is_withdrawn = FALSE, looks = 0, version = version + 1",
    )
});

/// Writes rows of `shard`. A notification that is shown is not replaced before `interval_ms` have passed.
///
/// # Errors
/// The database's.
pub async fn upsert(tx: &mut Tx, shard: u16, planned: &[Planned], interval_ms: i64) -> sqlx::Result<()> {
    for (range, text) in UPSERT.exact(planned.len()) {
        let mut query = sqlx::query(AssertSqlSafe(text));
        for row in &planned[range] {
            query = query
                .bind(row.user.as_str())
                .bind(row.conversation.key())
                .bind(shard)
                .bind(row.last_seq.0)
                .bind(row.mention_seq.0)
                .bind(row.since_ms)
                .bind(row.due_at);
        }
        query.bind(interval_ms).execute(&mut *tx).await?;
    }
    Ok(())
}

/// The entry `recall` has recalled the message `target`: notifications that may show it are looked at now. The recall's number
/// becomes that of the notification, so that devices take what replaces it for newer.
///
/// # Errors
/// The database's.
pub async fn recalled(
    tx: &mut Tx,
    conversation: &Conversation,
    target: Seq,
    recall: Seq,
    now: i64,
) -> sqlx::Result<()> {
    sqlx::query(
        "UPDATE notification SET last_seq = GREATEST(last_seq, ?), due_at = LEAST(due_at, ?), version = version + 1 \
         WHERE conversation_id = ? AND GREATEST(shown_seq, sending_seq) >= ?",
    )
    .bind(recall.0)
    .bind(now)
    .bind(conversation.key())
    .bind(target.0)
    .execute(tx)
    .await
    .map(drop)
}

/// Notifications of a conversation that devices may show are looked at now, because its members have changed.
///
/// # Errors
/// The database's.
pub async fn changed(tx: &mut Tx, conversation: &Conversation, now: i64) -> sqlx::Result<()> {
    sqlx::query(
        "UPDATE notification SET due_at = LEAST(due_at, ?), version = version + 1 \
         WHERE conversation_id = ? AND GREATEST(shown_seq, sending_seq) > 0",
    )
    .bind(now)
    .bind(conversation.key())
    .execute(tx)
    .await
    .map(drop)
}
