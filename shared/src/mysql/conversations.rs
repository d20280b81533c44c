//! `conversation`: one row per conversation with its `last_seq`, which every commit locks.

use std::sync::LazyLock;

use ahash::{AHashMap, AHashSet};
use sqlx::{AssertSqlSafe, Row as _};

use super::multi_row::MultiRow;
use super::{Pool, Transaction, Tx, run_tx};
use crate::conversation::{Conversation, Kind};
use crate::ids::{Seq, UserId};

/// The row of a conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Head {
    /// The last committed sequence number.
    pub last_seq: Seq,
    /// Rises with every change of permissions, see [`access`](super::access).
    pub access_version: u64,
}

static LOCK: LazyLock<MultiRow> = LazyLock::new(|| {
    // Ordered by key, so that two transactions lock in the same order.
    MultiRow::new(
        "SELECT conversation_id, last_seq, access_version FROM conversation WHERE conversation_id IN (",
        "?",
        ",",
        ") ORDER BY conversation_id FOR UPDATE",
    )
});

/// Locks the rows of `conversations` (distinct and sorted by key) until the transaction ends, and returns them. Missing
/// rows are created.
///
/// # Errors
/// The database's.
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
        // Another worker may have created a row and committed to it in the meantime.
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
        let rows = query.fetch_all(&mut *tx).await?;
        // The rows are in the order of the sorted keys, but some may be missing.
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

static UNLOCKED: LazyLock<MultiRow> = LazyLock::new(|| {
    MultiRow::new(
        "SELECT conversation_id FROM conversation WHERE conversation_id IN (",
        "?",
        ",",
        ") FOR UPDATE SKIP LOCKED",
    )
});

/// Those of `conversations` whose rows are locked by other transactions now. Waits for no lock.
///
/// # Errors
/// The database's.
pub async fn locked(pool: &Pool, conversations: &[Conversation]) -> sqlx::Result<Vec<Conversation>> {
    run_tx(pool, &FindLocked(conversations)).await
}

struct FindLocked<'c>(&'c [Conversation]);

impl Transaction for FindLocked<'_> {
    type Output = Vec<Conversation>;
    type Error = sqlx::Error;

    const NAME: &'static str = "find locked";

    async fn run(&self, tx: &mut Tx) -> sqlx::Result<Vec<Conversation>> {
        let keys: Vec<[&str; 1]> = self.0.iter().map(|conversation| [conversation.key()]).collect();
        let mut locked = AHashSet::new();
        // A row that does not exist is not locked.
        for row in LAST.select(tx, None, &keys).await? {
            locked.insert(row.try_get::<String, _>(0)?);
        }
        for row in UNLOCKED.select(tx, None, &keys).await? {
            locked.remove(row.try_get::<&str, _>(0)?);
        }
        Ok(self.0.iter().filter(|conversation| locked.contains(conversation.key())).cloned().collect())
    }
}

