//! Changes of groups: each is one transaction that checks the caller's right, changes the rows, and raises the access
//! version (see [`access`](super::access)). Nothing is told to anyone here.

use std::sync::{Arc, LazyLock};

use ahash::AHashMap;
use sqlx::{AssertSqlSafe, Row as _};

use super::access;
use super::conversations::Head;
use super::members::{Access, Role};
use super::shapes::Shapes;
use super::transaction::{TxError, is_duplicate_key};
use super::{Pool, Tx, run_tx};
use crate::conversation::Conversation;
use crate::ids::{Seq, UserId, unix_millis};

/// Members added by one call.
pub const ADDED_MAX: usize = 1_000;
/// Characters of a group's name.
pub const NAME_CHARS_MAX: usize = 128;
/// How long the head of a group that is no longer large is merged into syncs: longer than any inbox lives, so that every
/// cursor that was handed out while it was large is past it.
const LARGE_LINGERS_MS: i64 = 8 * 86_400_000;

/// Who asks for a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Actor {
    /// The operator's own server: may do everything.
    Operator,
    /// A user: may do what its role allows.
    User(UserId),
}

/// From how many members on a group gets no inbox entries.
#[derive(Debug, Clone, Copy)]
pub struct Sizes {
    /// A group with more members is large. It is small again below nine tenths of this, so that one who comes and goes
    /// does not switch it each time.
    pub large_above: u32,
    /// Most members of a group.
    pub members_max: u32,
}

/// Why a change was not made.
#[derive(Debug, thiserror::Error)]
pub enum GroupError {
    /// There is none of that name, or it was dismissed.
    #[error("there is no such group")]
    NoGroup,
    /// The name is taken.
    #[error("there is a group of that name already: choose another conversation_id")]
    Exists,
    /// The caller is not in the group.
    #[error("you are not a member of this group")]
    NotMember,
    /// The caller's role does not allow it.
    #[error("{0}")]
    NotAllowed(&'static str),
    /// The user that the change is about is not in the group.
    #[error("this user is not a member of the group")]
    NoSuchMember,
    /// It would have too many members.
    #[error("a group has at most {0} members")]
    Full(u32),
    /// As the database says.
    #[error(transparent)]
    Sql(#[from] sqlx::Error),
}

impl TxError for GroupError {
    fn sql(&self) -> Option<&sqlx::Error> {
        match self {
            Self::Sql(error) => Some(error),
            _ => None,
        }
    }
}

/// A change that was made. Whoever applies changes in the order of their versions knows the group.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changed {
    /// The version since then; `None` if nothing had to be changed.
    pub version: Option<u64>,
    /// Members that came, all with the plain role and not muted.
    pub joined: Vec<UserId>,
    /// The last number when they came.
    pub joined_seq: Seq,
    /// Where the history that they see begins: nothing at or below is shown to them.
    pub joined_floor: Seq,
    /// Members that went.
    pub left: Vec<UserId>,
    /// As in [`GroupAccess::merges_head`], if members came or went.
    pub merges_head: bool,
}

/// A group as its members see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// What it is called; may be empty.
    pub name: String,
    /// Whoever uses it joins.
    pub is_open: bool,
    /// Only owner and admins may send.
    pub is_muted: bool,
    /// It is no more.
    pub is_dismissed: bool,
    /// New members see what came before them.
    pub history_from_start: bool,
    /// How many are in it.
    pub members: u32,
    /// Gets no inbox entries.
    pub is_large: bool,
    /// When it was made, in milliseconds since 1970.
    pub created_at: i64,
}

const GROUP: &str = "SELECT name, is_open, is_muted, is_dismissed, history_from_start, members, is_large, created_at \
                     FROM chat_group WHERE group_id = ?";

fn group_from_row(row: &sqlx::mysql::MySqlRow) -> sqlx::Result<Group> {
    Ok(Group {
        name: row.try_get(0)?,
        is_open: row.try_get(1)?,
        is_muted: row.try_get(2)?,
        is_dismissed: row.try_get(3)?,
        history_from_start: row.try_get(4)?,
        members: row.try_get(5)?,
        is_large: row.try_get(6)?,
        created_at: row.try_get(7)?,
    })
}

