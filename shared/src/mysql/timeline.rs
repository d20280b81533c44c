//! `timeline_message`: the messages, clustered by `(conversation_id, seq)`.

use std::sync::LazyLock;

use sqlx::{AssertSqlSafe, Row as _};

use super::multi_row::MultiRow;
use super::{Pool, Tx};
use crate::conversation::Conversation;
use crate::envelope::ChatMessage;
use crate::ids::{Seq, unix_millis};

/// A message as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredMessage {
    /// Its number.
    pub seq: Seq,
    /// The sender's id for it.
    pub msg_id: String,
    /// Who sent it.
    pub sender_id: String,
    /// What it says.
    pub content: String,
    /// 1 text, 2 image.
    pub msg_type: u32,
    /// Milliseconds since the Unix epoch.
    pub send_time_ms: i64,
    /// Its content was blanked.
    pub is_recalled: bool,
}

static INSERT: LazyLock<MultiRow> = LazyLock::new(|| {
    MultiRow::fine(
        "INSERT INTO timeline_message (conversation_id, seq, msg_id, sender_id, content, msg_type, send_time, stored_at) VALUES ",
        "(?,?,?,?,?,?,?,?)",
        ",",
        "",
    )
});

/// Inserts messages under the given numbers.
///
/// # Errors
/// [`is_duplicate_key`](super::is_duplicate_key) if a number or a `(conversation, sender, msg_id)` is there already: roll
/// the transaction back, rows before the one at fault may have been written.
pub async fn insert(tx: &mut Tx, rows: &[(Seq, &ChatMessage)]) -> sqlx::Result<()> {
    let now = unix_millis();
    for (range, text) in INSERT.exact(rows.len()) {
        let mut query = sqlx::query(AssertSqlSafe(text));
        for (seq, message) in &rows[range] {
            query = query
                .bind(message.conversation.key())
                .bind(seq.0)
                .bind(message.msg_id.as_str())
                .bind(message.sender.as_str())
                .bind(message.content.as_str())
                .bind(message.msg_type)
                .bind(message.send_time_ms)
                .bind(now);
        }
        query.execute(&mut *tx).await?;
    }
    Ok(())
}

// OR of equalities instead of a row-value IN: both engines read it as one range each on the unique key.
static FIND: LazyLock<MultiRow> = LazyLock::new(|| {
    MultiRow::new(
        "SELECT conversation_id, sender_id, msg_id, seq FROM timeline_message WHERE ",
        "(conversation_id=? AND sender_id=? AND msg_id=?)",
        " OR ",
        "",
    )
});

/// A stored message's identity and number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredId {
    /// The conversation's key.
    pub conversation: String,
    /// Who sent it.
    pub sender_id: String,
    /// The sender's id for it.
    pub msg_id: String,
    /// The number under which it is stored.
    pub seq: Seq,
}

/// Which of these messages are stored already, by `(conversation, sender, msg_id)`.
///
/// # Errors
/// As the database says.
pub async fn find_ids(tx: &mut Tx, messages: &[&ChatMessage]) -> sqlx::Result<Vec<StoredId>> {
    let mut found = Vec::new();
    for (range, length, text) in FIND.padded(messages.len()) {
        let rows = &messages[range];
        let mut query = sqlx::query(AssertSqlSafe(text));
        let last = rows.last().copied();
        for message in rows.iter().copied().chain(last.into_iter().cycle()).take(length) {
            query = query
                .bind(message.conversation.key())
                .bind(message.sender.as_str())
                .bind(message.msg_id.as_str());
        }
        for row in query.fetch_all(&mut *tx).await? {
            found.push(StoredId {
                conversation: row.try_get(0)?,
                sender_id: row.try_get(1)?,
                msg_id: row.try_get(2)?,
                seq: Seq(row.try_get(3)?),
            });
        }
    }
    Ok(found)
}

static FIND_TARGETS: LazyLock<MultiRow> = LazyLock::new(|| {
    MultiRow::new(
        "SELECT conversation_id, seq, sender_id, msg_type FROM timeline_message WHERE ",
        "(conversation_id=? AND seq=?)",
        " OR ",
        "",
    )
});

/// A stored message that someone wants to recall.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The conversation's key.
    pub conversation: String,
    /// Its number.
    pub seq: Seq,
    /// Who sent it.
    pub sender_id: String,
    /// 1 text, 2 image, 3 a recall.
    pub msg_type: u32,
}

