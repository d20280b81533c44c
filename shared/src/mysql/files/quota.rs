//! `user_upload_quota`: what each user uploaded today.

use crate::ids::UserId;
use crate::mysql::Pool;

/// What a user uploaded on one day, or is about to upload.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct UploadCounts {
    /// Files.
    pub uploads: u32,
    /// Their bytes.
    pub bytes: u64,
}

/// Counts an upload of `user` on `day` (days since 1970), and returns the counts of the day with it. Earlier days are
/// forgotten.
///
/// # Errors
/// The database's.
pub async fn count(pool: &Pool, user: &UserId, day: u32, bytes: u64) -> sqlx::Result<UploadCounts> {
    sqlx::query(
        "INSERT INTO user_upload_quota (user_id, day, uploads, bytes) VALUES (?, ?, 1, ?) \
         ON DUPLICATE KEY UPDATE uploads = IF(day = VALUES(day), uploads, 0) + 1, \
         bytes = IF(day = VALUES(day), bytes, 0) + VALUES(bytes), day = VALUES(day)",
    )
    .bind(user.as_str())
    .bind(day)
    .bind(bytes)
    .execute(pool)
    .await?;
    let (uploads, bytes) = sqlx::query_as("SELECT uploads, bytes FROM user_upload_quota WHERE user_id = ?")
        .bind(user.as_str())
        .fetch_one(pool)
        .await?;
    Ok(UploadCounts { uploads, bytes })
}

/// Takes back what [`count`] counted on `day`, because it was refused.
///
/// # Errors
/// The database's.
pub async fn uncount(pool: &Pool, user: &UserId, day: u32, bytes: u64) -> sqlx::Result<()> {
    sqlx::query(
        "UPDATE user_upload_quota SET uploads = uploads - LEAST(uploads, 1), bytes = bytes - LEAST(bytes, ?) \
         WHERE user_id = ? AND day = ?",
    )
    .bind(bytes)
    .bind(user.as_str())
    .bind(day)
    .execute(pool)
    .await
    .map(drop)
}
