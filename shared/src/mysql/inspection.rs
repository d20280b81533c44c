//! What the operator's tools read: whole tables in steps, and single rows that no process needs.
//!
//! Nothing here is on the message path. Keys are returned as text, because one that is ill-formed is a finding.

use sqlx::Row as _;
use sqlx::mysql::MySqlRow;

use super::Pool;
use crate::conversation::Conversation;
use crate::ids::{Seq, UserId};

/// A row of `conversation`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConversationRow {
    /// The conversation's key.
    pub key: String,
    /// 1 private, 2 group.
    pub kind: u8,
    /// The last committed sequence number.
    pub last_seq: Seq,
    /// Rises with every change of permissions.
    pub access_version: u64,
    /// The time of the last change, in milliseconds since 1970.
    pub updated_at: i64,
}

const CONVERSATION: &str = "SELECT conversation_id, kind, last_seq, access_version, updated_at FROM conversation WHERE conversation_id = ?";
const CONVERSATIONS: &str = "SELECT conversation_id, kind, last_seq, access_version, updated_at FROM conversation \
                             WHERE conversation_id > ? ORDER BY conversation_id LIMIT ?";

fn conversation_row(row: &MySqlRow) -> sqlx::Result<ConversationRow> {
    Ok(ConversationRow {
        key: row.try_get(0)?,
        kind: row.try_get(1)?,
        last_seq: Seq(row.try_get(2)?),
        access_version: row.try_get(3)?,
        updated_at: row.try_get(4)?,
    })
}

/// The version of the server as it says it, such as `10.11.6-MariaDB`.
///
/// # Errors
/// The database's.
pub async fn server_version(pool: &Pool) -> sqlx::Result<String> {
    sqlx::query_scalar("SELECT VERSION()").fetch_one(pool).await
}

/// The row of `conversation`; `None` if nothing was ever committed to it, nor its permissions changed.
///
/// # Errors
/// The database's.
pub async fn conversation(pool: &Pool, conversation: &Conversation) -> sqlx::Result<Option<ConversationRow>> {
    let row = sqlx::query(CONVERSATION).bind(conversation.key()).fetch_optional(pool).await?;
    row.as_ref().map(conversation_row).transpose()
}

/// The rows of `conversation` after the key `after`, in order, at most `limit`.
///
/// # Errors
/// The database's.
pub async fn conversations_after(pool: &Pool, after: &str, limit: u32) -> sqlx::Result<Vec<ConversationRow>> {
    let rows = sqlx::query(CONVERSATIONS).bind(after).bind(limit).fetch_all(pool).await?;
    rows.iter().map(conversation_row).collect()
}

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

/// Those of `keys` without a row in `conversation`.
///
/// # Errors
/// The database's.
pub async fn without_row(pool: &Pool, keys: &[String]) -> sqlx::Result<Vec<String>> {
    let mut missing = Vec::new();
    for key in keys {
        if sqlx::query(CONVERSATION).bind(key).fetch_optional(pool).await?.is_none() {
            missing.push(key.clone());
        }
    }
    Ok(missing)
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

/// Whether the table of messages has its unique key of conversation, sender and message id.
///
/// # Errors
/// The database's.
pub async fn has_unique_ids(pool: &Pool) -> sqlx::Result<bool> {
    let columns: i64 = sqlx::query_scalar(
        "SELECT COUNT(*) FROM information_schema.statistics WHERE table_schema = DATABASE() \
         AND table_name = 'timeline_message' AND index_name = 'one_per_id' AND non_unique = 0",
    )
    .fetch_one(pool)
    .await?;
    Ok(columns == 3)
}

/// Read positions above `head`, at most `limit`: the user and the position.
///
/// # Errors
/// The database's.
pub async fn positions_above(
    pool: &Pool,
    key: &str,
    head: Seq,
    limit: u32,
) -> sqlx::Result<Vec<(String, Seq)>> {
    positions(
        pool,
        "SELECT user_id, last_ack_seq FROM user_conversation_state WHERE conversation_id = ? AND last_ack_seq > ? \
         ORDER BY user_id LIMIT ?",
        (key, head, limit),
    )
    .await
}

/// The members of a group, or the users of a private conversation, whose read position is at `seq` or higher, at most
/// `limit`. Reads the position of each of `users`.
///
/// # Errors
/// The database's.
pub async fn readers_among(
    pool: &Pool,
    conversation: &Conversation,
    users: &[UserId],
    seq: Seq,
) -> sqlx::Result<Vec<(String, Seq)>> {
    let mut readers = Vec::new();
    for user in users {
        let position = super::positions::of_user(pool, user, &[conversation]).await?;
        if let Some(position) = position.get(conversation).filter(|position| **position >= seq) {
            readers.push((user.as_str().to_owned(), *position));
        }
    }
    Ok(readers)
}

/// The members of a group whose read position is at `seq` or higher, at most `limit`, by id.
///
/// # Errors
/// The database's.
pub async fn group_readers(
    pool: &Pool,
    group: &Conversation,
    seq: Seq,
    limit: u32,
) -> sqlx::Result<Vec<(String, Seq)>> {
    positions(
        pool,
        "SELECT m.user_id, s.last_ack_seq FROM group_member m \
         JOIN user_conversation_state s ON s.user_id = m.user_id AND s.conversation_id = m.group_id \
         WHERE m.group_id = ? AND s.last_ack_seq >= ? ORDER BY m.user_id LIMIT ?",
        (group.key(), seq, limit),
    )
    .await
}

async fn positions(
    pool: &Pool,
    text: &'static str,
    (key, seq, limit): (&str, Seq, u32),
) -> sqlx::Result<Vec<(String, Seq)>> {
    let rows: Vec<(String, u64)> =
        sqlx::query_as(text).bind(key).bind(seq.0).bind(limit).fetch_all(pool).await?;
    Ok(rows.into_iter().map(|(user, seq)| (user, Seq(seq))).collect())
}

/// The users who have this private conversation in their list of conversations.
///
/// # Errors
/// The database's.
pub async fn listed_for(pool: &Pool, key: &str, users: &[&str]) -> sqlx::Result<Vec<String>> {
    let mut listed = Vec::new();
    for user in users {
        let found: Option<String> =
            sqlx::query_scalar("SELECT user_id FROM private_chat WHERE user_id = ? AND conversation_id = ?")
                .bind(*user)
                .bind(key)
                .fetch_optional(pool)
                .await?;
        listed.extend(found);
    }
    Ok(listed)
}

/// A group as the tables count it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GroupCounts {
    /// The number of members that the group's row has; `None` if it has no row.
    pub counted: Option<u32>,
    /// The number of rows of members.
    pub members: i64,
    /// The number of owners.
    pub owners: i64,
}

