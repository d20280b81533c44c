//! `chat_group`, read.

use sqlx::Row as _;
use sqlx::mysql::MySqlRow;

use super::policy::NewcomerHistory;
use crate::conversation::Conversation;
use crate::ids::Seq;
use crate::meta::Meta;
use crate::mysql::{Pool, Tx};

/// A group as its members see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// Its name; may be empty.
    pub name: String,
    /// What its members should know; may be empty.
    pub notice: String,
    /// The app's own.
    pub meta: Meta,
    /// The file that is shown for it.
    pub avatar: Option<String>,
    /// Anyone who uses the group joins it.
    pub is_open: bool,
    /// Only the owner and admins may send.
    pub is_muted: bool,
    /// The group was dismissed.
    pub is_dismissed: bool,
    /// What new members see of the messages before them.
    pub newcomer_history: NewcomerHistory,
    /// The number of members.
    pub members: u32,
    /// The group gets no inbox entries.
    pub is_large: bool,
    /// The time of its creation, in milliseconds since 1970.
    pub created_at: i64,
}

const GROUP: &str = "SELECT name, is_open, is_muted, is_dismissed, history_from_start, members, is_large, created_at, history_floor, \
                     notice, meta, avatar \
                     FROM chat_group WHERE group_id = ?";

fn group_from_row(row: &MySqlRow) -> sqlx::Result<Group> {
    let avatar: String = row.try_get(11)?;
    Ok(Group {
        name: row.try_get(0)?,
        is_open: row.try_get(1)?,
        is_muted: row.try_get(2)?,
        is_dismissed: row.try_get(3)?,
        newcomer_history: if row.try_get(4)? {
            NewcomerHistory::From(Seq(row.try_get(8)?))
        } else {
            NewcomerHistory::Joining
        },
        members: row.try_get(5)?,
        is_large: row.try_get(6)?,
        created_at: row.try_get(7)?,
        notice: row.try_get(9)?,
        meta: Meta::from_stored(row.try_get(10)?),
        avatar: Some(avatar).filter(|avatar| !avatar.is_empty()),
    })
}

/// The group, also a dismissed one; `None` if the name was never used.
///
/// # Errors
/// The database's.
pub async fn find(pool: &Pool, group: &Conversation) -> sqlx::Result<Option<Group>> {
    let row = sqlx::query(GROUP).bind(group.key()).fetch_optional(pool).await?;
    row.as_ref().map(group_from_row).transpose()
}

/// The same in a transaction.
pub(super) async fn find_in(tx: &mut Tx, group: &Conversation) -> sqlx::Result<Option<Group>> {
    let row = sqlx::query(GROUP).bind(group.key()).fetch_optional(&mut *tx).await?;
    row.as_ref().map(group_from_row).transpose()
}
