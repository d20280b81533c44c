//! Removing files that nobody uses.

use super::rows::{FileState, ObjectState, parsed};
use crate::message::FileId;
use crate::mysql::{Pool, Transaction, Tx, run_tx};

/// The files that are to go at `now`, the longest due first; at most `count`.
///
/// # Errors
/// The database's.
pub async fn due(pool: &Pool, now: i64, count: u32) -> sqlx::Result<Vec<FileId>> {
    let ids: Vec<String> =
        sqlx::query_scalar("SELECT file_id FROM file WHERE sweep_at <= ? ORDER BY sweep_at LIMIT ?")
            .bind(now)
            .bind(count)
            .fetch_all(pool)
            .await?;
    ids.iter().map(|id| parsed(FileId::parse(id))).collect()
}

/// A file that nobody can use any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Doomed {
    /// It was begun and never completed.
    pub is_unfinished: bool,
    /// It was completed and never used; otherwise it was recalled, or taken off as an avatar.
    pub is_unused: bool,
    /// The bytes to remove; `None` if another file has them, too.
    pub object: Option<DoomedObject>,
}

/// Bytes that no file has any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DoomedObject {
    /// Their name in the store.
    pub object_id: FileId,
    /// Their number.
    pub size: u64,
    /// The store's name of an upload in parts that was not completed.
    pub upload_id: Option<String>,
}

struct Doom<'a> {
    file_id: &'a FileId,
    now: i64,
}

/// Makes the file unusable for good, and its bytes, too, if no other file has them. `None` if it is used again.
///
/// # Errors
/// The database's.
pub async fn doom(pool: &Pool, file_id: &FileId, now: i64) -> sqlx::Result<Option<Doomed>> {
    run_tx(pool, &Doom { file_id, now }).await
}

impl Transaction for Doom<'_> {
    type Output = Option<Doomed>;
    type Error = sqlx::Error;

    const NAME: &'static str = "doom file";

    async fn run(&self, tx: &mut Tx) -> sqlx::Result<Option<Doomed>> {
        let found: Option<(String, u8)> = sqlx::query_as(
            "SELECT object_id, state FROM file WHERE file_id = ? AND sweep_at <= ? FOR UPDATE",
        )
        .bind(self.file_id.as_str())
        .bind(self.now)
        .fetch_optional(&mut *tx)
        .await?;
        let Some((object_id, state)) = found else { return Ok(None) };
        let object: Option<(u64, Option<String>)> =
            sqlx::query_as("SELECT size, upload_id FROM file_object WHERE object_id = ? FOR UPDATE")
                .bind(&object_id)
                .fetch_optional(&mut *tx)
                .await?;
        sqlx::query("UPDATE file SET state = ? WHERE file_id = ?")
            .bind(FileState::GONE)
            .bind(self.file_id.as_str())
            .execute(&mut *tx)
            .await?;
        let others: i64 =
            sqlx::query_scalar("SELECT COUNT(*) FROM file WHERE object_id = ? AND state <> ? FOR UPDATE")
                .bind(&object_id)
                .bind(FileState::GONE)
                .fetch_one(&mut *tx)
                .await?;
        let mut doomed =
            Doomed { is_unfinished: state == 0, is_unused: state == FileState::COMPLETE, object: None };
        if let (Some((size, upload_id)), 0) = (object, others) {
            sqlx::query("UPDATE file_object SET state = ?, job_due = NULL WHERE object_id = ?")
                .bind(ObjectState::DOOMED)
                .bind(&object_id)
                .execute(&mut *tx)
                .await?;
            doomed.object =
                Some(DoomedObject { object_id: parsed(FileId::parse(&object_id))?, size, upload_id });
        }
        Ok(Some(doomed))
    }
}

/// Removes the row of a doomed file, after its bytes.
///
/// # Errors
/// The database's.
pub async fn forget(pool: &Pool, file_id: &FileId) -> sqlx::Result<()> {
    sqlx::query("DELETE FROM file WHERE file_id = ? AND state = ?")
        .bind(file_id.as_str())
        .bind(FileState::GONE)
        .execute(pool)
        .await
        .map(drop)
}

/// Removes the row of doomed bytes that the store does not have any more.
///
/// # Errors
/// The database's.
pub async fn remove_object(pool: &Pool, object_id: &FileId) -> sqlx::Result<()> {
    sqlx::query("DELETE FROM file_object WHERE object_id = ? AND state = ?")
        .bind(object_id.as_str())
        .bind(ObjectState::DOOMED)
        .execute(pool)
        .await
        .map(drop)
}
