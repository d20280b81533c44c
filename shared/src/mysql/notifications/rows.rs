//! Rows while they are sent. Every statement that changes one raises its version; what was decided about a row is carried out
//! only if it has the version of the decision.

use std::sync::LazyLock;

use sqlx::mysql::MySqlRow;
use sqlx::{AssertSqlSafe, Row as _};

use crate::conversation::{Conversation, Kind};
use crate::ids::{Seq, UserId};
use crate::mysql::multi_row::MultiRow;
use crate::mysql::{Pool, Tx};

/// A notification: that of a user and a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Key {
    /// The user.
    pub user: UserId,
    /// The conversation.
    pub conversation: Conversation,
}

/// A row as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DueRow {
    /// The newest entry that calls for the notification, or changes the one that is shown.
    pub last_seq: Seq,
    /// The newest message that mentions the user; 0 if none does.
    pub mention_seq: Seq,
    /// When the oldest message was stored that no notification shows, in milliseconds since 1970.
    pub since_ms: i64,
    /// The `last_seq` that devices show; 0 if they show none.
    pub shown_seq: Seq,
    /// The `last_seq` that was given to a push service, perhaps in vain.
    pub sending_seq: Seq,
    /// When it was shown, in milliseconds since 1970.
    pub shown_at: i64,
    /// How often it was looked at in vain.
    pub looks: u8,
    /// Devices are told to remove it.
    pub is_withdrawn: bool,
    /// Ids of subscriptions that have not got it.
    pub pending: Vec<String>,
    /// Raised by each change.
    pub version: u64,
}

/// What is known about the user and the conversation of a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Nothing at or below is unread.
    pub read: Seq,
    /// The user is in the conversation.
    pub is_inside: bool,
    /// The end of the user's mute of the conversation, in milliseconds since 1970; 0 if it is not muted, -1 for ever.
    pub muted_until: i64,
    /// The name of the group; empty for a private chat.
    pub group_name: String,
}

/// The rows of `shard` that are due at `now`, at most `limit`, those first that have been due for longest.
///
/// # Errors
/// The database's; an ill-formed stored id is left out and logged.
pub async fn due(pool: &Pool, shard: u16, now: i64, limit: u32) -> sqlx::Result<Vec<(Key, DueRow, Found)>> {
    let rows = sqlx::query(
        "SELECT n.user_id, n.conversation_id, n.last_seq, n.mention_seq, n.since_ms, n.shown_seq, n.sending_seq, n.shown_at, \
         n.looks, n.is_withdrawn, n.pending, n.version, \
         CAST(GREATEST(COALESCE(s.last_ack_seq, 0), COALESCE(s.cleared_seq, 0), COALESCE(m.join_seq, 0), \
         COALESCE(m.floor_seq, 0)) AS UNSIGNED), \
         m.user_id IS NOT NULL AND g.group_id IS NOT NULL AND NOT g.is_dismissed, COALESCE(s.muted_until, 0), \
         COALESCE(g.name, '') \
         FROM notification n \
         LEFT JOIN user_conversation_state s ON s.user_id = n.user_id AND s.conversation_id = n.conversation_id \
         LEFT JOIN group_member m ON m.group_id = n.conversation_id AND m.user_id = n.user_id \
         LEFT JOIN chat_group g ON g.group_id = n.conversation_id \
         WHERE n.shard = ? AND n.due_at <= ? ORDER BY n.due_at LIMIT ?",
    )
    .bind(shard)
    .bind(now)
    .bind(limit)
    .fetch_all(pool)
    .await?;
    let mut found = Vec::with_capacity(rows.len());
    for row in &rows {
        let (user, key): (&str, &str) = (row.try_get(0)?, row.try_get(1)?);
        let (Ok(user), Ok(conversation)) = (UserId::parse(user), Conversation::from_key(key)) else {
            tracing::error!(%user, %key, "ill-formed id in notification");
            continue;
        };
        let of_group = conversation.kind() == Kind::Group;
        found.push((Key { user, conversation }, due_row(row)?, facts(row, of_group)?));
    }
    Ok(found)
}

