//! `timeline_message`, in steps.

use sqlx::Row as _;
use sqlx::mysql::MySqlRow;

use crate::ids::Seq;
use crate::mysql::Pool;

/// The keys after `after` that have messages, in order, at most `limit`; also those without a row in `conversation`.
///
/// # Errors
/// The database's.
pub async fn keys_with_messages_after(pool: &Pool, after: &str, limit: u32) -> sqlx::Result<Vec<String>> {
    // One key at a time, by a jump in the primary key: DISTINCT would read the index of every message on MariaDB.
    let mut keys: Vec<String> = Vec::new();
    let mut after = after.to_owned();
    for _ in 0..limit {
        let next: Option<String> = sqlx::query_scalar(
            "SELECT conversation_id FROM timeline_message WHERE conversation_id > ? ORDER BY conversation_id, seq LIMIT 1",
        )
        .bind(&after)
        .fetch_optional(pool)
        .await?;
        let Some(next) = next else { break };
        after.clone_from(&next);
        keys.push(next);
    }
    Ok(keys)
}

/// The sequence numbers of stored messages above `after`, ascending, at most `limit`.
///
/// # Errors
/// The database's.
pub async fn seqs_after(pool: &Pool, key: &str, after: Seq, limit: u32) -> sqlx::Result<Vec<Seq>> {
    let seqs: Vec<u64> = sqlx::query_scalar(
        "SELECT seq FROM timeline_message WHERE conversation_id = ? AND seq > ? ORDER BY seq LIMIT ?",
    )
    .bind(key)
    .bind(after.0)
    .bind(limit)
    .fetch_all(pool)
    .await?;
    Ok(seqs.into_iter().map(Seq).collect())
}

/// A message id that a sender has in several rows of one conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DuplicateId {
    /// The sender.
    pub sender_id: String,
    /// The id.
    pub msg_id: String,
    /// The lowest and the highest of the rows' sequence numbers.
    pub seqs: (Seq, Seq),
    /// The number of rows.
    pub rows: i64,
}

/// Message ids with several rows, at most `limit`. The unique key prevents them: they show that it is missing.
///
/// # Errors
/// The database's.
pub async fn duplicate_ids(pool: &Pool, key: &str, limit: u32) -> sqlx::Result<Vec<DuplicateId>> {
    let rows = sqlx::query(
        "SELECT sender_id, msg_id, MIN(seq), MAX(seq), COUNT(*) FROM timeline_message WHERE conversation_id = ? \
         GROUP BY sender_id, msg_id HAVING COUNT(*) > 1 ORDER BY sender_id, msg_id LIMIT ?",
    )
    .bind(key)
    .bind(limit)
    .fetch_all(pool)
    .await?;
    let duplicate = |row: &MySqlRow| {
        Ok(DuplicateId {
            sender_id: row.try_get(0)?,
            msg_id: row.try_get(1)?,
            seqs: (Seq(row.try_get(2)?), Seq(row.try_get(3)?)),
            rows: row.try_get(4)?,
        })
    };
    rows.iter().map(duplicate).collect()
}

/// A stored message, as far as a trace needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredMessage {
    /// The conversation's key.
    pub key: String,
    /// Its sequence number.
    pub seq: Seq,
    /// The sender.
    pub sender_id: String,
    /// 1 text, 2 image, 3 recall.
    pub msg_type: u32,
    /// When it was sent, by the clock of its client, in milliseconds since 1970.
    pub send_time_ms: i64,
    /// When it was stored, by the clock of the worker, in milliseconds since 1970; 0 for old rows.
    pub stored_at_ms: i64,
    /// Its content was removed by a recall.
    pub is_recalled: bool,
}

const BY_MSG_ID: &str = "SELECT conversation_id, seq, sender_id, msg_type, send_time, stored_at, is_recalled \
                         FROM timeline_message WHERE conversation_id = ? AND msg_id = ? ORDER BY seq LIMIT 100";

/// The messages of a conversation with this id: one for each sender that used it, at most 100.
///
/// # Errors
/// The database's.
pub async fn messages_with_id(pool: &Pool, key: &str, msg_id: &str) -> sqlx::Result<Vec<StoredMessage>> {
    let rows = sqlx::query(BY_MSG_ID).bind(key).bind(msg_id).fetch_all(pool).await?;
    let message = |row: &MySqlRow| {
        Ok(StoredMessage {
            key: row.try_get(0)?,
            seq: Seq(row.try_get(1)?),
            sender_id: row.try_get(2)?,
            msg_type: row.try_get(3)?,
            send_time_ms: row.try_get(4)?,
            stored_at_ms: row.try_get(5)?,
            is_recalled: row.try_get(6)?,
        })
    };
    rows.iter().map(message).collect()
}
