//! `former_mute`: mutes outlast the membership, so that nobody ends one by leaving and coming back.

use std::sync::LazyLock;

use ahash::AHashMap;
use sqlx::Row as _;

use super::rows::set_muted_until;
use crate::conversation::Conversation;
use crate::ids::{UserId, unix_millis};
use crate::mysql::Tx;
use crate::mysql::multi_row::MultiRow;

/// Keeps the mute of a member who is about to go, if it has not ended. Mutes of the group that have ended are removed.
pub(super) async fn keep(tx: &mut Tx, group: &Conversation, user: &UserId) -> sqlx::Result<()> {
    let now = unix_millis();
    let kept = sqlx::query(
        "INSERT INTO former_mute (group_id, user_id, muted_until) \
         SELECT group_id, user_id, muted_until FROM group_member \
         WHERE group_id = ? AND user_id = ? AND muted_until > ? \
         ON DUPLICATE KEY UPDATE muted_until = VALUES(muted_until)",
    )
    .bind(group.key())
    .bind(user.as_str())
    .bind(now)
    .execute(&mut *tx)
    .await?;
    if kept.rows_affected() > 0 {
        sqlx::query("DELETE FROM former_mute WHERE group_id = ? AND muted_until <= ?")
            .bind(group.key())
            .bind(now)
            .execute(&mut *tx)
            .await?;
    }
    Ok(())
}

static FORMER: LazyLock<MultiRow> = LazyLock::new(|| {
    MultiRow::new(
        "SELECT user_id, muted_until FROM former_mute WHERE group_id = ? AND user_id IN (",
        "?",
        ",",
        ")",
    )
});

/// Mutes those of `joined`, who are members since this transaction, that were muted when they went. Returns whether there
/// was one.
pub(super) async fn restore(tx: &mut Tx, group: &Conversation, joined: &[UserId]) -> sqlx::Result<bool> {
    let ids: Vec<[&str; 1]> = joined.iter().map(|user| [user.as_str()]).collect();
    let by_id: AHashMap<&str, &UserId> = joined.iter().map(|user| (user.as_str(), user)).collect();
    let (mut any, now) = (false, unix_millis());
    for row in FORMER.select(tx, Some(group.key()), &ids).await? {
        let (id, until): (&str, i64) = (row.try_get(0)?, row.try_get(1)?);
        let Some(user) = by_id.get(id) else { continue };
        if until > now {
            set_muted_until(tx, group, user, until).await?;
            any = true;
        }
        sqlx::query("DELETE FROM former_mute WHERE group_id = ? AND user_id = ?")
            .bind(group.key())
            .bind(id)
            .execute(&mut *tx)
            .await?;
    }
    Ok(any)
}