fn due_row(row: &MySqlRow) -> sqlx::Result<DueRow> {
    let pending: &str = row.try_get(10)?;
    Ok(DueRow {
        last_seq: Seq(row.try_get(2)?),
        mention_seq: Seq(row.try_get(3)?),
        since_ms: row.try_get(4)?,
        shown_seq: Seq(row.try_get(5)?),
        sending_seq: Seq(row.try_get(6)?),
        shown_at: row.try_get(7)?,
        looks: row.try_get(8)?,
        is_withdrawn: row.try_get(9)?,
        pending: pending.split_whitespace().map(ToOwned::to_owned).collect(),
        version: row.try_get(11)?,
    })
}

fn facts(row: &MySqlRow, of_group: bool) -> sqlx::Result<Found> {
    let is_member: Option<i64> = row.try_get(13)?;
    Ok(Found {
        read: Seq(row.try_get(12)?),
        is_inside: !of_group || is_member.is_some_and(|is_member| is_member != 0),
        muted_until: row.try_get(14)?,
        group_name: row.try_get(15)?,
    })
}

/// Begins to send what the row of `version` calls for: the number `seq`, or that it is withdrawn (`None`). Unless the end is
/// recorded before `until`, it is sent again. False, and nothing is to be sent, if the row has changed since.
///
/// # Errors
/// The database's.
pub async fn begin(pool: &Pool, key: &Key, version: u64, seq: Option<Seq>, until: i64) -> sqlx::Result<bool> {
    let begun = sqlx::query(
        "UPDATE notification SET sending_seq = GREATEST(sending_seq, ?), pending = IF(? AND NOT is_withdrawn, '', pending), \
         is_withdrawn = ?, due_at = ?, version = version + 1 \
         WHERE user_id = ? AND conversation_id = ? AND version = ?",
    )
    .bind(seq.unwrap_or(Seq::ZERO).0)
    .bind(seq.is_none())
    .bind(seq.is_none())
    .bind(until)
    .bind(key.user.as_str())
    .bind(key.conversation.key())
    .bind(version)
    .execute(pool)
    .await?;
    Ok(begun.rows_affected() > 0)
}

/// How sending has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sent {
    /// The number that devices show now.
    pub shown_seq: Seq,
    /// Since when, in milliseconds since 1970.
    pub shown_at: i64,
    /// Ids of subscriptions that have not got it, with blanks between.
    pub pending: String,
    /// When the row is looked at next, in milliseconds since 1970.
    pub due_at: i64,
    /// How often it was looked at in vain.
    pub looks: u8,
}

/// Records how sending has ended. False, and nothing is recorded, if the row has changed since `version`.
///
/// # Errors
/// The database's.
pub async fn sent(pool: &Pool, key: &Key, version: u64, sent: &Sent) -> sqlx::Result<bool> {
    let recorded = sqlx::query(
        "UPDATE notification SET shown_seq = ?, shown_at = ?, pending = ?, due_at = ?, looks = ?, version = version + 1 \
         WHERE user_id = ? AND conversation_id = ? AND version = ?",
    )
    .bind(sent.shown_seq.0)
    .bind(sent.shown_at)
    .bind(&sent.pending)
    .bind(sent.due_at)
    .bind(sent.looks)
    .bind(key.user.as_str())
    .bind(key.conversation.key())
    .bind(version)
    .execute(pool)
    .await?;
    Ok(recorded.rows_affected() > 0)
}

/// The same of a row that has changed while it was sent: it is looked at when the change says.
///
/// # Errors
/// The database's.
pub async fn sent_meanwhile(pool: &Pool, key: &Key, sent: &Sent) -> sqlx::Result<()> {
    sqlx::query(
        "UPDATE notification SET shown_seq = GREATEST(shown_seq, ?), shown_at = GREATEST(shown_at, ?), pending = ?, \
         due_at = LEAST(due_at, ?), version = version + 1 WHERE user_id = ? AND conversation_id = ?",
    )
    .bind(sent.shown_seq.0)
    .bind(sent.shown_at)
    .bind(&sent.pending)
    .bind(sent.due_at)
    .bind(key.user.as_str())
    .bind(key.conversation.key())
    .execute(pool)
    .await
    .map(drop)
}

