//! `timeline_message`: the messages, clustered by `(conversation_id, seq)`.

use std::sync::LazyLock;

use sqlx::mysql::MySqlRow;
use sqlx::{AssertSqlSafe, Row as _};

use super::multi_row::MultiRow;
use super::{Pool, Tx};
use crate::conversation::Conversation;
use crate::ids::{MsgId, Seq, UserId, unix_millis};
use crate::message::{Message, MessageKind, Numbered, Reuse, Stored};

static INSERT: LazyLock<MultiRow> = LazyLock::new(|| {
    MultiRow::fine(
        "INSERT INTO timeline_message (conversation_id, seq, msg_id, sender_id, content, msg_type, send_time, stored_at) VALUES ",
        "(?,?,?,?,?,?,?,?)",
        ",",
        "",
    )
});

/// Inserts messages under the given sequence numbers.
///
/// # Errors
/// A [duplicate key](super::is_duplicate_key) if a number or a `(conversation, sender, msg_id)` exists already: roll the
/// transaction back, since earlier rows may have been written.
pub async fn insert(tx: &mut Tx, rows: &[(Seq, &Numbered)]) -> sqlx::Result<()> {
    let now = unix_millis();
    for (range, text) in INSERT.exact(rows.len()) {
        let mut query = sqlx::query(AssertSqlSafe(text));
        for (seq, message) in &rows[range] {
            query = query
                .bind(message.conversation.key())
                .bind(seq.0)
                .bind(message.msg_id.as_str())
                .bind(message.sender.as_str())
                .bind(message.kind.content())
                .bind(message.kind.msg_type())
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
        "SELECT conversation_id, sender_id, msg_id, seq, msg_type, content, is_recalled FROM timeline_message WHERE ",
        "(conversation_id=? AND sender_id=? AND msg_id=?)",
        " OR ",
        "",
    )
});

/// The identity and the sequence number of a stored message, and what a retry of it must be equal to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredId {
    /// The conversation's key.
    pub conversation: String,
    /// The user who sent it.
    pub sender_id: String,
    /// The id that the sender gave it.
    pub msg_id: String,
    /// Its sequence number.
    pub seq: Seq,
    /// The number of its kind.
    pub msg_type: u32,
    /// Its content; empty if it was recalled.
    pub content: String,
    /// It was recalled.
    pub is_recalled: bool,
}

impl StoredId {
    /// What a message of this kind, with the same id, is to this one.
    #[must_use]
    pub fn reuse_by(&self, kind: &MessageKind) -> Reuse {
        kind.reuse_of_stored(self.msg_type, &self.content, self.is_recalled)
    }
}

fn stored_id(row: &MySqlRow) -> sqlx::Result<StoredId> {
    Ok(StoredId {
        conversation: row.try_get(0)?,
        sender_id: row.try_get(1)?,
        msg_id: row.try_get(2)?,
        seq: Seq(row.try_get(3)?),
        msg_type: row.try_get(4)?,
        content: row.try_get(5)?,
        is_recalled: row.try_get(6)?,
    })
}

/// The message of `sender` with `msg_id`, if it is stored.
///
/// # Errors
/// The database's.
pub async fn find_id(
    pool: &Pool,
    conversation: &Conversation,
    sender: &UserId,
    msg_id: &MsgId,
) -> sqlx::Result<Option<StoredId>> {
    let row = sqlx::query(
        "SELECT conversation_id, sender_id, msg_id, seq, msg_type, content, is_recalled FROM timeline_message \
         WHERE conversation_id = ? AND sender_id = ? AND msg_id = ?",
    )
    .bind(conversation.key())
    .bind(sender.as_str())
    .bind(msg_id.as_str())
    .fetch_optional(pool)
    .await?;
    row.as_ref().map(stored_id).transpose()
}

/// Those of `messages` that are stored already, found by `(conversation, sender, msg_id)`.
///
/// # Errors
/// The database's.
pub async fn find_ids(tx: &mut Tx, messages: &[&Numbered]) -> sqlx::Result<Vec<StoredId>> {
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
            found.push(stored_id(&row)?);
        }
    }
    Ok(found)
}

static FIND_TARGETS: LazyLock<MultiRow> = LazyLock::new(|| {
    MultiRow::new(
        "SELECT conversation_id, seq, sender_id, msg_type = 3 FROM timeline_message WHERE ",
        "(conversation_id=? AND seq=?)",
        " OR ",
        "",
    )
});

/// A stored message that is to be recalled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The conversation's key.
    pub conversation: String,
    /// Its sequence number.
    pub seq: Seq,
    /// The user who sent it.
    pub sender_id: String,
    /// It is itself a recall.
    pub is_recall: bool,
}

/// Those of `numbers` that are stored.
///
/// # Errors
/// The database's.
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
                is_recall: row.try_get(3)?,
            });
        }
    }
    Ok(found)
}

/// Marks stored messages as recalled and removes their contents.
///
/// # Errors
/// The database's.
pub async fn blank(tx: &mut Tx, numbers: &[(&Conversation, Seq)]) -> sqlx::Result<()> {
    // One statement each: recalls are rare, and an UPDATE with OR may scan the table.
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

/// The direction in which a page is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// In ascending order, above the cursor.
    Forward,
    /// In descending order, below the cursor; cursor 0 starts at the newest message.
    Backward,
}

/// Reads up to `limit` messages of a conversation after `cursor`, which is not included.
///
/// # Errors
/// The database's.
pub async fn read(
    pool: &Pool,
    conversation: &Conversation,
    cursor: Seq,
    direction: Direction,
    limit: u32,
) -> sqlx::Result<Vec<Stored>> {
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
            Ok(Stored {
                message: Message {
                    conversation: conversation.clone(),
                    sender: UserId::from_stored(row.try_get(2)?),
                    msg_id: MsgId::from_stored(row.try_get(1)?),
                    kind: MessageKind::from_stored(row.try_get(4)?, row.try_get(3)?),
                    send_time_ms: row.try_get(5)?,
                },
                seq: Seq(row.try_get(0)?),
                is_recalled: row.try_get(6)?,
            })
        })
        .collect()
}

/// The properties of a message that decide whether it may be recalled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// The user who sent it.
    pub sender_id: String,
    /// It is itself a recall.
    pub is_recall: bool,
    /// The time at which it was stored (of old rows: sent), in milliseconds since 1970.
    pub stored_at: i64,
}

/// The facts about message `seq`; `None` if there is no such message.
///
/// # Errors
/// The database's.
pub async fn facts(pool: &Pool, conversation: &Conversation, seq: Seq) -> sqlx::Result<Option<Facts>> {
    let row = sqlx::query(
        "SELECT sender_id, msg_type = 3, stored_at, send_time FROM timeline_message WHERE conversation_id = ? AND seq = ?",
    )
    .bind(conversation.key())
    .bind(seq.0)
    .fetch_optional(pool)
    .await?;
    let Some(row) = row else { return Ok(None) };
    let (stored_at, sent_at): (i64, i64) = (row.try_get(2)?, row.try_get(3)?);
    let stored_at = if stored_at == 0 { sent_at } else { stored_at };
    Ok(Some(Facts { sender_id: row.try_get(0)?, is_recall: row.try_get(1)?, stored_at }))
}
