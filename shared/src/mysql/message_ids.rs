//! `timeline_message` and `unchanged_entry`, read by the ids that senders give: which messages are stored already.

use std::sync::LazyLock;

use sqlx::mysql::MySqlRow;
use sqlx::{AssertSqlSafe, Row as _};

use super::multi_row::MultiRow;
use super::{Pool, Tx};
use crate::conversation::Conversation;
use crate::ids::{MsgId, Seq, UserId};
use crate::message::{MessageKind, Numbered, Reuse, Stored};

// OR of equalities instead of a row-value IN: both engines read it as one range each on the unique key.
static FIND: LazyLock<MultiRow> = LazyLock::new(|| {
    MultiRow::new(
        "SELECT conversation_id, sender_id, msg_id, seq, msg_type, content, extra, is_recalled, FALSE FROM timeline_message WHERE ",
        "(conversation_id=? AND sender_id=? AND msg_id=?)",
        " OR ",
        "",
    )
});
/// Entries that changed nothing have no row in the timeline.
static FIND_UNCHANGED: LazyLock<MultiRow> = LazyLock::new(|| {
    MultiRow::new(
        "SELECT conversation_id, sender_id, msg_id, seq, msg_type, content, extra, FALSE, TRUE FROM unchanged_entry WHERE ",
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
    /// Its kind and present content.
    pub kind: MessageKind,
    /// It was recalled or edited since.
    pub is_rewritten: bool,
    /// It changed nothing when its turn came, and is no entry of the timeline.
    pub changed_nothing: bool,
}

impl StoredId {
    /// What a message of this kind, with the same id, is to this one.
    #[must_use]
    pub fn reuse_by(&self, kind: &MessageKind) -> Reuse {
        kind.reuse_of_stored(&self.kind, self.is_rewritten)
    }
}

/// Reads a row of [`FIND`] or [`FIND_UNCHANGED`].
fn stored_id(row: &MySqlRow) -> sqlx::Result<StoredId> {
    let (kind, _, edited_at, _) = Stored::read(row.try_get(4)?, row.try_get(5)?, row.try_get(6)?);
    let is_recalled: bool = row.try_get(7)?;
    Ok(StoredId {
        conversation: row.try_get(0)?,
        sender_id: row.try_get(1)?,
        msg_id: row.try_get(2)?,
        seq: Seq(row.try_get(3)?),
        kind,
        is_rewritten: is_recalled || edited_at.is_some(),
        changed_nothing: row.try_get(8)?,
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
    for (_, _, text) in FIND.padded(1).chain(FIND_UNCHANGED.padded(1)) {
        let query = sqlx::query(AssertSqlSafe(text));
        let query = query.bind(conversation.key()).bind(sender.as_str()).bind(msg_id.as_str());
        if let Some(row) = query.fetch_optional(pool).await? {
            return stored_id(&row).map(Some);
        }
    }
    Ok(None)
}

/// Those of `messages` that are stored already, found by `(conversation, sender, msg_id)`.
///
/// # Errors
/// The database's.
pub async fn find_ids(tx: &mut Tx, messages: &[&Numbered]) -> sqlx::Result<Vec<StoredId>> {
    let mut found = select_ids(tx, &FIND, messages).await?;
    let may_be_unchanged = |message: &&Numbered| message.kind.may_change_nothing();
    let changes: Vec<&Numbered> = messages.iter().copied().filter(may_be_unchanged).collect();
    if !changes.is_empty() {
        found.extend(select_ids(tx, &FIND_UNCHANGED, &changes).await?);
    }
    Ok(found)
}

async fn select_ids(
    tx: &mut Tx,
    statement: &MultiRow,
    messages: &[&Numbered],
) -> sqlx::Result<Vec<StoredId>> {
    let mut found = Vec::new();
    for (range, length, text) in statement.padded(messages.len()) {
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