/// The row of `version` is looked at again at `due_at`, the next time as the look number `looks`.
///
/// # Errors
/// The database's.
pub async fn look_again(pool: &Pool, key: &Key, version: u64, due_at: i64, looks: u8) -> sqlx::Result<()> {
    sqlx::query(
        "UPDATE notification SET due_at = ?, looks = ?, version = version + 1 \
         WHERE user_id = ? AND conversation_id = ? AND version = ?",
    )
    .bind(due_at)
    .bind(looks)
    .bind(key.user.as_str())
    .bind(key.conversation.key())
    .bind(version)
    .execute(pool)
    .await
    .map(drop)
}

static REMOVE: LazyLock<MultiRow> = LazyLock::new(|| {
    MultiRow::new(
        "DELETE FROM notification WHERE ",
        "(user_id = ? AND conversation_id = ? AND version = ?)",
        " OR ",
        "",
    )
});

/// Removes rows that have not changed since their versions.
///
/// # Errors
/// The database's.
pub async fn remove(pool: &Pool, rows: &[(&Key, u64)]) -> sqlx::Result<()> {
    for (range, length, text) in REMOVE.padded(rows.len()) {
        let asked = &rows[range];
        let mut query = sqlx::query(AssertSqlSafe(text));
        for (key, version) in asked.iter().chain(asked.last().into_iter().cycle()).take(length) {
            query = query.bind(key.user.as_str()).bind(key.conversation.key()).bind(*version);
        }
        query.execute(pool).await?;
    }
    Ok(())
}

/// The time by the clock of the database, in milliseconds since 1970: gateways whose clocks differ agree by it about what is
/// due.
///
/// # Errors
/// The database's.
pub async fn clock(pool: &Pool) -> sqlx::Result<i64> {
    sqlx::query_scalar("SELECT CAST(UNIX_TIMESTAMP(NOW(3)) * 1000 AS SIGNED)").fetch_one(pool).await
}

const TOUCH: &str = "UPDATE notification \
     SET due_at = LEAST(due_at, CAST(UNIX_TIMESTAMP(NOW(3)) * 1000 AS SIGNED)), version = version + 1 \
     WHERE user_id = ? AND conversation_id = ? AND GREATEST(shown_seq, sending_seq) > 0";

/// A notification that devices of `user` may show is looked at now, because something about it has changed. One statement by
/// primary key.
///
/// # Errors
/// The database's.
pub async fn touch(pool: &Pool, user: &UserId, conversation: &Conversation) -> sqlx::Result<()> {
    sqlx::query(TOUCH).bind(user.as_str()).bind(conversation.key()).execute(pool).await.map(drop)
}

/// [`touch`] for users who have left `conversation`, in a transaction.
///
/// # Errors
/// The database's.
pub async fn removed_members(tx: &mut Tx, users: &[UserId], conversation: &Conversation) -> sqlx::Result<()> {
    for user in users {
        sqlx::query(TOUCH).bind(user.as_str()).bind(conversation.key()).execute(&mut *tx).await?;
    }
    Ok(())
}

/// What waits in a shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Overdue {
    /// Rows that are due.
    pub rows: i64,
    /// Since when the oldest of them is due, in milliseconds since 1970.
    pub oldest_due_at: Option<i64>,
}

/// The rows of `shard` that are due at `now`, counted up to 10,000.
///
/// # Errors
/// The database's.
pub async fn overdue(pool: &Pool, shard: u16, now: i64) -> sqlx::Result<Overdue> {
    let (rows, oldest_due_at): (i64, Option<i64>) = sqlx::query_as(
        "SELECT COUNT(*), MIN(d.due_at) FROM (SELECT due_at FROM notification WHERE shard = ? AND due_at <= ? \
         ORDER BY due_at LIMIT 10000) d",
    )
    .bind(shard)
    .bind(now)
    .fetch_one(pool)
    .await?;
    Ok(Overdue { rows, oldest_due_at })
}
