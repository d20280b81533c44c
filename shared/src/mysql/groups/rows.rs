//! Statements on `chat_group` and `group_member` that several changes share.

use std::sync::LazyLock;

use ahash::AHashMap;
use sqlx::{AssertSqlSafe, Row as _};

use super::error::GroupError;
use super::read::{Group, find_in};
use crate::conversation::Conversation;
use crate::ids::{Seq, UserId, unix_millis};
use crate::mysql::Tx;
use crate::mysql::multi_row::MultiRow;
use crate::permission::{Actor, Denied, HistoryRange, MemberStatus, Relation, Role};

/// The group, unless it does not exist or was dismissed.
pub(super) async fn existing(tx: &mut Tx, group: &Conversation) -> Result<Group, GroupError> {
    let found = find_in(tx, group).await?.filter(|found| !found.is_dismissed);
    found.ok_or(GroupError::Denied(Denied::NoGroup))
}

/// The relation of the caller to an existing group.
pub(super) async fn relation_of(
    tx: &mut Tx,
    group: &Conversation,
    found: &Group,
    actor: &Actor,
) -> sqlx::Result<Relation> {
    let Actor::User(user) = actor else { return Ok(Relation::Operator) };
    Ok(match role_of(tx, group, user).await? {
        Some(role) => {
            let status = MemberStatus { role, ..MemberStatus::NEW };
            Relation::Member { status, group_is_muted: found.is_muted }
        }
        None => Relation::Outsider { group_is_open: found.is_open },
    })
}

/// The role of `user`; `None` if it is not a member.
pub(super) async fn role_of(tx: &mut Tx, group: &Conversation, user: &UserId) -> sqlx::Result<Option<Role>> {
    Ok(roles(tx, group, std::slice::from_ref(user)).await?.first().map(|(_, role)| *role))
}

/// The caller sees nothing at or below this number.
pub(super) async fn floor_of(tx: &mut Tx, group: &Conversation, actor: &Actor) -> sqlx::Result<Seq> {
    let Actor::User(user) = actor else { return Ok(Seq::ZERO) };
    let floor: Option<u64> =
        sqlx::query_scalar("SELECT floor_seq FROM group_member WHERE group_id = ? AND user_id = ?")
            .bind(group.key())
            .bind(user.as_str())
            .fetch_optional(&mut *tx)
            .await?;
    Ok(floor.map_or(Seq::MAX, Seq))
}

static ROLES: LazyLock<MultiRow> = LazyLock::new(|| {
    MultiRow::new("SELECT user_id, role FROM group_member WHERE group_id = ? AND user_id IN (", "?", ",", ")")
});

/// The members among `users`, with their roles.
pub(super) async fn roles(
    tx: &mut Tx,
    group: &Conversation,
    users: &[UserId],
) -> sqlx::Result<Vec<(UserId, Role)>> {
    let ids: Vec<[&str; 1]> = users.iter().map(|user| [user.as_str()]).collect();
    let by_id: AHashMap<&str, &UserId> = users.iter().map(|user| (user.as_str(), user)).collect();
    let mut found = Vec::new();
    for row in ROLES.select(tx, Some(group.key()), &ids).await? {
        let (id, role): (&str, u8) = (row.try_get(0)?, row.try_get(1)?);
        if let Some(user) = by_id.get(id) {
            found.push(((*user).clone(), Role::from_stored(role)));
        }
    }
    Ok(found)
}

pub(super) async fn set_muted_until(
    tx: &mut Tx,
    group: &Conversation,
    user: &UserId,
    until: i64,
) -> sqlx::Result<()> {
    sqlx::query("UPDATE group_member SET muted_until = ? WHERE group_id = ? AND user_id = ?")
        .bind(until)
        .bind(group.key())
        .bind(user.as_str())
        .execute(&mut *tx)
        .await
        .map(drop)
}

pub(super) async fn set_role(
    tx: &mut Tx,
    group: &Conversation,
    user: &UserId,
    role: Role,
) -> sqlx::Result<()> {
    sqlx::query("UPDATE group_member SET role = ? WHERE group_id = ? AND user_id = ?")
        .bind(role.stored())
        .bind(group.key())
        .bind(user.as_str())
        .execute(&mut *tx)
        .await
        .map(drop)
}

static INSERT_MEMBERS: LazyLock<MultiRow> = LazyLock::new(|| {
    MultiRow::new(
        "INSERT INTO group_member (group_id, user_id, join_time, join_seq, floor_seq) VALUES ",
        "(?,?,?,?,?)",
        ",",
        " ON DUPLICATE KEY UPDATE group_id = group_member.group_id",
    )
});

/// Adds `users`, which are sorted; the rows of those who are members already stay as they are.
pub(super) async fn insert_members(
    tx: &mut Tx,
    group: &Conversation,
    users: &[UserId],
    history: HistoryRange,
) -> sqlx::Result<()> {
    let now = unix_millis();
    for (range, text) in INSERT_MEMBERS.exact(users.len()) {
        let mut query = sqlx::query(AssertSqlSafe(text));
        for user in &users[range] {
            query = query
                .bind(group.key())
                .bind(user.as_str())
                .bind(now)
                .bind(history.join_seq.0)
                .bind(history.floor.0);
        }
        query.execute(&mut *tx).await?;
    }
    Ok(())
}