/// The group; `None` if there is none of that name.
///
/// # Errors
/// As the database says.
pub async fn find(pool: &Pool, group: &Conversation) -> sqlx::Result<Option<Group>> {
    let row = sqlx::query(GROUP).bind(group.key()).fetch_optional(pool).await?;
    row.as_ref().map(group_from_row).transpose()
}

/// What is wanted of a new group.
#[derive(Debug, Clone)]
pub struct NewGroup {
    /// What it is called; may be empty.
    pub name: String,
    /// `None`: nobody is (only the operator may change it then).
    pub owner: Option<UserId>,
    /// Others, each once.
    pub members: Vec<UserId>,
    /// New members see what came before them.
    pub history_from_start: bool,
    /// Whoever uses it joins.
    pub is_open: bool,
}

/// Makes a group.
///
/// # Errors
/// [`GroupError::Exists`], [`GroupError::Full`] or the database's.
pub async fn create(
    pool: &Pool,
    group: &Conversation,
    new: NewGroup,
    sizes: Sizes,
) -> Result<Changed, GroupError> {
    let mut all = new.members.clone();
    all.extend(new.owner.clone());
    all.sort_unstable();
    all.dedup();
    change(pool, group, "create group", sizes, move |tx, group, head| {
        let (new, all) = (new.clone(), all.clone());
        Box::pin(async move {
            if locked(tx, group).await?.is_some() {
                return Err(GroupError::Exists);
            }
            sqlx::query(
                "INSERT INTO chat_group (group_id, is_open, created_at, name, history_from_start) VALUES (?, ?, ?, ?, ?)",
            )
            .bind(group.key())
            .bind(new.is_open)
            .bind(unix_millis())
            .bind(&new.name)
            .bind(new.history_from_start)
            .execute(&mut *tx)
            .await
            // An earlier version makes groups without locking anything first.
            .map_err(|error| if is_duplicate_key(&error) { GroupError::Exists } else { error.into() })?;
            insert_members(tx, group, &all, head.last_seq, Seq::ZERO).await?;
            if let Some(owner) = &new.owner {
                set_role(tx, group, owner, Role::Owner).await?;
            }
            Ok(Some(Difference { joined: all, joined_seq: head.last_seq, ..Difference::default() }))
        })
    })
    .await
}

/// Makes an open group if there is none of that name.
///
/// # Errors
/// As the database says.
pub async fn create_open(pool: &Pool, group: &Conversation, sizes: Sizes) -> Result<Changed, GroupError> {
    let new = NewGroup {
        name: String::new(),
        owner: None,
        members: Vec::new(),
        history_from_start: true,
        is_open: true,
    };
    match create(pool, group, new, sizes).await {
        Err(GroupError::Exists) => Ok(Changed::default()),
        made => made,
    }
}

/// What is to become of a group; what is `None` stays.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Update {
    /// Another name.
    pub name: Option<String>,
    /// Whether only owner and admins may send.
    pub is_muted: Option<bool>,
    /// Whether new members see what came before them.
    pub history_from_start: Option<bool>,
}

/// Changes what a group is like: for the owner and admins.
///
/// # Errors
/// [`GroupError`].
pub async fn update(
    pool: &Pool,
    group: &Conversation,
    by: &Actor,
    update: Update,
    sizes: Sizes,
) -> Result<Changed, GroupError> {
    let by = by.clone();
    change(pool, group, "update group", sizes, move |tx, group, _| {
        let (by, update) = (by.clone(), update.clone());
        Box::pin(async move {
            existing(tx, group).await?;
            require_role(tx, group, &by, Role::Admin, "only the owner and admins change a group").await?;
            sqlx::query(
                "UPDATE chat_group SET name = COALESCE(?, name), is_muted = COALESCE(?, is_muted), \
                 history_from_start = COALESCE(?, history_from_start) WHERE group_id = ?",
            )
            .bind(&update.name)
            .bind(update.is_muted)
            .bind(update.history_from_start)
            .bind(group.key())
            .execute(&mut *tx)
            .await?;
            Ok(Some(Difference::default()))
        })
    })
    .await
}

