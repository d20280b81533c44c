//! `conversation`: one row per conversation with its last number, locked by whoever commits to it.

use std::sync::LazyLock;

use ahash::AHashMap;
use sqlx::{AssertSqlSafe, Row as _};

use super::shapes::Shapes;
use super::{Pool, Tx};
use crate::conversation::{Conversation, Kind};
use crate::ids::Seq;

/// The row of a conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Head {
    /// The last committed number.
    pub last_seq: Seq,
    /// Rises with every change of who may do what, see [`access`](super::access).
    pub access_version: u64,
}

static LOCK: LazyLock<Shapes> = LazyLock::new(|| {
    // In the order of the key, so that two transactions lock in the same order.
    Shapes::new(
        "SELECT conversation_id, last_seq, access_version FROM conversation WHERE conversation_id IN (",
        "?",
        ",",
        ") ORDER BY conversation_id FOR UPDATE",
    )
});

/// Locks the rows of `conversations` (which differ from each other and are sorted by key) until the transaction ends,
/// making missing ones, and returns what is in them.
///
/// # Errors
/// As the database says.
pub async fn lock_heads(
    tx: &mut Tx,
    conversations: &[&Conversation],
) -> sqlx::Result<AHashMap<Conversation, Head>> {
    let mut heads = select_for_update(tx, conversations).await?;
    if heads.len() < conversations.len() {
        let missing: Vec<_> = conversations.iter().copied().filter(|c| !heads.contains_key(*c)).collect();
        let first: Vec<_> = missing.iter().map(|c| (*c, Seq::ZERO)).collect();
        write(tx, &INSERT_MISSING, &first).await?;
        list_private_chats(tx, &missing).await?;
        // Another worker may have made a row, and committed to it, in between.
        heads.extend(select_for_update(tx, &missing).await?);
    }
    Ok(heads)
}

async fn select_for_update(
    tx: &mut Tx,
    wanted: &[&Conversation],
) -> sqlx::Result<AHashMap<Conversation, Head>> {
    let mut heads = AHashMap::with_capacity(wanted.len());
    for (range, length, text) in LOCK.padded(wanted.len()) {
        let keys = &wanted[range];
        let mut query = sqlx::query(AssertSqlSafe(text));
        for conversation in keys.iter().chain(keys.last().into_iter().cycle()).take(length) {
            query = query.bind(conversation.key());
        }
        let rows = query.fetch_all(&mut **tx).await?;
        // The rows come in the order of the sorted keys, but some may be missing.
        let mut keys = keys.iter();
        for row in rows {
            let key: &str = row.try_get(0)?;
            if let Some(conversation) = keys.find(|c| c.key() == key) {
                let head = Head { last_seq: Seq(row.try_get(1)?), access_version: row.try_get(2)? };
                heads.insert((*conversation).clone(), head);
            }
        }
    }
    Ok(heads)
}

static LIST_PRIVATE: LazyLock<Shapes> = LazyLock::new(|| {
    Shapes::new(
        "INSERT INTO private_chat (user_id, conversation_id) VALUES ",
        "(?,?)",
        ",",
        " ON DUPLICATE KEY UPDATE user_id = private_chat.user_id",
    )
});

/// Adds new private conversations to the lists of their users.
async fn list_private_chats(tx: &mut Tx, conversations: &[&Conversation]) -> sqlx::Result<()> {
    let mut rows = Vec::new();
    for conversation in conversations {
        if let Kind::Private(lo, hi) = conversation.kind() {
            rows.push((lo, *conversation));
            if lo != hi {
                rows.push((hi, *conversation));
            }
        }
    }
    // In the order of the key, so that two transactions lock in the same order.
    rows.sort_unstable();
    for (range, text) in LIST_PRIVATE.exact(rows.len()) {
        let mut query = sqlx::query(AssertSqlSafe(text));
        for (user, conversation) in &rows[range] {
            query = query.bind(*user).bind(conversation.key());
        }
        query.execute(&mut **tx).await?;
    }
    Ok(())
}

static INSERT_MISSING: LazyLock<Shapes> = LazyLock::new(|| upsert("conversation_id = conversation_id"));
static ADVANCE: LazyLock<Shapes> =
    LazyLock::new(|| upsert("last_seq = VALUES(last_seq), updated_at = VALUES(updated_at)"));

// VALUES(column) is the one spelling that MySQL and MariaDB share.
fn upsert(change: &str) -> Shapes {
    Shapes::new(
        "INSERT INTO conversation (conversation_id, kind, last_seq, updated_at) VALUES ",
        "(?,?,?,?)",
        ",",
        &format!(" ON DUPLICATE KEY UPDATE {change}"),
    )
}

/// Moves the last numbers of rows that this transaction has locked.
///
/// # Errors
/// As the database says.
pub async fn advance_heads(tx: &mut Tx, heads: &[(&Conversation, Seq)]) -> sqlx::Result<()> {
    write(tx, &ADVANCE, heads).await
}

async fn write(tx: &mut Tx, shapes: &Shapes, heads: &[(&Conversation, Seq)]) -> sqlx::Result<()> {
    let now = crate::ids::unix_millis();
    for (range, text) in shapes.exact(heads.len()) {
        let mut query = sqlx::query(AssertSqlSafe(text));
        for (conversation, last_seq) in &heads[range] {
            query = query.bind(conversation.key()).bind(kind(conversation)).bind(last_seq.0).bind(now);
        }
        query.execute(&mut **tx).await?;
    }
    Ok(())
}

/// As stored: 1 private, 2 group.
fn kind(conversation: &Conversation) -> u8 {
    match conversation.kind() {
        Kind::Private(..) => 1,
        Kind::Group => 2,
    }
}

/// The last committed number; `None` if nothing was ever committed.
///
/// # Errors
/// As the database says.
pub async fn last_seq(pool: &Pool, conversation: &Conversation) -> sqlx::Result<Option<Seq>> {
    let row: Option<u64> = sqlx::query_scalar("SELECT last_seq FROM conversation WHERE conversation_id = ?")
        .bind(conversation.key())
        .fetch_optional(pool)
        .await?;
    Ok(row.map(Seq))
}
