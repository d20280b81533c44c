//! What the database knows of the store, for a comparison.

use std::sync::LazyLock;

use sqlx::Row as _;

use super::rows::{ObjectState, parsed};
use crate::message::FileId;
use crate::mysql::Pool;
use crate::mysql::multi_row::MultiRow;

/// Bytes that the store must have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedObject {
    /// Their name in the store.
    pub object_id: FileId,
    /// Their number.
    pub size: u64,
    /// There is a small picture, too.
    pub has_thumb: bool,
}

/// Bytes of completed uploads with ids above `after`, by id; at most `count`.
///
/// # Errors
/// The database's.
pub async fn objects_after(
    pool: &Pool,
    after: Option<&FileId>,
    count: u32,
) -> sqlx::Result<Vec<VerifiedObject>> {
    let rows = sqlx::query(
        "SELECT object_id, size, thumb_type IS NOT NULL FROM file_object WHERE object_id > ? AND state IN (?, ?) \
         ORDER BY object_id LIMIT ?",
    )
    .bind(after.map_or("", FileId::as_str))
    .bind(ObjectState::WAITING)
    .bind(ObjectState::READY)
    .bind(count)
    .fetch_all(pool)
    .await?;
    rows.iter()
        .map(|row| {
            let object_id = parsed(FileId::parse(row.try_get(0)?))?;
            Ok(VerifiedObject { object_id, size: row.try_get(1)?, has_thumb: row.try_get(2)? })
        })
        .collect()
}

static KNOWN: LazyLock<MultiRow> =
    LazyLock::new(|| MultiRow::new("SELECT object_id FROM file_object WHERE object_id IN (", "?", ",", ")"));

/// Those of `objects` that have a row.
///
/// # Errors
/// The database's.
pub async fn known_objects(pool: &Pool, objects: &[FileId]) -> sqlx::Result<Vec<FileId>> {
    let ids: Vec<[&str; 1]> = objects.iter().map(|id| [id.as_str()]).collect();
    let rows = KNOWN.select_from(pool, None, &ids).await?;
    rows.iter().map(|row| parsed(FileId::parse(row.try_get(0)?))).collect()
}

/// The number of completed uploads whose bytes are stored, and of their bytes.
///
/// # Errors
/// The database's.
pub async fn totals(pool: &Pool) -> sqlx::Result<(u64, u64)> {
    let (count, bytes): (i64, u64) = sqlx::query_as(
        "SELECT COUNT(*), CAST(COALESCE(SUM(size), 0) AS UNSIGNED) FROM file_object WHERE state IN (?, ?)",
    )
    .bind(ObjectState::WAITING)
    .bind(ObjectState::READY)
    .fetch_one(pool)
    .await?;
    Ok((count.unsigned_abs(), bytes))
}