/// Ends a group for ever: for the owner. Nobody is a member afterwards; what was said stays stored.
///
/// # Errors
/// [`GroupError`].
pub async fn dismiss(
    pool: &Pool,
    group: &Conversation,
    by: &Actor,
    sizes: Sizes,
) -> Result<Changed, GroupError> {
    let by = by.clone();
    change(pool, group, "dismiss group", sizes, move |tx, group, _| {
        let by = by.clone();
        Box::pin(async move {
            existing(tx, group).await?;
            require_role(tx, group, &by, Role::Owner, "only the owner dismisses a group").await?;
            let left: Vec<String> = sqlx::query_scalar("SELECT user_id FROM group_member WHERE group_id = ?")
                .bind(group.key())
                .fetch_all(&mut *tx)
                .await?;
            sqlx::query("DELETE FROM group_member WHERE group_id = ?")
                .bind(group.key())
                .execute(&mut *tx)
                .await?;
            sqlx::query("UPDATE chat_group SET is_dismissed = TRUE WHERE group_id = ?")
                .bind(group.key())
                .execute(&mut *tx)
                .await?;
            let left = left.iter().filter_map(|id| UserId::parse(id).ok()).collect();
            Ok(Some(Difference { left, ..Difference::default() }))
        })
    })
    .await
}

/// Adds users (at most [`ADDED_MAX`]): for the owner and admins. Who is in already stays as it is.
///
/// # Errors
/// [`GroupError`].
pub async fn add(
    pool: &Pool,
    group: &Conversation,
    by: &Actor,
    users: &[UserId],
    sizes: Sizes,
) -> Result<Changed, GroupError> {
    let (by, mut users) = (by.clone(), users.to_vec());
    users.sort_unstable();
    users.dedup();
    change(pool, group, "add members", sizes, move |tx, group, head| {
        let (by, users) = (by.clone(), users.clone());
        Box::pin(async move {
            let found = existing(tx, group).await?;
            require_role(tx, group, &by, Role::Admin, "only the owner and admins add members").await?;
            join_all(tx, group, &found, users, head).await
        })
    })
    .await
}

/// `user` joins an open group.
///
/// # Errors
/// [`GroupError::NotAllowed`] if it is not open.
pub async fn join(
    pool: &Pool,
    group: &Conversation,
    user: &UserId,
    sizes: Sizes,
) -> Result<Changed, GroupError> {
    let user = user.clone();
    change(pool, group, "join group", sizes, move |tx, group, head| {
        let user = user.clone();
        Box::pin(async move {
            let found = existing(tx, group).await?;
            if !found.is_open {
                return Err(GroupError::NotAllowed("this group is not open: ask to be added"));
            }
            join_all(tx, group, &found, vec![user], head).await
        })
    })
    .await
}

async fn join_all(
    tx: &mut Tx,
    group: &Conversation,
    found: &Group,
    mut users: Vec<UserId>,
    head: Head,
) -> Result<Option<Difference>, GroupError> {
    let there = roles(tx, group, &users).await?;
    users.retain(|user| !there.iter().any(|(member, _)| member == user));
    if users.is_empty() {
        return Ok(None);
    }
    let joined_floor = if found.history_from_start { Seq::ZERO } else { head.last_seq };
    insert_members(tx, group, &users, head.last_seq, joined_floor).await?;
    Ok(Some(Difference { joined: users, joined_seq: head.last_seq, joined_floor, left: Vec::new() }))
}

