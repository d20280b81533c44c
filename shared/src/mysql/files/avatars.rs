//! Files that are shown for users and groups.

use super::rows::FileState;
use crate::ids::{UserId, unix_millis};
use crate::message::FileId;
use crate::mysql::{Pool, Tx};

/// A file that is an avatar no more is kept for so long, in milliseconds: pages that show it have its link.
const KEPT_MS: i64 = 3_600_000;

/// Records that `new` is shown instead of `old`, for one user or group. False if `new` is no file that may be shown.
///
/// # Errors
/// The database's.
pub(in crate::mysql) async fn exchange(
    tx: &mut Tx,
    old: Option<&str>,
    new: Option<&FileId>,
) -> sqlx::Result<bool> {
    if let Some(new) = new {
        let used = sqlx::query(
            "UPDATE file SET avatars = avatars + 1, sweep_at = NULL \
             WHERE file_id = ? AND state = ? AND conversation_id IS NULL",
        )
        .bind(new.as_str())
        .bind(FileState::COMPLETE)
        .execute(&mut *tx)
        .await?;
        if used.rows_affected() == 0 {
            return Ok(false);
        }
    }
    if let Some(old) = old {
        sqlx::query(
            "UPDATE file SET sweep_at = IF(avatars <= 1, ?, NULL), avatars = avatars - LEAST(avatars, 1) \
             WHERE file_id = ?",
        )
        .bind(unix_millis() + KEPT_MS)
        .bind(old)
        .execute(&mut *tx)
        .await?;
    }
    Ok(true)
}

/// Whether `user` has uploaded `file` as an avatar, and completed it.
///
/// # Errors
/// The database's.
pub async fn is_avatar_of(pool: &Pool, user: &UserId, file: &FileId) -> sqlx::Result<bool> {
    let found = super::rows::find(pool, file).await?;
    Ok(found.is_some_and(|file| file.is_complete() && file.conversation.is_none() && file.uploader == *user))
}
