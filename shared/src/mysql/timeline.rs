//! `timeline_message`: the messages, clustered by `(conversation_id, seq)`.

use std::sync::LazyLock;

use sqlx::mysql::MySqlRow;
use sqlx::{AssertSqlSafe, Row as _};

use super::multi_row::MultiRow;
use super::{Pool, Tx, changes, conversations};
use crate::conversation::Conversation;
use crate::ids::{MsgId, Seq, UserId, unix_millis};
use crate::message::{Message, Numbered, Stored};

/// For plain messages.
static INSERT: LazyLock<MultiRow> = LazyLock::new(|| {
    MultiRow::fine(
        "INSERT INTO timeline_message (conversation_id, seq, msg_id, sender_id, content, msg_type, send_time, stored_at) VALUES ",
        "(?,?,?,?,?,?,?,?)",
        ",",
        "",
    )
});

/// For messages that have an `extra`.
static INSERT_EXTRA: LazyLock<MultiRow> = LazyLock::new(|| {
    MultiRow::new(
        "INSERT INTO timeline_message (conversation_id, seq, msg_id, sender_id, content, msg_type, send_time, stored_at, extra) VALUES ",
        "(?,?,?,?,?,?,?,?,?)",
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
    let is_plain = |(_, message): &(Seq, &Numbered)| message.is_plain();
    if !rows.iter().all(is_plain) {
        let (plain, others): (Vec<_>, Vec<_>) = rows.iter().copied().partition(is_plain);
        insert_plain(tx, &plain, now).await?;
        return insert_with_extra(tx, &others, now).await;
    }
    insert_plain(tx, rows, now).await
}

async fn insert_plain(tx: &mut Tx, rows: &[(Seq, &Numbered)], now: i64) -> sqlx::Result<()> {
    for (range, text) in INSERT.exact(rows.len()) {
        let query = rows[range].iter().fold(sqlx::query(AssertSqlSafe(text)), |query, (seq, message)| {
            bind_row(query, *seq, message, now)
        });
        query.execute(&mut *tx).await?;
    }
    Ok(())
}

async fn insert_with_extra(tx: &mut Tx, rows: &[(Seq, &Numbered)], now: i64) -> sqlx::Result<()> {
    for (range, text) in INSERT_EXTRA.exact(rows.len()) {
        let query = rows[range].iter().fold(sqlx::query(AssertSqlSafe(text)), |query, (seq, message)| {
            bind_row(query, *seq, message, now).bind(message.message.extra())
        });
        query.execute(&mut *tx).await?;
    }
    Ok(())
}

type Statement<'q> = sqlx::query::Query<'q, sqlx::MySql, sqlx::mysql::MySqlArguments>;

fn bind_row<'q>(query: Statement<'q>, seq: Seq, message: &'q Numbered, now: i64) -> Statement<'q> {
    query
        .bind(message.conversation.key())
        .bind(seq.0)
        .bind(message.msg_id.as_str())
        .bind(message.sender.as_str())
        .bind(message.kind.content())
        .bind(message.kind.msg_type())
        .bind(message.send_time_ms)
        .bind(now)
}

/// A statement that selects the columns that [`stored`] reads, in its order.
macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT seq, msg_id, sender_id, content, msg_type, send_time, is_recalled, extra FROM timeline_message ",
            $rest
        )
    };
}

static FIND_TARGETS: LazyLock<MultiRow> =
    LazyLock::new(|| MultiRow::new(select!("WHERE conversation_id = ? AND seq IN ("), "?", ",", ")"));

/// Those of `seqs` in a conversation that are stored.
///
/// # Errors
/// The database's.
pub async fn find_targets(
    tx: &mut Tx,
    conversation: &Conversation,
    seqs: &[Seq],
) -> sqlx::Result<Vec<Stored>> {
    let mut found = Vec::new();
    for (range, length, text) in FIND_TARGETS.padded(seqs.len()) {
        let seqs = &seqs[range];
        let mut query = sqlx::query(AssertSqlSafe(text)).bind(conversation.key());
        for seq in seqs.iter().chain(seqs.last().into_iter().cycle()).take(length) {
            query = query.bind(seq.0);
        }
        for row in query.fetch_all(&mut *tx).await? {
            found.push(stored(conversation, &row)?);
        }
    }
    Ok(found)
}

/// The columns that [`stored`] reads, of table `t` in a join.
pub(super) const COLUMNS_OF_T: &str =
    "t.seq, t.msg_id, t.sender_id, t.content, t.msg_type, t.send_time, t.is_recalled, t.extra";

/// Reads a row.
pub(super) fn stored(conversation: &Conversation, row: &MySqlRow) -> sqlx::Result<Stored> {
    let (kind, details, edited_at, has_reactions) =
        Stored::read(row.try_get(4)?, row.try_get(3)?, row.try_get(7)?);
    Ok(Stored {
        message: Message {
            conversation: conversation.clone(),
            sender: UserId::from_stored(row.try_get(2)?),
            msg_id: MsgId::from_stored(row.try_get(1)?),
            kind,
            details,
            send_time_ms: row.try_get(5)?,
        },
        seq: Seq(row.try_get(0)?),
        is_recalled: row.try_get(6)?,
        edited_at,
        has_reactions,
        reactions: Vec::new(),
    })
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
    const FORWARD: &str = select!("WHERE conversation_id = ? AND seq > ? ORDER BY seq LIMIT ?");
    const BACKWARD: &str = select!("WHERE conversation_id = ? AND seq < ? ORDER BY seq DESC LIMIT ?");
    let (text, cursor) = match direction {
        Direction::Forward => (FORWARD, cursor),
        Direction::Backward if cursor == Seq::ZERO => (BACKWARD, Seq(i64::MAX as u64)),
        Direction::Backward => (BACKWARD, cursor),
    };
    let rows = sqlx::query(text).bind(conversation.key()).bind(cursor.0).bind(limit).fetch_all(pool).await?;
    with_reactions(pool, conversation, &rows).await
}

