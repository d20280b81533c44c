//! What readers see of changes.

use std::sync::LazyLock;

use ahash::AHashMap;
use serde::Serialize;
use sqlx::{AssertSqlSafe, Row as _};

use super::super::Pool;
use super::super::multi_row::MultiRow;
use super::super::timeline::{self, COLUMNS_OF_T};
use super::read::summary;
use super::values::EVERYONE;
use crate::conversation::Conversation;
use crate::ids::{Seq, UserId, unix_millis};
use crate::message::{ReactionSummary, Stored};

/// The time for which an entry that changed nothing is known, in milliseconds: longer than a body waits for a worker, or
/// an operator lets a dead letter lie.
const UNCHANGED_KEPT_MS: i64 = 7 * 24 * 3_600_000;
/// Most such entries that are removed at once.
const REMOVED_MAX: u32 = 5_000;

static SUMMARIES: LazyLock<MultiRow> = LazyLock::new(|| {
    let before = "SELECT seq, reaction, total, first_users FROM reaction_summary WHERE conversation_id = ? AND seq IN (";
    MultiRow::new(before, "?", ",", ")")
});

/// Adds their reactions to those of `messages` that have some; without such messages there is no query.
///
/// # Errors
/// The database's.
pub(in crate::mysql) async fn add_reactions(
    pool: &Pool,
    conversation: &Conversation,
    messages: &mut [Stored],
) -> sqlx::Result<()> {
    let seqs: Vec<Seq> = messages.iter().filter(|one| one.has_reactions).map(|one| one.seq).collect();
    if seqs.is_empty() {
        return Ok(());
    }
    let mut found = summaries(pool, conversation, &seqs).await?;
    for message in messages.iter_mut().filter(|one| one.has_reactions) {
        message.reactions = found.remove(&message.seq).unwrap_or_default();
    }
    Ok(())
}

/// The reactions to messages of a conversation, each list in the order of the earliest one that still stands.
async fn summaries(
    pool: &Pool,
    conversation: &Conversation,
    seqs: &[Seq],
) -> sqlx::Result<AHashMap<Seq, Vec<ReactionSummary>>> {
    let mut found: AHashMap<Seq, Vec<ReactionSummary>> = AHashMap::new();
    for (range, length, text) in SUMMARIES.padded(seqs.len()) {
        let seqs = &seqs[range];
        let mut query = sqlx::query(AssertSqlSafe(text)).bind(conversation.key());
        for seq in seqs.iter().chain(seqs.last().into_iter().cycle()).take(length) {
            query = query.bind(seq.0);
        }
        for row in query.fetch_all(pool).await? {
            let (seq, summary) = summary(&row)?;
            found.entry(seq).or_default().push(summary);
        }
    }
    for list in found.values_mut() {
        list.sort_by_key(|summary| summary.first.first().map(|first| first.1));
    }
    Ok(found)
}

/// One user's reaction to a message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Reacted {
    /// The reaction.
    pub reaction: String,
    /// The user.
    pub user_id: String,
    /// When, in milliseconds since 1970: the send time of the entry.
    pub time: i64,
    /// The entry that added it: the cursor of the list.
    #[serde(skip)]
    pub react_seq: Seq,
}

/// The reactions to a message that were added after `cursor`, in that order, at most `limit`.
///
/// # Errors
/// The database's.
pub async fn reactions_after(
    pool: &Pool,
    conversation: &Conversation,
    target: Seq,
    cursor: Seq,
    limit: u32,
) -> sqlx::Result<Vec<Reacted>> {
    let rows = sqlx::query(
        "SELECT reaction, user_id, react_time, react_seq FROM message_reaction FORCE INDEX (by_order) \
         WHERE conversation_id = ? AND seq = ? AND react_seq > ? ORDER BY react_seq LIMIT ?",
    );
    let rows =
        rows.bind(conversation.key()).bind(target.0).bind(cursor.0).bind(limit).fetch_all(pool).await?;
    rows.iter()
        .map(|row| {
            let (reaction, user_id, time) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
            Ok(Reacted { reaction, user_id, time, react_seq: Seq(row.try_get(3)?) })
        })
        .collect()
}

/// The pinned messages of a conversation above `floor`, the newest pin first.
///
/// # Errors
/// The database's.
pub async fn pins(pool: &Pool, conversation: &Conversation, floor: Seq) -> sqlx::Result<Vec<Stored>> {
    let text = format!(
        "SELECT {COLUMNS_OF_T} FROM message_pin p \
         JOIN timeline_message t ON t.conversation_id = p.conversation_id AND t.seq = p.seq \
         WHERE p.conversation_id = ? AND p.seq > ? ORDER BY p.pin_seq DESC"
    );
    let rows =
        sqlx::query(AssertSqlSafe(text)).bind(conversation.key()).bind(floor.0).fetch_all(pool).await?;
    let mut pinned: Vec<Stored> =
        rows.iter().map(|row| timeline::stored(conversation, row)).collect::<sqlx::Result<_>>()?;
    add_reactions(pool, conversation, &mut pinned).await?;
    Ok(pinned)
}

/// The number of messages above `above` that mention `user` or everyone, and the first of them.
///
/// # Errors
/// The database's.
pub async fn mentions_above(
    pool: &Pool,
    conversation: &Conversation,
    user: &UserId,
    above: Seq,
) -> sqlx::Result<Option<(u64, Seq)>> {
    // Its sender is not counted for a message that mentions everyone.
    let row = sqlx::query(
        "SELECT COUNT(DISTINCT m.seq), MIN(m.seq) FROM message_mention m \
         JOIN timeline_message t ON t.conversation_id = m.conversation_id AND t.seq = m.seq \
         WHERE m.conversation_id = ? AND m.user_id IN (?, ?) AND m.seq > ? AND t.sender_id <> ?",
    );
    let row =
        row.bind(conversation.key()).bind(user.as_str()).bind(EVERYONE).bind(above.0).bind(user.as_str());
    let row = row.fetch_one(pool).await?;
    let (count, first): (i64, Option<u64>) = (row.try_get(0)?, row.try_get(1)?);
    Ok(first.map(|first| (count.unsigned_abs(), Seq(first))))
}

/// Removes entries that changed nothing and are older than seven days, at most 5,000. Returns how many.
///
/// # Errors
/// The database's.
pub async fn remove_old_unchanged(pool: &Pool) -> sqlx::Result<u64> {
    let done = sqlx::query("DELETE FROM unchanged_entry WHERE settled_at < ? ORDER BY settled_at LIMIT ?")
        .bind(unix_millis() - UNCHANGED_KEPT_MS)
        .bind(REMOVED_MAX)
        .execute(pool)
        .await?;
    Ok(done.rows_affected())
}
