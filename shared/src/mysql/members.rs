//! `group_member`, read: the members of groups and their permissions.

use std::sync::LazyLock;

use ahash::AHashMap;
use sqlx::Row as _;
use sqlx::mysql::MySqlRow;

use super::Pool;
use super::multi_row::MultiRow;
use crate::conversation::Conversation;
use crate::feed::GroupSight;
use crate::ids::{Seq, UNIX_MILLIS_MAX, UserId, unix_millis};
use crate::permission::{GroupSettings, HistoryRange, MemberStatus, Membership, Permissions, Relation, Role};

fn membership_from_row(row: &MySqlRow, first: usize) -> sqlx::Result<Membership> {
    Ok(Membership {
        status: MemberStatus {
            role: Role::from_stored(row.try_get(first)?),
            muted_until: row.try_get(first + 1)?,
        },
        history: HistoryRange { join_seq: Seq(row.try_get(first + 2)?), floor: Seq(row.try_get(first + 3)?) },
    })
}

/// The permissions of `user` in `group`, with the group's settings (the default ones if there is no such group).
///
/// # Errors
/// The database's.
pub async fn permissions(
    pool: &Pool,
    group: &Conversation,
    user: &UserId,
) -> sqlx::Result<(GroupSettings, Permissions)> {
    let Some(found) = super::groups::find(pool, group).await?.filter(|found| !found.is_dismissed) else {
        return Ok((GroupSettings::default(), Permissions::without_history(Relation::NoGroup)));
    };
    let (settings, members) = memberships_in(pool, group, std::slice::from_ref(user)).await?;
    let permissions = match members.first() {
        Some((_, membership)) => Permissions::of_member(settings, *membership),
        None => Permissions::without_history(Relation::Outsider { group_is_open: found.is_open }),
    };
    Ok((settings, permissions))
}

// What a member has cleared is hidden from it like what came before its floor.
static MEMBERSHIPS: LazyLock<MultiRow> = LazyLock::new(|| {
    MultiRow::new(
        "SELECT m.user_id, m.role, m.muted_until, m.join_seq, \
         CAST(GREATEST(m.floor_seq, COALESCE(s.cleared_seq, 0)) AS UNSIGNED) \
         FROM group_member m LEFT JOIN user_conversation_state s \
         ON s.user_id = m.user_id AND s.conversation_id = m.group_id WHERE m.group_id = ? AND m.user_id IN (",
        "?",
        ",",
        ")",
    )
});

/// The settings of `group` and the memberships of those of `users` who are in it. Without such a group, and in one that
/// was dismissed, nobody is.
///
/// # Errors
/// The database's.
pub async fn memberships_in(
    pool: &Pool,
    group: &Conversation,
    users: &[UserId],
) -> sqlx::Result<(GroupSettings, Vec<(UserId, Membership)>)> {
    // In this order: the memberships are at least as new as the version.
    let row = sqlx::query(
        "SELECT c.access_version, g.is_muted, g.is_dismissed, g.is_large OR g.large_until > ? FROM chat_group g \
         LEFT JOIN conversation c ON c.conversation_id = g.group_id WHERE g.group_id = ?",
    )
    .bind(unix_millis())
    .bind(group.key())
    .fetch_optional(pool)
    .await?;
    let Some(row) = row else { return Ok((GroupSettings::default(), Vec::new())) };
    let version: Option<u64> = row.try_get(0)?;
    let settings = GroupSettings {
        version: version.unwrap_or(0),
        is_muted: row.try_get(1)?,
        merges_head: row.try_get(3)?,
    };
    if row.try_get::<bool, _>(2)? {
        return Ok((settings, Vec::new()));
    }
    let ids: Vec<[&str; 1]> = users.iter().map(|user| [user.as_str()]).collect();
    let by_id: AHashMap<&str, &UserId> = users.iter().map(|user| (user.as_str(), user)).collect();
    let mut found = Vec::new();
    for row in MEMBERSHIPS.select_from(pool, Some(group.key()), &ids).await? {
        let id: &str = row.try_get(0)?;
        if let Some(user) = by_id.get(id) {
            found.push(((*user).clone(), membership_from_row(&row, 1)?));
        }
    }
    Ok((settings, found))
}