/// Which of these numbers are stored.
///
/// # Errors
/// As the database says.
pub async fn find_targets(tx: &mut Tx, numbers: &[(&Conversation, Seq)]) -> sqlx::Result<Vec<Target>> {
    let mut found = Vec::new();
    for (range, length, text) in FIND_TARGETS.padded(numbers.len()) {
        let asked = &numbers[range];
        let mut query = sqlx::query(AssertSqlSafe(text));
        for (conversation, seq) in asked.iter().chain(asked.last().into_iter().cycle()).take(length) {
            query = query.bind(conversation.key()).bind(seq.0);
        }
        for row in query.fetch_all(&mut *tx).await? {
            found.push(Target {
                conversation: row.try_get(0)?,
                seq: Seq(row.try_get(1)?),
                sender_id: row.try_get(2)?,
                msg_type: row.try_get(3)?,
            });
        }
    }
    Ok(found)
}

/// Recalls stored messages: what they said is gone.
///
/// # Errors
/// As the database says.
pub async fn blank(tx: &mut Tx, numbers: &[(&Conversation, Seq)]) -> sqlx::Result<()> {
    // One at a time: recalls are rare, and an UPDATE by OR may scan.
    for (conversation, seq) in numbers {
        sqlx::query(
            "UPDATE timeline_message SET content = '', is_recalled = TRUE WHERE conversation_id = ? AND seq = ?",
        )
        .bind(conversation.key())
        .bind(seq.0)
        .execute(&mut *tx)
        .await?;
    }
    Ok(())
}

/// Which way to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// Rising, above the cursor.
    Forward,
    /// Falling, below the cursor; cursor 0 begins at the newest.
    Backward,
}

/// Reads up to `limit` messages of a conversation from `cursor` on (which is not included).
///
/// # Errors
/// As the database says.
pub async fn read(
    pool: &Pool,
    conversation: &Conversation,
    cursor: Seq,
    direction: Direction,
    limit: u32,
) -> sqlx::Result<Vec<StoredMessage>> {
    const FORWARD: &str = "SELECT seq, msg_id, sender_id, content, msg_type, send_time, is_recalled \
                           FROM timeline_message WHERE conversation_id = ? AND seq > ? ORDER BY seq LIMIT ?";
    const BACKWARD: &str = "SELECT seq, msg_id, sender_id, content, msg_type, send_time, is_recalled \
                            FROM timeline_message WHERE conversation_id = ? AND seq < ? ORDER BY seq DESC LIMIT ?";
    let (text, cursor) = match direction {
        Direction::Forward => (FORWARD, cursor),
        Direction::Backward if cursor == Seq::ZERO => (BACKWARD, Seq(i64::MAX as u64)),
        Direction::Backward => (BACKWARD, cursor),
    };
    let rows = sqlx::query(text).bind(conversation.key()).bind(cursor.0).bind(limit).fetch_all(pool).await?;
    rows.iter()
        .map(|row| {
            Ok(StoredMessage {
                seq: Seq(row.try_get(0)?),
                msg_id: row.try_get(1)?,
                sender_id: row.try_get(2)?,
                content: row.try_get(3)?,
                msg_type: row.try_get(4)?,
                send_time_ms: row.try_get(5)?,
                is_recalled: row.try_get(6)?,
            })
        })
        .collect()
}

/// What is known about one message beside its content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// Who sent it.
    pub sender_id: String,
    /// 1 text, 2 image, 3 recall.
    pub msg_type: u32,
    /// When it was stored (of old rows: when it was sent), in milliseconds since 1970.
    pub stored_at: i64,
}

/// Facts about message `seq`; `None` if there is none.
///
/// # Errors
/// As the database says.
pub async fn facts(pool: &Pool, conversation: &Conversation, seq: Seq) -> sqlx::Result<Option<Facts>> {
    let row = sqlx::query(
        "SELECT sender_id, msg_type, stored_at, send_time FROM timeline_message WHERE conversation_id = ? AND seq = ?",
    )
    .bind(conversation.key())
    .bind(seq.0)
    .fetch_optional(pool)
    .await?;
    let Some(row) = row else { return Ok(None) };
    let (stored_at, sent_at): (i64, i64) = (row.try_get(2)?, row.try_get(3)?);
    let stored_at = if stored_at == 0 { sent_at } else { stored_at };
    Ok(Some(Facts { sender_id: row.try_get(0)?, msg_type: row.try_get(1)?, stored_at }))
}