/// Removes a member, or lets `user` leave: members leave, admins remove members, the owner removes everyone else.
///
/// # Errors
/// [`GroupError`].
pub async fn remove(
    pool: &Pool,
    group: &Conversation,
    by: &Actor,
    user: &UserId,
    sizes: Sizes,
) -> Result<Changed, GroupError> {
    let (by, user) = (by.clone(), user.clone());
    change(pool, group, "remove member", sizes, move |tx, group, _| {
        let (by, user) = (by.clone(), user.clone());
        Box::pin(async move {
            existing(tx, group).await?;
            let own = role_of_actor(tx, group, &by).await?;
            let its = role_of(tx, group, &user).await?.ok_or(GroupError::NoSuchMember)?;
            let leaves = by == Actor::User(user.clone());
            if leaves && its == Role::Owner {
                return Err(GroupError::NotAllowed(
                    "hand the group over (PATCH a member's role to owner) or dismiss it before you leave",
                ));
            }
            if !leaves && by != Actor::Operator && own <= its {
                return Err(GroupError::NotAllowed("only someone with a higher role removes this member"));
            }
            sqlx::query("DELETE FROM group_member WHERE group_id = ? AND user_id = ?")
                .bind(group.key())
                .bind(user.as_str())
                .execute(&mut *tx)
                .await?;
            Ok(Some(Difference { left: vec![user], ..Difference::default() }))
        })
    })
    .await
}

/// What is to become of a member; what is `None` stays.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MemberUpdate {
    /// Another role: for the owner. A new owner makes the old one an admin.
    pub role: Option<Role>,
    /// Until when it may not send, in milliseconds since 1970; 0 lets it speak again.
    pub muted_until: Option<i64>,
}

/// Changes a member's role, or mutes it: for someone with a higher role.
///
/// # Errors
/// [`GroupError`].
pub async fn update_member(
    pool: &Pool,
    group: &Conversation,
    by: &Actor,
    user: &UserId,
    update: MemberUpdate,
    sizes: Sizes,
) -> Result<Changed, GroupError> {
    let (by, user) = (by.clone(), user.clone());
    change(pool, group, "update member", sizes, move |tx, group, _| {
        let (by, user) = (by.clone(), user.clone());
        Box::pin(async move {
            existing(tx, group).await?;
            let own = role_of_actor(tx, group, &by).await?;
            let its = role_of(tx, group, &user).await?.ok_or(GroupError::NoSuchMember)?;
            let operator = by == Actor::Operator;
            if let Some(role) = update.role.filter(|role| *role != its) {
                if own != Role::Owner {
                    return Err(GroupError::NotAllowed("only the owner gives roles"));
                }
                if its == Role::Owner {
                    return Err(GroupError::NotAllowed("make someone else the owner instead"));
                }
                if role == Role::Owner {
                    sqlx::query("UPDATE group_member SET role = ? WHERE group_id = ? AND role = ?")
                        .bind(Role::Admin.stored())
                        .bind(group.key())
                        .bind(Role::Owner.stored())
                        .execute(&mut *tx)
                        .await?;
                }
                set_role(tx, group, &user, role).await?;
            }
            if let Some(until) = update.muted_until {
                if own <= its && !operator {
                    return Err(GroupError::NotAllowed("only someone with a higher role mutes this member"));
                }
                sqlx::query("UPDATE group_member SET muted_until = ? WHERE group_id = ? AND user_id = ?")
                    .bind(until)
                    .bind(group.key())
                    .bind(user.as_str())
                    .execute(&mut *tx)
                    .await?;
            }
            Ok(Some(Difference::default()))
        })
    })
    .await
}

/// What a change did to the list of members.
#[derive(Debug, Clone, Default)]
struct Difference {
    joined: Vec<UserId>,
    joined_seq: Seq,
    joined_floor: Seq,
    left: Vec<UserId>,
}

type ChangeFuture<'t> =
    std::pin::Pin<Box<dyn Future<Output = Result<Option<Difference>, GroupError>> + Send + 't>>;

