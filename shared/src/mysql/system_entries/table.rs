//! The table.

use sqlx::Row as _;

use super::entry::SystemEntry;
use crate::conversation::Conversation;
use crate::ids::{MsgId, UserId, unix_millis};
use crate::message::{Details, Message, MessageKind};
use crate::meta::Meta;
use crate::mysql::{Pool, Tx};

/// Groups that one look for unsent entries returns.
const GROUPS_MAX: u32 = 100;
/// Entries of one group that are read at once.
const ENTRIES_MAX: u32 = 100;

/// The place of an entry in the table: it rises with the changes of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct EntryId(u64);

/// An entry to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnsentEntry {
    /// Its place.
    pub id: EntryId,
    /// The message.
    pub message: Message,
}

/// Writes the entry of a change. The conversation's row is locked.
///
/// # Errors
/// The database's.
pub(crate) async fn insert(tx: &mut Tx, group: &Conversation, entry: &SystemEntry) -> sqlx::Result<EntryId> {
    let inserted = sqlx::query(
        "INSERT INTO system_entry (group_id, sender_id, msg_id, meta, created_at) VALUES (?, ?, ?, ?, ?)",
    )
    .bind(group.key())
    .bind(entry.by.as_str())
    .bind(MsgId::generate().as_str())
    .bind(entry.meta().as_str())
    .bind(unix_millis())
    .execute(&mut *tx)
    .await?;
    Ok(EntryId(inserted.last_insert_id()))
}

/// The entries of a group up to `last`, in the order of its changes; at most a hundred.
///
/// # Errors
/// The database's.
pub async fn of_group(pool: &Pool, group: &Conversation, last: EntryId) -> sqlx::Result<Vec<UnsentEntry>> {
    let rows = sqlx::query(
        "SELECT id, sender_id, msg_id, meta, created_at FROM system_entry \
         WHERE group_id = ? AND id <= ? ORDER BY id LIMIT ?",
    )
    .bind(group.key())
    .bind(last.0)
    .bind(ENTRIES_MAX)
    .fetch_all(pool)
    .await?;
    let invalid = |error| sqlx::Error::Decode(Box::new(error));
    rows.iter()
        .map(|row| {
            let details = Details { meta: Some(Meta::from_stored(row.try_get(3)?)), ..Details::default() };
            let message = Message {
                conversation: group.clone(),
                sender: UserId::parse(row.try_get(1)?).map_err(invalid)?,
                msg_id: MsgId::parse(row.try_get(2)?).map_err(invalid)?,
                kind: MessageKind::System,
                details: Some(Box::new(details)),
                send_time_ms: row.try_get(4)?,
            };
            Ok(UnsentEntry { id: EntryId(row.try_get(0)?), message })
        })
        .collect()
}

/// Removes an entry that is stored.
///
/// # Errors
/// The database's.
pub async fn remove(pool: &Pool, id: EntryId) -> sqlx::Result<()> {
    sqlx::query("DELETE FROM system_entry WHERE id = ?").bind(id.0).execute(pool).await.map(drop)
}

/// Groups with an entry that was written before `before_ms`, each with the last one; at most a hundred.
///
/// # Errors
/// The database's.
pub async fn overdue(pool: &Pool, before_ms: i64) -> sqlx::Result<Vec<(Conversation, EntryId)>> {
    let rows: Vec<(String, u64)> = sqlx::query_as(
        "SELECT group_id, MAX(id) FROM system_entry WHERE created_at < ? GROUP BY group_id LIMIT ?",
    )
    .bind(before_ms)
    .bind(GROUPS_MAX)
    .fetch_all(pool)
    .await?;
    // A key that cannot be read was never written.
    Ok(rows
        .into_iter()
        .filter_map(|(key, id)| Some((Conversation::from_key(&key).ok()?, EntryId(id))))
        .collect())
}
