//! What workers do with the bytes of completed uploads.
//!
//! A job is taken for a while. If the worker dies meanwhile, another one takes it when that time is over.

use sqlx::Row as _;

use super::rows::{FileState, ObjectState, parsed};
use crate::message::{Dimensions, FileId};
use crate::mysql::Pool;

/// A job that is due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// The bytes.
    pub object_id: FileId,
    /// When it was due, in milliseconds since 1970.
    pub due: i64,
    /// How often it was begun.
    pub attempts: u8,
    /// The number of the bytes.
    pub size: u64,
    /// Their media type.
    pub content_type: String,
}

/// The jobs that are due at `now`, the oldest first; at most `count`.
///
/// # Errors
/// The database's.
pub async fn due_jobs(pool: &Pool, now: i64, count: u32) -> sqlx::Result<Vec<Job>> {
    let rows = sqlx::query(
        "SELECT object_id, job_due, job_attempts, size, content_type FROM file_object \
         WHERE job_due <= ? ORDER BY job_due LIMIT ?",
    )
    .bind(now)
    .bind(count)
    .fetch_all(pool)
    .await?;
    rows.iter()
        .map(|row| {
            Ok(Job {
                object_id: parsed(FileId::parse(row.try_get(0)?))?,
                due: row.try_get(1)?,
                attempts: row.try_get(2)?,
                size: row.try_get(3)?,
                content_type: row.try_get(4)?,
            })
        })
        .collect()
}

/// Takes a job until `until`. False if another worker has taken it.
///
/// # Errors
/// The database's.
pub async fn claim(pool: &Pool, job: &Job, until: i64) -> sqlx::Result<bool> {
    let claimed = sqlx::query(
        "UPDATE file_object SET job_due = ?, job_attempts = job_attempts + 1 WHERE object_id = ? AND job_due = ?",
    )
    .bind(until)
    .bind(job.object_id.as_str())
    .bind(job.due)
    .execute(pool)
    .await?;
    Ok(claimed.rows_affected() == 1)
}

/// What a worker has found out about a picture.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Looked {
    /// As it is shown; `None`: what is known stays.
    pub dimensions: Option<Dimensions>,
    /// In base64.
    pub thumbhash: Option<String>,
    /// The media type of the small picture, if the store has one.
    pub thumb_type: Option<&'static str>,
    /// The number of the bytes, if they were rewritten.
    pub size: Option<u64>,
}

/// Ends a job.
///
/// # Errors
/// The database's.
pub async fn finish(pool: &Pool, object_id: &FileId, looked: &Looked) -> sqlx::Result<()> {
    sqlx::query(
        "UPDATE file_object SET width = COALESCE(?, width), height = COALESCE(?, height), thumbhash = ?, thumb_type = ?, \
         size = COALESCE(?, size), job_due = NULL, state = IF(state = ?, ?, state) WHERE object_id = ?",
    )
    .bind(looked.dimensions.map(|dimensions| dimensions.width))
    .bind(looked.dimensions.map(|dimensions| dimensions.height))
    .bind(looked.thumbhash.as_deref())
    .bind(looked.thumb_type)
    .bind(looked.size)
    .bind(ObjectState::WAITING)
    .bind(ObjectState::READY)
    .bind(object_id.as_str())
    .execute(pool)
    .await
    .map(drop)
}

/// Ends a job that has failed too often: there is no small picture. Bytes that were to be rewritten are removed, since
/// nobody may read them as they are.
///
/// # Errors
/// The database's.
pub async fn give_up(pool: &Pool, object_id: &FileId, now: i64) -> sqlx::Result<()> {
    sqlx::query(
        "UPDATE file f JOIN file_object o ON o.object_id = f.object_id SET f.state = ?, f.sweep_at = ? \
         WHERE o.object_id = ? AND o.state = ?",
    )
    .bind(FileState::GONE)
    .bind(now)
    .bind(object_id.as_str())
    .bind(ObjectState::WAITING)
    .execute(pool)
    .await?;
    sqlx::query("UPDATE file_object SET job_due = NULL WHERE object_id = ?")
        .bind(object_id.as_str())
        .execute(pool)
        .await
        .map(drop)
}
