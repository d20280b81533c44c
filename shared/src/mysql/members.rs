//! `chat_group` and `group_member`, read: which groups there are, who is in them, and what members may do.

use std::sync::LazyLock;

use ahash::AHashMap;
use sqlx::Row as _;
use sqlx::mysql::MySqlRow;

use super::Pool;
use super::groups::GroupAccess;
use super::shapes::Shapes;
use crate::conversation::Conversation;
use crate::ids::{Seq, UserId, unix_millis};

/// What a member is to its group. A higher one may do what a lower one may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Reads and sends.
    Member,
    /// Changes the group, adds, removes and mutes members, recalls messages.
    Admin,
    /// Gives roles and dismisses the group. One at most.
    Owner,
}

impl Role {
    /// As in `group_member.role`.
    #[must_use]
    pub fn stored(self) -> u8 {
        match self {
            Self::Member => 0,
            Self::Admin => 1,
            Self::Owner => 2,
        }
    }

    /// From `group_member.role`; a number of a later version counts as the least.
    #[must_use]
    pub fn from_stored(stored: u8) -> Self {
        match stored {
            1 => Self::Admin,
            2 => Self::Owner,
            _ => Self::Member,
        }
    }
}

/// What one member may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Access {
    /// Its role.
    pub role: Role,
    /// Until when it may not send, in milliseconds since 1970.
    pub muted_until: i64,
    /// The last number when it joined: unread never counts what came before.
    pub join_seq: Seq,
    /// Nothing at or below is shown to it.
    pub floor: Seq,
}

impl Access {
    /// From four columns of a row, beginning with `first`: role, muted_until, join_seq, floor_seq.
    pub(super) fn from_row(row: &MySqlRow, first: usize) -> sqlx::Result<Self> {
        Ok(Self {
            role: Role::from_stored(row.try_get(first)?),
            muted_until: row.try_get(first + 1)?,
            join_seq: Seq(row.try_get(first + 2)?),
            floor: Seq(row.try_get(first + 3)?),
        })
    }

    /// A new member's, for whom history begins at `floor`.
    #[must_use]
    pub fn newcomer(join_seq: Seq, floor: Seq) -> Self {
        Self { role: Role::Member, muted_until: 0, join_seq, floor }
    }

    /// Whether it may send at `now` (milliseconds since 1970) into a group that is muted or not.
    #[must_use]
    pub fn may_send(&self, group_is_muted: bool, now: i64) -> bool {
        self.muted_until <= now && (!group_is_muted || self.role >= Role::Admin)
    }
}

/// What a user is to a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Membership {
    /// In it.
    Member(GroupAccess, Access),
    /// Not in it, but anyone may join by using it.
    Open,
    /// Not in it.
    Stranger,
    /// There is no such group.
    NoGroup,
}

/// What `user` is to `group`.
///
/// # Errors
/// As the database says.
pub async fn membership(pool: &Pool, group: &Conversation, user: &UserId) -> sqlx::Result<Membership> {
    let Some(found) = super::groups::find(pool, group).await?.filter(|found| !found.is_dismissed) else {
        return Ok(Membership::NoGroup);
    };
    let (about, members) = super::groups::accesses(pool, group, std::slice::from_ref(user)).await?;
    Ok(match members.first() {
        Some((_, access)) => Membership::Member(about, *access),
        None if found.is_open => Membership::Open,
        None => Membership::Stranger,
    })
}

static GROUPS_OF: LazyLock<Shapes> = LazyLock::new(|| {
    Shapes::new(
        "SELECT m.user_id, m.group_id, c.access_version, g.is_muted, \
         g.is_large OR g.large_until > CAST(? AS SIGNED), m.role, m.muted_until, m.join_seq, m.floor_seq \
         FROM group_member m JOIN chat_group g ON g.group_id = m.group_id \
         LEFT JOIN conversation c ON c.conversation_id = m.group_id \
         WHERE NOT g.is_dismissed AND m.user_id IN (",
        "?",
        ",",
        ")",
    )
});

/// A group that a user is in, and what the user may do there.
pub type Belonging = (Conversation, GroupAccess, Access);