static GROUPS_OF: LazyLock<MultiRow> = LazyLock::new(|| {
    MultiRow::new(
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

/// A user's membership in a group, with the group's settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupMembership {
    /// The group.
    pub group: Conversation,
    /// Its settings.
    pub settings: GroupSettings,
    /// The user's membership.
    pub membership: Membership,
}

/// The memberships of each of `users`; a user without any has no entry.
///
/// # Errors
/// The database's; an ill-formed stored id is left out and logged.
pub async fn groups_of(
    pool: &Pool,
    users: &[UserId],
) -> sqlx::Result<AHashMap<UserId, Vec<GroupMembership>>> {
    let now = unix_millis().to_string();
    let ids: Vec<[&str; 1]> = users.iter().map(|user| [user.as_str()]).collect();
    let mut groups: AHashMap<UserId, Vec<GroupMembership>> = AHashMap::with_capacity(users.len());
    for row in GROUPS_OF.select_from(pool, Some(&now), &ids).await? {
        let (user, key): (&str, &str) = (row.try_get(0)?, row.try_get(1)?);
        let (Ok(user), Ok(group)) = (UserId::parse(user), Conversation::from_key(key)) else {
            tracing::error!(%user, %key, "ill-formed id in group_member");
            continue;
        };
        let settings = GroupSettings {
            version: row.try_get(2)?,
            is_muted: row.try_get(3)?,
            merges_head: row.try_get(4)?,
        };
        let membership = membership_from_row(&row, 5)?;
        groups.entry(user).or_default().push(GroupMembership { group, settings, membership });
    }
    Ok(groups)
}

static AMONG: LazyLock<MultiRow> = LazyLock::new(|| {
    MultiRow::new(
        "SELECT m.group_id, m.role, m.muted_until, m.join_seq, m.floor_seq FROM group_member m \
         JOIN chat_group g ON g.group_id = m.group_id AND NOT g.is_dismissed WHERE m.user_id = ? AND m.group_id IN (",
        "?",
        ",",
        ")",
    )
});

/// The memberships of `user` in those of `groups` that it is in.
///
/// # Errors
/// The database's.
pub async fn memberships_among(
    pool: &Pool,
    user: &UserId,
    groups: &[&Conversation],
) -> sqlx::Result<AHashMap<Conversation, Membership>> {
    AMONG.by_conversation(pool, Some(user.as_str()), groups, |row| membership_from_row(row, 1)).await
}

/// What `user` sees of each of its groups.
///
/// # Errors
/// The database's; an ill-formed stored id is left out.
pub async fn sights_of(pool: &Pool, user: &UserId) -> sqlx::Result<AHashMap<Conversation, GroupSight>> {
    let rows: Vec<(String, u64, i64)> = sqlx::query_as(
        "SELECT m.group_id, m.floor_seq, m.join_time FROM group_member m \
         JOIN chat_group g ON g.group_id = m.group_id WHERE m.user_id = ? AND NOT g.is_dismissed",
    )
    .bind(user.as_str())
    .fetch_all(pool)
    .await?;
    let sight = |(key, floor, joined_at): (String, u64, i64)| {
        Some((Conversation::from_key(&key).ok()?, GroupSight { floor: Seq(floor), joined_at }))
    };
    Ok(rows.into_iter().filter_map(sight).collect())
}

/// Some groups of one user, in the order of their ids.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupsOfUser {
    /// Those whose `last_seq` is merged into syncs: they are, or were recently, too large for inboxes.
    pub merging: Vec<Conversation>,
    /// The number of all groups that were looked at.
    pub examined: usize,
    /// The key of the last one, if there may be more groups behind it.
    pub next: Option<String>,
}

/// The next groups of `user` whose keys are above `after` (empty: from the first one on), at most `limit`. The groups of
/// one user are read in steps, because no statement should last long, however many groups a user has.
///
/// # Errors
/// The database's; an ill-formed stored id is left out.
pub async fn groups_of_user(
    pool: &Pool,
    user: &UserId,
    after: &str,
    limit: usize,
) -> sqlx::Result<GroupsOfUser> {
    // Not forced, MariaDB reads all entries of the user below `after` again for each step.
    let rows: Vec<(String, i64)> = sqlx::query_as(
        "SELECT m.group_id, NOT g.is_dismissed AND (g.is_large OR g.large_until > ?) \
         FROM group_member m FORCE INDEX (groups_of_user) JOIN chat_group g ON g.group_id = m.group_id \
         WHERE m.user_id = ? AND m.group_id > ? ORDER BY m.group_id LIMIT ?",
    )
    .bind(unix_millis())
    .bind(user.as_str())
    .bind(after)
    .bind(limit as u64)
    .fetch_all(pool)
    .await?;
    let next = rows.last().filter(|_| rows.len() >= limit).map(|(key, _)| key.clone());
    let merging = rows.iter().filter(|(_, merges)| *merges != 0);
    let merging = merging.filter_map(|(key, _)| Conversation::from_key(key).ok()).collect();
    Ok(GroupsOfUser { merging, examined: rows.len(), next })
}

/// The members who joined `group` at `since` (milliseconds since 1970) or later, in the order of their ids.
///
/// # Errors
/// The database's; an ill-formed stored id is left out.
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

/// One entry of a group's list of members.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct ListedMember {
    /// The member.
    pub user_id: String,
    /// Its role.
    pub role: Role,
    /// The time at which it joined, in milliseconds since 1970.
    pub join_time: i64,
    /// The end of its mute, in milliseconds since 1970; 0 if it is not muted.
    pub muted_until: i64,
}

/// Members after `cursor` in the order of their ids, at most `limit`.
///
/// # Errors
/// The database's.
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
                muted_until: row.try_get::<i64, _>(3)?.min(UNIX_MILLIS_MAX),
            })
        })
        .collect()
}
