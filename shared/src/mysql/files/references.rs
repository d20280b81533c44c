//! `message_file`: which messages carry which files.

use std::sync::LazyLock;

use ahash::AHashMap;
use sqlx::{AssertSqlSafe, Row as _};

use super::rows::{File, FileState, find_all, parsed};
use crate::conversation::Conversation;
use crate::ids::{Seq, UserId, unix_millis};
use crate::message::FileId;
use crate::mysql::multi_row::MultiRow;
use crate::mysql::{Pool, Tx};

/// A file that a user is about to send is kept at least so long, in milliseconds: longer than a message waits for its
/// commit.
const KEPT_MS: i64 = 86_400_000;

static INSERT: LazyLock<MultiRow> = LazyLock::new(|| {
    MultiRow::new(
        "INSERT IGNORE INTO message_file (conversation_id, seq, file_id) VALUES ",
        "(?,?,?)",
        ",",
        "",
    )
});
static USED: LazyLock<MultiRow> =
    LazyLock::new(|| MultiRow::new("UPDATE file SET sweep_at = NULL WHERE file_id IN (", "?", ",", ")"));
static KEEP: LazyLock<MultiRow> = LazyLock::new(|| {
    MultiRow::new(
        "UPDATE file SET sweep_at = GREATEST(sweep_at, ?) WHERE sweep_at IS NOT NULL AND file_id IN (",
        "?",
        ",",
        ")",
    )
});
static LOCK: LazyLock<MultiRow> = LazyLock::new(|| {
    MultiRow::new(
        "SELECT file_id, state FROM file WHERE file_id IN (",
        "?",
        ",",
        ") ORDER BY file_id FOR UPDATE",
    )
});
static LAST: LazyLock<MultiRow> = LazyLock::new(|| {
    MultiRow::new(
        "SELECT file_id, MAX(seq) FROM message_file WHERE file_id IN (",
        "?",
        ",",
        ") GROUP BY file_id",
    )
});

/// Records that the message `seq` of a locked conversation carries `files`.
///
/// # Errors
/// The database's.
pub(in crate::mysql) async fn attach(
    tx: &mut Tx,
    conversation: &Conversation,
    seq: Seq,
    files: &[FileId],
) -> sqlx::Result<()> {
    for (range, text) in INSERT.exact(files.len()) {
        let mut query = sqlx::query(AssertSqlSafe(text));
        for file in &files[range] {
            query = query.bind(conversation.key()).bind(seq.0).bind(file.as_str());
        }
        query.execute(&mut *tx).await?;
    }
    for (range, text) in USED.exact(files.len()) {
        let query = sqlx::query(AssertSqlSafe(text));
        files[range].iter().fold(query, |query, file| query.bind(file.as_str())).execute(&mut *tx).await?;
    }
    Ok(())
}

/// Records that the message `seq` of a locked conversation carries no files any more. Nobody sees those that are used
/// nowhere else, and a worker removes them.
///
/// # Errors
/// The database's.
pub(in crate::mysql) async fn detach(tx: &mut Tx, conversation: &Conversation, seq: Seq) -> sqlx::Result<()> {
    let files: Vec<String> = sqlx::query_scalar(
        "SELECT file_id FROM message_file WHERE conversation_id = ? AND seq = ? ORDER BY file_id",
    )
    .bind(conversation.key())
    .bind(seq.0)
    .fetch_all(&mut *tx)
    .await?;
    if files.is_empty() {
        return Ok(());
    }
    sqlx::query("DELETE FROM message_file WHERE conversation_id = ? AND seq = ?")
        .bind(conversation.key())
        .bind(seq.0)
        .execute(&mut *tx)
        .await?;
    for file in files {
        sqlx::query(
            "UPDATE file SET state = ?, sweep_at = ? WHERE file_id = ? AND avatars = 0 \
             AND NOT EXISTS (SELECT 1 FROM message_file m WHERE m.file_id = file.file_id)",
        )
        .bind(FileState::GONE)
        .bind(unix_millis())
        .bind(file)
        .execute(&mut *tx)
        .await?;
    }
    Ok(())
}

/// Locks `files` until the end of the transaction, and returns those that may be sent.
///
/// # Errors
/// The database's.
pub async fn lock_usable(tx: &mut Tx, files: &[&FileId]) -> sqlx::Result<Vec<FileId>> {
    let ids: Vec<[&str; 1]> = files.iter().map(|file| [file.as_str()]).collect();
    let mut usable = Vec::with_capacity(files.len());
    for row in LOCK.select(tx, None, &ids).await? {
        if row.try_get::<u8, _>(1)? == FileState::COMPLETE {
            usable.push(parsed(FileId::parse(row.try_get(0)?))?);
        }
    }
    Ok(usable)
}

/// Why a user may not send a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Usable {
    /// There is no such file of this user, or it has gone.
    NotFound,
    /// It was uploaded for another conversation.
    OtherConversation,
    /// It is not complete.
    NotComplete,
}

/// Those of `files`, in their order, that `user` sends to `conversation`, and keeps them until the message is stored. The
/// inner error names the first one that it may not send.
///
/// # Errors
/// The database's.
pub async fn usable<'f>(
    pool: &Pool,
    user: &UserId,
    conversation: &Conversation,
    files: &'f [FileId],
) -> sqlx::Result<Result<Vec<File>, (&'f FileId, Usable)>> {
    let mut found: AHashMap<FileId, File> =
        find_all(pool, files).await?.into_iter().map(|file| (file.file_id.clone(), file)).collect();
    let mut sent = Vec::with_capacity(files.len());
    for id in files {
        let file = found.remove(id).filter(|file| file.uploader == *user && file.state != FileState::Gone);
        let Some(file) = file else { return Ok(Err((id, Usable::NotFound))) };
        if file.conversation.as_ref() != Some(conversation) {
            return Ok(Err((id, Usable::OtherConversation)));
        }
        if !file.is_complete() {
            return Ok(Err((id, Usable::NotComplete)));
        }
        sent.push(file);
    }
    for (range, text) in KEEP.exact(files.len()) {
        let query = sqlx::query(AssertSqlSafe(text)).bind(unix_millis() + KEPT_MS);
        files[range].iter().fold(query, |query, file| query.bind(file.as_str())).execute(pool).await?;
    }
    Ok(Ok(sent))
}

/// The last message of each of `files` that carries it; files that no message carries are left out.
///
/// # Errors
/// The database's.
pub async fn last_seqs(pool: &Pool, files: &[&FileId]) -> sqlx::Result<AHashMap<FileId, Seq>> {
    let ids: Vec<[&str; 1]> = files.iter().map(|file| [file.as_str()]).collect();
    let rows = LAST.select_from(pool, None, &ids).await?;
    rows.iter().map(|row| Ok((parsed(FileId::parse(row.try_get(0)?))?, Seq(row.try_get(1)?)))).collect()
}
