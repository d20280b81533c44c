//! Uploads from their announcement to their completion, and copies.

use super::rows::{File, FileState, ObjectState};
use crate::conversation::Conversation;
use crate::ids::{UserId, unix_millis};
use crate::message::{Dimensions, FileId};
use crate::mysql::{Pool, Transaction, Tx, run_tx};

/// An upload that is announced.
#[derive(Debug, Clone)]
pub struct NewUpload<'a> {
    /// The new file, and the name of its bytes in the store.
    pub file_id: &'a FileId,
    /// The caller.
    pub uploader: &'a UserId,
    /// Where it may be sent; `None` for an avatar.
    pub conversation: Option<&'a Conversation>,
    /// Its name.
    pub name: &'a str,
    /// Its bytes.
    pub size: u64,
    /// The media type that the client announces.
    pub content_type: &'a str,
    /// Bytes of a part, if it comes in parts.
    pub part_size: Option<u32>,
    /// The store's name of an upload in parts.
    pub upload_id: Option<&'a str>,
    /// When it goes unless it is used, in milliseconds since 1970.
    pub sweep_at: i64,
}

/// Records an upload.
///
/// # Errors
/// The database's.
pub async fn begin(pool: &Pool, upload: &NewUpload<'_>) -> sqlx::Result<()> {
    run_tx(pool, upload).await
}

impl Transaction for NewUpload<'_> {
    type Output = ();
    type Error = sqlx::Error;

    const NAME: &'static str = "begin upload";

    async fn run(&self, tx: &mut Tx) -> sqlx::Result<()> {
        sqlx::query(
            "INSERT INTO file_object (object_id, state, size, content_type, part_size, upload_id) \
             VALUES (?, 0, ?, ?, ?, ?)",
        )
        .bind(self.file_id.as_str())
        .bind(self.size)
        .bind(self.content_type)
        .bind(self.part_size)
        .bind(self.upload_id)
        .execute(&mut *tx)
        .await?;
        insert(tx, self, self.file_id, 0).await
    }
}

async fn insert(tx: &mut Tx, upload: &NewUpload<'_>, object: &FileId, state: u8) -> sqlx::Result<()> {
    sqlx::query(
        "INSERT INTO file (file_id, object_id, uploader_id, conversation_id, name, state, created_at, sweep_at) \
         VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(upload.file_id.as_str())
    .bind(object.as_str())
    .bind(upload.uploader.as_str())
    .bind(upload.conversation.map(Conversation::key))
    .bind(upload.name)
    .bind(state)
    .bind(unix_millis())
    .bind(upload.sweep_at)
    .execute(&mut *tx)
    .await
    .map(drop)
}

/// What the bytes of a completed upload turned out to be.
#[derive(Debug, Clone)]
pub struct Completed<'a> {
    /// The file.
    pub file: &'a File,
    /// The media type, as the content says.
    pub content_type: &'a str,
    /// Of a picture.
    pub dimensions: Option<Dimensions>,
    /// A worker is to make a small picture of it.
    pub has_job: bool,
    /// Nobody is to read it before the worker has rewritten it.
    pub waits_for_job: bool,
}

/// Completes an upload. False if it was completed or dropped meanwhile.
///
/// # Errors
/// The database's.
pub async fn complete(pool: &Pool, completed: &Completed<'_>) -> sqlx::Result<bool> {
    run_tx(pool, completed).await
}

impl Transaction for Completed<'_> {
    type Output = bool;
    type Error = sqlx::Error;

    const NAME: &'static str = "complete upload";

    async fn run(&self, tx: &mut Tx) -> sqlx::Result<bool> {
        let state = if self.waits_for_job { ObjectState::WAITING } else { ObjectState::READY };
        let is_first = sqlx::query("UPDATE file SET state = ? WHERE file_id = ? AND state = 0")
            .bind(FileState::COMPLETE)
            .bind(self.file.file_id.as_str())
            .execute(&mut *tx)
            .await?
            .rows_affected()
            == 1;
        if is_first {
            sqlx::query(
                "UPDATE file_object SET state = ?, content_type = ?, width = ?, height = ?, upload_id = NULL, job_due = ? \
                 WHERE object_id = ?",
            )
            .bind(state)
            .bind(self.content_type)
            .bind(self.dimensions.map(|dimensions| dimensions.width))
            .bind(self.dimensions.map(|dimensions| dimensions.height))
            .bind(self.has_job.then(unix_millis))
            .bind(self.file.object.object_id.as_str())
            .execute(&mut *tx)
            .await?;
        }
        Ok(is_first)
    }
}

/// Drops an upload that is not completed: a worker removes what the store has of it. False if it is completed.
///
/// # Errors
/// The database's.
pub async fn drop_upload(pool: &Pool, file_id: &FileId) -> sqlx::Result<bool> {
    let dropped = sqlx::query("UPDATE file SET state = ?, sweep_at = ? WHERE file_id = ? AND state = 0")
        .bind(FileState::GONE)
        .bind(unix_millis())
        .bind(file_id.as_str())
        .execute(pool)
        .await?;
    Ok(dropped.rows_affected() == 1)
}

struct Copy<'a> {
    source: &'a File,
    new: &'a NewUpload<'a>,
}

/// Makes a file with the bytes of `source`. False if `source` has gone meanwhile.
///
/// # Errors
/// The database's.
pub async fn copy(pool: &Pool, source: &File, new: &NewUpload<'_>) -> sqlx::Result<bool> {
    run_tx(pool, &Copy { source, new }).await
}

impl Transaction for Copy<'_> {
    type Output = bool;
    type Error = sqlx::Error;

    const NAME: &'static str = "copy file";

    async fn run(&self, tx: &mut Tx) -> sqlx::Result<bool> {
        let object = &self.source.object.object_id;
        // Locked: the removal of the bytes locks the row, too, and looks then for files that have them.
        let state: Option<u8> =
            sqlx::query_scalar("SELECT state FROM file_object WHERE object_id = ? FOR UPDATE")
                .bind(object.as_str())
                .fetch_optional(&mut *tx)
                .await?;
        // The source may have been recalled meanwhile.
        let source: Option<u8> = sqlx::query_scalar("SELECT state FROM file WHERE file_id = ?")
            .bind(self.source.file_id.as_str())
            .fetch_optional(&mut *tx)
            .await?;
        if state != Some(ObjectState::READY) || source != Some(FileState::COMPLETE) {
            return Ok(false);
        }
        insert(tx, self.new, object, FileState::COMPLETE).await?;
        Ok(true)
    }
}