/// All groups that each of `users` is in; who is in none has no entry.
///
/// # Errors
/// As the database says; a stored id that is none is left out and logged.
pub async fn groups_of(pool: &Pool, users: &[UserId]) -> sqlx::Result<AHashMap<UserId, Vec<Belonging>>> {
    let now = unix_millis().to_string();
    let ids: Vec<[&str; 1]> = users.iter().map(|user| [user.as_str()]).collect();
    let mut groups: AHashMap<UserId, Vec<Belonging>> = AHashMap::with_capacity(users.len());
    for row in GROUPS_OF.select_from(pool, Some(&now), &ids).await? {
        let (user, key): (&str, &str) = (row.try_get(0)?, row.try_get(1)?);
        let (Ok(user), Ok(group)) = (UserId::parse(user), Conversation::from_key(key)) else {
            tracing::error!(%user, %key, "ill-formed id in group_member");
            continue;
        };
        let about =
            GroupAccess { version: row.try_get(2)?, is_muted: row.try_get(3)?, merges_head: row.try_get(4)? };
        groups.entry(user).or_default().push((group, about, Access::from_row(&row, 5)?));
    }
    Ok(groups)
}

static AMONG: LazyLock<Shapes> = LazyLock::new(|| {
    Shapes::new(
        "SELECT m.group_id, m.role, m.muted_until, m.join_seq, m.floor_seq FROM group_member m \
         JOIN chat_group g ON g.group_id = m.group_id AND NOT g.is_dismissed WHERE m.user_id = ? AND m.group_id IN (",
        "?",
        ",",
        ")",
    )
});

/// What `user` may do in those of `groups` that it is in.
///
/// # Errors
/// As the database says.
pub async fn accesses_among(
    pool: &Pool,
    user: &UserId,
    groups: &[&Conversation],
) -> sqlx::Result<AHashMap<Conversation, Access>> {
    AMONG.by_conversation(pool, Some(user.as_str()), groups, |row| Access::from_row(row, 1)).await
}

/// Those of `user`'s groups whose heads are merged into its syncs: they are, or were lately, too large for inboxes.
///
/// # Errors
/// As the database says; a stored id that is none is left out.
pub async fn merging_groups_of(pool: &Pool, user: &UserId) -> sqlx::Result<Vec<Conversation>> {
    let keys: Vec<String> = sqlx::query_scalar(
        "SELECT m.group_id FROM group_member m JOIN chat_group g ON g.group_id = m.group_id \
         WHERE m.user_id = ? AND NOT g.is_dismissed AND (g.is_large OR g.large_until > ?)",
    )
    .bind(user.as_str())
    .bind(unix_millis())
    .fetch_all(pool)
    .await?;
    Ok(keys.iter().filter_map(|key| Conversation::from_key(key).ok()).collect())
}

/// Who joined `group` at `since` (milliseconds since 1970) or later, in the order of ids.
///
/// # Errors
/// As the database says; a stored id that is none is left out.
pub async fn joined_since(pool: &Pool, group: &Conversation, since: i64) -> sqlx::Result<Vec<UserId>> {
    let ids: Vec<String> = sqlx::query_scalar(
        "SELECT user_id FROM group_member WHERE group_id = ? AND join_time >= ? ORDER BY user_id",
    )
    .bind(group.key())
    .bind(since)
    .fetch_all(pool)
    .await?;
    Ok(ids.iter().filter_map(|id| UserId::parse(id).ok()).collect())
}

/// One line of a group's list.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct ListedMember {
    /// Who.
    pub user_id: String,
    /// Its role.
    pub role: Role,
    /// Milliseconds since 1970.
    pub join_time: i64,
    /// Until when it may not send, in milliseconds since 1970; 0 if it may.
    pub muted_until: i64,
}

/// Members after `cursor` in the order of their ids, at most `limit`.
///
/// # Errors
/// As the database says.
pub async fn list(
    pool: &Pool,
    group: &Conversation,
    cursor: &str,
    limit: u32,
) -> sqlx::Result<Vec<ListedMember>> {
    let rows = sqlx::query(
        "SELECT user_id, role, join_time, muted_until FROM group_member WHERE group_id = ? AND user_id > ? \
         ORDER BY user_id LIMIT ?",
    )
    .bind(group.key())
    .bind(cursor)
    .bind(limit)
    .fetch_all(pool)
    .await?;
    rows.iter()
        .map(|row| {
            Ok(ListedMember {
                user_id: row.try_get(0)?,
                role: Role::from_stored(row.try_get(1)?),
                join_time: row.try_get(2)?,
                muted_until: row.try_get(3)?,
            })
        })
        .collect()
}