async fn with_reactions(
    pool: &Pool,
    conversation: &Conversation,
    rows: &[MySqlRow],
) -> sqlx::Result<Vec<Stored>> {
    let mut messages: Vec<Stored> =
        rows.iter().map(|row| stored(conversation, row)).collect::<sqlx::Result<_>>()?;
    changes::add_reactions(pool, conversation, &mut messages).await?;
    Ok(messages)
}

/// Sequence numbers that one page without changes looks at: some milliseconds, whatever is between.
pub const WINDOW: u64 = 5_000;

/// Messages without change entries between two numbers, the newest first.
const NEWEST_MESSAGES: &str = select!(
    "WHERE conversation_id = ? AND seq > ? AND seq <= ? AND msg_type NOT IN (3, 4, 5, 6, 8) ORDER BY seq DESC LIMIT ?"
);

/// Messages without the change entries between them.
#[derive(Debug)]
pub struct Messages {
    /// In the direction of the page.
    pub rows: Vec<Stored>,
    /// The cursor behind everything that was looked at.
    pub looked_to: Seq,
    /// There may be more behind it.
    pub has_more: bool,
}

/// The same as [`read`] without change entries, within [`WINDOW`] numbers after `cursor`.
///
/// # Errors
/// The database's.
pub async fn read_messages(
    pool: &Pool,
    conversation: &Conversation,
    cursor: Seq,
    direction: Direction,
    limit: u32,
) -> sqlx::Result<Messages> {
    const FORWARD: &str = select!(
        "WHERE conversation_id = ? AND seq > ? AND seq <= ? AND msg_type NOT IN (3, 4, 5, 6, 8) ORDER BY seq LIMIT ?"
    );
    // Read before the rows: what is committed in between is above it, and left for the next page.
    let last = conversations::last_seqs(pool, &[conversation]).await?.first().copied().unwrap_or(Seq::ZERO);
    let (low, high, text) = match direction {
        Direction::Forward => (cursor.0, last.0.min(cursor.0.saturating_add(WINDOW)), FORWARD),
        Direction::Backward => {
            let high = if cursor == Seq::ZERO { last.0 } else { last.0.min(cursor.0 - 1) };
            (high.saturating_sub(WINDOW), high, NEWEST_MESSAGES)
        }
    };
    let rows = sqlx::query(text).bind(conversation.key()).bind(low).bind(high).bind(limit);
    let rows = rows.fetch_all(pool).await?;
    let (looked_to, has_more) = match direction {
        Direction::Forward => (Seq(high.max(cursor.0)), high < last.0),
        Direction::Backward => (Seq(low + 1), low > 0),
    };
    Ok(Messages { rows: with_reactions(pool, conversation, &rows).await?, looked_to, has_more })
}

/// The newest message at or below `seq` that is no change entry, within [`WINDOW`] numbers.
///
/// # Errors
/// The database's.
pub async fn last_message(
    pool: &Pool,
    conversation: &Conversation,
    seq: Seq,
) -> sqlx::Result<Option<Stored>> {
    let rows = sqlx::query(NEWEST_MESSAGES).bind(conversation.key());
    let rows = rows.bind(seq.0.saturating_sub(WINDOW)).bind(seq.0).bind(1_u32);
    let rows = rows.fetch_all(pool).await?;
    Ok(with_reactions(pool, conversation, &rows).await?.pop())
}

/// The message with this number in its present state.
///
/// # Errors
/// The database's.
pub async fn one(pool: &Pool, conversation: &Conversation, seq: Seq) -> sqlx::Result<Option<Stored>> {
    let Some(Facts { message, .. }) = facts(pool, conversation, seq).await? else { return Ok(None) };
    let mut found = [message];
    changes::add_reactions(pool, conversation, &mut found).await?;
    Ok(found.into_iter().next())
}

/// A stored message with what decides whether it may be recalled or edited.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// The message in its present state.
    pub message: Stored,
    /// The time at which it was stored (of old rows: sent), in milliseconds since 1970.
    pub stored_at: i64,
}

/// The facts about message `seq`; `None` if there is no such message.
///
/// # Errors
/// The database's.
pub async fn facts(pool: &Pool, conversation: &Conversation, seq: Seq) -> sqlx::Result<Option<Facts>> {
    let row = sqlx::query(
        "SELECT seq, msg_id, sender_id, content, msg_type, send_time, is_recalled, extra, stored_at \
         FROM timeline_message WHERE conversation_id = ? AND seq = ?",
    )
    .bind(conversation.key())
    .bind(seq.0)
    .fetch_optional(pool)
    .await?;
    let Some(row) = row else { return Ok(None) };
    let (message, stored_at): (Stored, i64) = (stored(conversation, &row)?, row.try_get(8)?);
    let stored_at = if stored_at == 0 { message.send_time_ms } else { stored_at };
    Ok(Some(Facts { message, stored_at }))
}