static LIST_PRIVATE: LazyLock<MultiRow> = LazyLock::new(|| {
    MultiRow::new(
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
    // Ordered by key, so that two transactions lock in the same order.
    rows.sort_unstable();
    for (range, text) in LIST_PRIVATE.exact(rows.len()) {
        let mut query = sqlx::query(AssertSqlSafe(text));
        for (user, conversation) in &rows[range] {
            query = query.bind(*user).bind(conversation.key());
        }
        query.execute(&mut *tx).await?;
    }
    Ok(())
}

static INSERT_MISSING: LazyLock<MultiRow> = LazyLock::new(|| upsert("conversation_id = conversation_id"));
static ADVANCE: LazyLock<MultiRow> =
    LazyLock::new(|| upsert("last_seq = VALUES(last_seq), updated_at = VALUES(updated_at)"));

// VALUES(column) is the one spelling that MySQL and MariaDB share.
fn upsert(change: &str) -> MultiRow {
    MultiRow::fine(
        "INSERT INTO conversation (conversation_id, kind, last_seq, updated_at) VALUES ",
        "(?,?,?,?)",
        ",",
        &format!(" ON DUPLICATE KEY UPDATE {change}"),
    )
}

/// Sets `last_seq` of conversations whose rows this transaction has locked.
///
/// # Errors
/// The database's.
pub async fn advance_heads(tx: &mut Tx, heads: &[(&Conversation, Seq)]) -> sqlx::Result<()> {
    write(tx, &ADVANCE, heads).await
}

/// Most conversations of [`advance_from`], whose statement exists once for each number of them.
pub const ADVANCED_FROM_MAX: usize = 16;

static ADVANCE_FROM: LazyLock<Vec<String>> = LazyLock::new(|| {
    let text = |n| {
        format!(
            "UPDATE conversation SET last_seq = CASE conversation_id{} END, updated_at = ? WHERE {}",
            " WHEN ? THEN ?".repeat(n),
            vec!["(conversation_id = ? AND last_seq = ? AND access_version = ?)"; n].join(" OR ")
        )
    };
    (1..=ADVANCED_FROM_MAX).map(text).collect()
});

/// Locks conversations (distinct and sorted by key, 1 to [`ADVANCED_FROM_MAX`]) and sets their `last_seq`, provided that
/// their rows are as given. One statement instead of [`lock_heads`] and [`advance_heads`].
///
/// # Errors
/// [`sqlx::Error::RowNotFound`]: a row is different, and others may be changed: roll the transaction back. Else the
/// database's.
pub async fn advance_from(tx: &mut Tx, heads: &[(&Conversation, Head, Seq)]) -> sqlx::Result<()> {
    let text =
        heads.len().checked_sub(1).and_then(|at| ADVANCE_FROM.get(at)).ok_or(sqlx::Error::RowNotFound)?;
    let mut query = sqlx::query(AssertSqlSafe(text.as_str()));
    for (conversation, _, after) in heads {
        query = query.bind(conversation.key()).bind(after.0);
    }
    query = query.bind(crate::ids::unix_millis());
    for (conversation, before, _) in heads {
        query = query.bind(conversation.key()).bind(before.last_seq.0).bind(before.access_version);
    }
    // Rows that match are counted, since each of them gets another number.
    let matched = query.execute(&mut *tx).await?.rows_affected();
    if matched == heads.len() as u64 { Ok(()) } else { Err(sqlx::Error::RowNotFound) }
}

async fn write(tx: &mut Tx, statement: &MultiRow, heads: &[(&Conversation, Seq)]) -> sqlx::Result<()> {
    let now = crate::ids::unix_millis();
    for (range, text) in statement.exact(heads.len()) {
        let mut query = sqlx::query(AssertSqlSafe(text));
        for (conversation, last_seq) in &heads[range] {
            query = query.bind(conversation.key()).bind(kind(conversation)).bind(last_seq.0).bind(now);
        }
        query.execute(&mut *tx).await?;
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

static LAST: LazyLock<MultiRow> = LazyLock::new(|| {
    MultiRow::new(
        "SELECT conversation_id, last_seq FROM conversation WHERE conversation_id IN (",
        "?",
        ",",
        ")",
    )
});

/// The `last_seq` of each of `conversations`, in that order; 0 if nothing was ever committed.
///
/// # Errors
/// The database's.
pub async fn last_seqs(pool: &Pool, conversations: &[&Conversation]) -> sqlx::Result<Vec<Seq>> {
    let last = LAST.by_conversation(pool, None, conversations, |row| Ok(Seq(row.try_get(1)?))).await?;
    Ok(conversations.iter().map(|one| last.get(*one).copied().unwrap_or(Seq::ZERO)).collect())
}

/// All conversations of `user` with their `last_seq`, ordered by their newest message, the newest last: its groups, and its
/// private chats that have a message.
///
/// # Errors
/// The database's; an ill-formed stored id is left out and logged.
pub async fn of_user(pool: &Pool, user: &UserId) -> sqlx::Result<Vec<(Conversation, Seq)>> {
    let rows = sqlx::query(
        "SELECT p.conversation_id, c.last_seq, c.updated_at FROM private_chat p \
         JOIN conversation c ON c.conversation_id = p.conversation_id WHERE p.user_id = ? AND c.last_seq > 0 \
         UNION ALL \
         SELECT m.group_id, c.last_seq, c.updated_at FROM group_member m \
         JOIN chat_group g ON g.group_id = m.group_id AND NOT g.is_dismissed \
         LEFT JOIN conversation c ON c.conversation_id = m.group_id WHERE m.user_id = ?",
    )
    .bind(user.as_str())
    .bind(user.as_str())
    .fetch_all(pool)
    .await?;
    let mut found = Vec::with_capacity(rows.len());
    for row in rows {
        let key: &str = row.try_get(0)?;
        let (last_seq, updated_at): (Option<u64>, Option<i64>) = (row.try_get(1)?, row.try_get(2)?);
        match Conversation::from_key(key) {
            Ok(conversation) => found.push((updated_at, conversation, Seq(last_seq.unwrap_or(0)))),
            Err(error) => tracing::error!(%key, %error, "ill-formed id among a user's conversations"),
        }
    }
    found.sort_unstable();
    Ok(found.into_iter().map(|(_, conversation, last_seq)| (conversation, last_seq)).collect())
}