/// Locks the conversation, runs `body`, and, if it changed something, counts the members and raises the version.
async fn change<F>(
    pool: &Pool,
    group: &Conversation,
    name: &'static str,
    sizes: Sizes,
    body: F,
) -> Result<Changed, GroupError>
where
    F: for<'t> Fn(&'t mut Tx, &'t Conversation, Head) -> ChangeFuture<'t> + Send + Sync + 'static,
{
    let body = Arc::new(body);
    run_tx(pool, name, |tx| {
        let (group, body) = (group.clone(), Arc::clone(&body));
        Box::pin(async move {
            let head = access::lock(tx, &group).await?;
            let Some(difference) = body(tx, &group, head).await? else { return Ok(Changed::default()) };
            let mut merges_head = false;
            if !difference.joined.is_empty() || !difference.left.is_empty() {
                merges_head = count_members(tx, &group, sizes).await?;
            }
            let version = access::raise(tx, &group, head).await?;
            let Difference { joined, joined_seq, joined_floor, left } = difference;
            Ok(Changed { version: Some(version), joined, joined_seq, joined_floor, left, merges_head })
        })
    })
    .await
}

/// Counts anew, which heals whatever went wrong before, and switches between large and small. Returns
/// whether its head is to be merged into syncs.
async fn count_members(tx: &mut Tx, group: &Conversation, sizes: Sizes) -> Result<bool, GroupError> {
    let members: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM group_member WHERE group_id = ?")
        .bind(group.key())
        .fetch_one(&mut *tx)
        .await?;
    let members = u32::try_from(members).unwrap_or(u32::MAX);
    if members > sizes.members_max {
        return Err(GroupError::Full(sizes.members_max));
    }
    let was_large = locked(tx, group).await?.is_some_and(|found| found.is_large);
    let is_large = match was_large {
        true => u64::from(members) * 10 >= u64::from(sizes.large_above) * 9,
        false => members > sizes.large_above,
    };
    sqlx::query(
        "UPDATE chat_group SET members = ?, is_large = ?, large_until = IF(?, ?, large_until) WHERE group_id = ?",
    )
    .bind(members)
    .bind(is_large)
    .bind(was_large && !is_large)
    .bind(unix_millis() + LARGE_LINGERS_MS)
    .bind(group.key())
    .execute(&mut *tx)
    .await?;
    let merges: Option<bool> =
        sqlx::query_scalar("SELECT is_large OR large_until > ? FROM chat_group WHERE group_id = ?")
            .bind(unix_millis())
            .bind(group.key())
            .fetch_optional(&mut *tx)
            .await?;
    Ok(merges.unwrap_or(false))
}

async fn locked(tx: &mut Tx, group: &Conversation) -> sqlx::Result<Option<Group>> {
    let row = sqlx::query(GROUP).bind(group.key()).fetch_optional(&mut *tx).await?;
    row.as_ref().map(group_from_row).transpose()
}

async fn existing(tx: &mut Tx, group: &Conversation) -> Result<Group, GroupError> {
    locked(tx, group).await?.filter(|found| !found.is_dismissed).ok_or(GroupError::NoGroup)
}

async fn role_of_actor(tx: &mut Tx, group: &Conversation, actor: &Actor) -> Result<Role, GroupError> {
    match actor {
        Actor::Operator => Ok(Role::Owner),
        Actor::User(user) => role_of(tx, group, user).await?.ok_or(GroupError::NotMember),
    }
}

async fn role_of(tx: &mut Tx, group: &Conversation, user: &UserId) -> sqlx::Result<Option<Role>> {
    Ok(roles(tx, group, std::slice::from_ref(user)).await?.first().map(|(_, role)| *role))
}

async fn require_role(
    tx: &mut Tx,
    group: &Conversation,
    actor: &Actor,
    least: Role,
    why: &'static str,
) -> Result<(), GroupError> {
    if role_of_actor(tx, group, actor).await? < least {
        return Err(GroupError::NotAllowed(why));
    }
    Ok(())
}

