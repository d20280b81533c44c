//! `conversation`, and what belongs to one: read positions, lists, members.

use std::sync::LazyLock;

use ahash::AHashSet;
use sqlx::Row as _;
use sqlx::mysql::MySqlRow;

use crate::conversation::Conversation;
use crate::ids::{Seq, UserId};
use crate::mysql::multi_row::MultiRow;
use crate::mysql::{Pool, positions as read_positions};

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

/// Those of `users` whose read position is at `seq` or higher.
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
        let position = read_positions::of_user(pool, user, &[conversation]).await?;
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
    let rows: Vec<(String, u64)> = sqlx::query_as(
        "SELECT m.user_id, s.last_ack_seq FROM group_member m \
         JOIN user_conversation_state s ON s.user_id = m.user_id AND s.conversation_id = m.group_id \
         WHERE m.group_id = ? AND s.last_ack_seq >= ? ORDER BY m.user_id LIMIT ?",
    )
    .bind(group.key())
    .bind(seq.0)
    .bind(limit)
    .fetch_all(pool)
    .await?;
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

static AMONG_CONVERSATIONS: LazyLock<MultiRow> = LazyLock::new(|| {
    MultiRow::new("SELECT conversation_id FROM conversation WHERE conversation_id IN (", "?", ",", ")")
});

static AMONG_GROUPS: LazyLock<MultiRow> =
    LazyLock::new(|| MultiRow::new("SELECT group_id FROM chat_group WHERE group_id IN (", "?", ",", ")"));

/// Those of `keys` that have neither a conversation nor a group.
///
/// # Errors
/// The database's.
pub async fn unknown_keys(pool: &Pool, keys: &[String]) -> sqlx::Result<Vec<String>> {
    missing(pool, &AMONG_GROUPS, &without_row(pool, keys).await?).await
}

/// Those of `keys` without a row in `conversation`.
///
/// # Errors
/// The database's.
pub async fn without_row(pool: &Pool, keys: &[String]) -> sqlx::Result<Vec<String>> {
    missing(pool, &AMONG_CONVERSATIONS, keys).await
}

async fn missing(pool: &Pool, among: &MultiRow, keys: &[String]) -> sqlx::Result<Vec<String>> {
    let wanted: Vec<[&str; 1]> = keys.iter().map(|key| [key.as_str()]).collect();
    let rows = among.select_from(pool, None, &wanted).await?;
    let found = rows.iter().map(|row| row.try_get(0)).collect::<sqlx::Result<AHashSet<&str>>>()?;
    Ok(keys.iter().filter(|key| !found.contains(key.as_str())).cloned().collect())
}