/// The members of a group: as counted, and as there are rows.
///
/// # Errors
/// The database's.
pub async fn group_counts(pool: &Pool, key: &str) -> sqlx::Result<GroupCounts> {
    // One statement: a change of members in between would look like damage.
    let (counted, members, owners): (Option<u32>, i64, i64) = sqlx::query_as(
        "SELECT (SELECT members FROM chat_group WHERE group_id = ?), \
         (SELECT COUNT(*) FROM group_member WHERE group_id = ?), \
         (SELECT COUNT(*) FROM group_member WHERE group_id = ? AND role = 2)",
    )
    .bind(key)
    .bind(key)
    .bind(key)
    .fetch_one(pool)
    .await?;
    Ok(GroupCounts { counted, members, owners })
}

/// The owners of a group, at most `limit`.
///
/// # Errors
/// The database's.
pub async fn owners(pool: &Pool, group: &Conversation, limit: u32) -> sqlx::Result<Vec<String>> {
    sqlx::query_scalar(
        "SELECT user_id FROM group_member WHERE group_id = ? AND role = 2 ORDER BY user_id LIMIT ?",
    )
    .bind(group.key())
    .bind(limit)
    .fetch_all(pool)
    .await
}

/// Those of `keys` that have neither a conversation nor a group.
///
/// # Errors
/// The database's.
pub async fn unknown_keys(pool: &Pool, keys: &[String]) -> sqlx::Result<Vec<String>> {
    let mut unknown = Vec::new();
    for key in keys {
        let known: bool = sqlx::query_scalar(
            "SELECT EXISTS (SELECT 1 FROM conversation WHERE conversation_id = ?) \
             OR EXISTS (SELECT 1 FROM chat_group WHERE group_id = ?)",
        )
        .bind(key)
        .bind(key)
        .fetch_one(pool)
        .await?;
        if !known {
            unknown.push(key.clone());
        }
    }
    Ok(unknown)
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

/// The time up to which the tokens of `user` are revoked, in milliseconds since 1970.
///
/// # Errors
/// The database's.
pub async fn revoked_before_ms(pool: &Pool, user: &UserId) -> sqlx::Result<Option<i64>> {
    sqlx::query_scalar("SELECT not_before_ms FROM token_revocation WHERE user_id = ?")
        .bind(user.as_str())
        .fetch_optional(pool)
        .await
}

/// When the account of `user` was made, in milliseconds since 1970; `None` if it has none.
///
/// # Errors
/// The database's.
pub async fn account_created_at_ms(pool: &Pool, user: &UserId) -> sqlx::Result<Option<i64>> {
    sqlx::query_scalar("SELECT created_at FROM user_account WHERE user_id = ?")
        .bind(user.as_str())
        .fetch_optional(pool)
        .await
}

/// The users whom `user` has blocked, by id, at most `limit`.
///
/// # Errors
/// The database's.
pub async fn blocked_by(pool: &Pool, user: &UserId, limit: u32) -> sqlx::Result<Vec<String>> {
    sqlx::query_scalar("SELECT blocked_id FROM user_block WHERE user_id = ? ORDER BY blocked_id LIMIT ?")
        .bind(user.as_str())
        .bind(limit)
        .fetch_all(pool)
        .await
}

/// The number of conversations of `user`: private chats, and groups.
///
/// # Errors
/// The database's.
pub async fn conversation_counts(pool: &Pool, user: &UserId) -> sqlx::Result<(i64, i64)> {
    sqlx::query_as(
        "SELECT (SELECT COUNT(*) FROM private_chat WHERE user_id = ?), \
         (SELECT COUNT(*) FROM group_member WHERE user_id = ?)",
    )
    .bind(user.as_str())
    .bind(user.as_str())
    .fetch_one(pool)
    .await
}

/// The number of shards that was stored at the first start, as text; `None` before it. Stores nothing.
///
/// # Errors
/// The database's; also if there are no tables yet.
pub async fn stored_shard_count(pool: &Pool) -> sqlx::Result<Option<String>> {
    sqlx::query_scalar("SELECT value FROM setting WHERE name = 'shards.count'").fetch_optional(pool).await
}