static ROLES: LazyLock<Shapes> = LazyLock::new(|| {
    Shapes::new("SELECT user_id, role FROM group_member WHERE group_id = ? AND user_id IN (", "?", ",", ")")
});

/// Those of `users` who are members, with their roles.
async fn roles(tx: &mut Tx, group: &Conversation, users: &[UserId]) -> sqlx::Result<Vec<(UserId, Role)>> {
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

async fn set_role(tx: &mut Tx, group: &Conversation, user: &UserId, role: Role) -> sqlx::Result<()> {
    sqlx::query("UPDATE group_member SET role = ? WHERE group_id = ? AND user_id = ?")
        .bind(role.stored())
        .bind(group.key())
        .bind(user.as_str())
        .execute(&mut *tx)
        .await
        .map(drop)
}

static INSERT_MEMBERS: LazyLock<Shapes> = LazyLock::new(|| {
    Shapes::new(
        "INSERT INTO group_member (group_id, user_id, join_time, join_seq, floor_seq) VALUES ",
        "(?,?,?,?,?)",
        ",",
        " ON DUPLICATE KEY UPDATE group_id = group_member.group_id",
    )
});

/// Adds `users`, which are sorted; nothing changes for those who are in already.
async fn insert_members(
    tx: &mut Tx,
    group: &Conversation,
    users: &[UserId],
    join_seq: Seq,
    floor: Seq,
) -> sqlx::Result<()> {
    let now = unix_millis();
    for (range, text) in INSERT_MEMBERS.exact(users.len()) {
        let mut query = sqlx::query(AssertSqlSafe(text));
        for user in &users[range] {
            query = query.bind(group.key()).bind(user.as_str()).bind(now).bind(join_seq.0).bind(floor.0);
        }
        query.execute(&mut *tx).await?;
    }
    Ok(())
}

/// What members of a group may do: those of `users` who are in it, as the group is now.
///
/// # Errors
/// As the database says.
pub async fn accesses(
    pool: &Pool,
    group: &Conversation,
    users: &[UserId],
) -> sqlx::Result<(GroupAccess, Vec<(UserId, Access)>)> {
    // In this order: what is read about members is at least as new as the version.
    let row = sqlx::query(
        "SELECT c.access_version, g.is_muted, g.is_dismissed, g.is_large OR g.large_until > ? FROM chat_group g \
         LEFT JOIN conversation c ON c.conversation_id = g.group_id WHERE g.group_id = ?",
    )
    .bind(unix_millis())
    .bind(group.key())
    .fetch_optional(pool)
    .await?;
    let Some(row) = row else { return Ok((GroupAccess::default(), Vec::new())) };
    let version: Option<u64> = row.try_get(0)?;
    let version = version.unwrap_or(0);
    let about = GroupAccess { version, is_muted: row.try_get(1)?, merges_head: row.try_get(3)? };
    if row.try_get::<bool, _>(2)? {
        return Ok((about, Vec::new()));
    }
    let ids: Vec<[&str; 1]> = users.iter().map(|user| [user.as_str()]).collect();
    let by_id: AHashMap<&str, &UserId> = users.iter().map(|user| (user.as_str(), user)).collect();
    let mut found = Vec::new();
    for row in ACCESSES.select_from(pool, Some(group.key()), &ids).await? {
        let id: &str = row.try_get(0)?;
        if let Some(user) = by_id.get(id) {
            found.push(((*user).clone(), Access::from_row(&row, 1)?));
        }
    }
    Ok((about, found))
}

static ACCESSES: LazyLock<Shapes> = LazyLock::new(|| {
    Shapes::new(
        "SELECT user_id, role, muted_until, join_seq, floor_seq FROM group_member WHERE group_id = ? AND user_id IN (",
        "?",
        ",",
        ")",
    )
});

/// What holds for all members of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct GroupAccess {
    /// As of this version.
    pub version: u64,
    /// Only owner and admins may send.
    pub is_muted: bool,
    /// It is, or was lately, too large for inboxes.
    pub merges_head: bool,
}
