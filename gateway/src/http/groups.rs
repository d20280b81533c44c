//! `/api/groups`: groups and their members.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use shared::conversation::{Conversation, Kind};
use shared::ids::{UNIX_MILLIS_MAX, UserId};
use shared::meta::Meta;
use shared::mysql::groups::{
    self, ADDED_MAX, CreateGroup, MemberUpdate, NAME_CHARS_MAX, NOTICE_BYTES_MAX, NewcomerHistory,
    UpdateGroup,
};
use shared::mysql::members::{self, ListedMember};
use shared::permission::{Actor, Denied, Role};

use super::answer::{Answer, done, json};
use super::call::{self, Call};
use super::paging::{cursor, limit, truncate};
use super::profile_fields::{Avatar, NULLABLE, avatar, check_avatar, meta};
use super::refusals::{method_not_allowed, not_found};
use crate::auth::caller::Caller;
use crate::features::Feature;
use crate::wire::api_error::ApiError;
use crate::wire::number;

/// Size limit of bodies with a list of users: 1,000 ids of up to 64 characters.
const BODY_BYTES_MAX: usize = 512 * 1024;

pub(super) async fn route(path: &[&str], call: Call) -> Answer {
    match (call.method(), path) {
        ("POST", []) => create(call).await,
        ("GET", [group]) => show(&self::group(group)?, call).await,
        ("PATCH", [group]) => update(&self::group(group)?, call).await,
        ("DELETE", [group]) => {
            call.deps.changes.dismiss(&self::group(group)?, &actor(&call)?).await?;
            done()
        }
        ("GET", [group, "members"]) => list(&self::group(group)?, call).await,
        ("POST", [group, "members"]) => add(&self::group(group)?, call).await,
        ("DELETE", [group, "members", user]) => {
            let user = call::user(user)?;
            call.deps.changes.remove(&self::group(group)?, &actor(&call)?, &user).await?;
            done()
        }
        ("PATCH", [group, "members", user]) => {
            update_member(&self::group(group)?, &call::user(user)?, call).await
        }
        (_, []) => Err(method_not_allowed("POST")),
        (_, [_]) => Err(method_not_allowed("GET, PATCH, DELETE")),
        (_, [_, "members"]) => Err(method_not_allowed("GET, POST")),
        (_, [_, "members", _]) => Err(method_not_allowed("DELETE, PATCH")),
        _ => Err(not_found()),
    }
}

pub(super) fn group(id: &str) -> Result<Conversation, ApiError> {
    Conversation::from_key(id)
        .ok()
        .filter(|conversation| conversation.kind() == Kind::Group)
        .ok_or_else(|| ApiError::malformed("a group's id is group_<name>, at most 64 characters"))
}

fn actor(call: &Call) -> Result<Actor, ApiError> {
    Ok(match call.caller()? {
        Caller::Operator(None) => Actor::Operator,
        Caller::Operator(Some(user)) | Caller::User(user) => Actor::User(user.clone()),
    })
}

/// The messages that new members see: all, or those after they joined.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum History {
    Start,
    Joining,
}

impl History {
    fn is_from_start(self) -> bool {
        matches!(self, Self::Start)
    }

    fn of(history: NewcomerHistory) -> Self {
        match history {
            NewcomerHistory::From(_) => Self::Start,
            NewcomerHistory::Joining => Self::Joining,
        }
    }
}

#[derive(Deserialize)]
struct Create {
    conversation_id: Option<String>,
    name: Option<String>,
    #[serde(default)]
    members: Vec<UserId>,
    history: Option<History>,
}

#[derive(Serialize)]
struct Created {
    conversation_id: String,
    /// Users who are asked first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    invited: Vec<UserId>,
}

#[derive(Serialize)]
struct Added {
    /// Users who are asked first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    invited: Vec<UserId>,
}

async fn create(call: Call) -> Answer {
    let owner = match actor(&call)? {
        Actor::Operator => None,
        Actor::User(user) => Some(user),
    };
    let request: Create = call.json_up_to(BODY_BYTES_MAX).await?;
    let id = request.conversation_id.unwrap_or_else(|| format!("group_{}", uuid::Uuid::now_v7().simple()));
    let conversation = group(&id)?;
    call.deps.settings.group_ids.check_group(&conversation).map_err(ApiError::malformed)?;
    let name = checked_name(request.name.unwrap_or_default())?;
    at_most_added(&request.members)?;
    let new = CreateGroup {
        name,
        owner,
        members: request.members,
        history_from_start: request.history.is_none_or(History::is_from_start),
        is_open: false,
    };
    if let (Some(owner), false) = (&new.owner, call.is_operator()) {
        call.deps.quotas.make_group(owner, &new.members).await?;
    }
    let invited = call.deps.changes.create(&conversation, new).await?;
    json(&Created { conversation_id: id, invited })
}

fn checked_name(name: String) -> Result<String, ApiError> {
    if name.chars().count() > NAME_CHARS_MAX || name.chars().any(char::is_control) {
        let rule = format!("name must be at most {NAME_CHARS_MAX} characters, without control characters");
        return Err(ApiError::Malformed(rule));
    }
    Ok(name)
}

fn at_most_added(users: &[UserId]) -> Result<(), ApiError> {
    if users.len() > ADDED_MAX {
        return Err(ApiError::Malformed(format!("at most {ADDED_MAX} users at once: send several calls")));
    }
    Ok(())
}

#[derive(Serialize)]
struct GroupView {
    conversation_id: String,
    name: String,
    members: u32,
    muted: bool,
    history: History,
    open: bool,
    created_at: i64,
    /// Absent if profiles are switched off.
    #[serde(flatten)]
    details: Option<Details>,
    /// The role of the caller; absent for the operator.
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<Role>,
}

/// What a group shows beside its name.
#[derive(Serialize)]
struct Details {
    /// A file; `null`: none.
    avatar: Option<String>,
    notice: String,
    meta: Meta,
}

async fn show(group: &Conversation, call: Call) -> Answer {
    let role = require_member(group, &call).await?;
    let row = groups::find(&call.deps.pool, group).await.map_err(|e| ApiError::database(&e))?;
    let row = row.filter(|row| !row.is_dismissed).ok_or(Denied::NoGroup)?;
    let has_details = call.deps.connections.settings.features.is_on(Feature::Profiles);
    json(&GroupView {
        conversation_id: group.wire().into_owned(),
        name: row.name,
        members: row.members,
        muted: row.is_muted,
        history: History::of(row.newcomer_history),
        open: row.is_open,
        created_at: row.created_at,
        details: has_details.then_some(Details { avatar: row.avatar, notice: row.notice, meta: row.meta }),
        role,
    })
}

/// Refuses users who are not members. Returns the member's role, `None` for the operator.
async fn require_member(group: &Conversation, call: &Call) -> Result<Option<Role>, ApiError> {
    match actor(call)? {
        Actor::Operator => Ok(None),
        Actor::User(user) => {
            let standing = call.deps.memberships.require(group, &user).await?;
            Ok(standing.relation.role())
        }
    }
}

#[derive(Deserialize)]
struct Patch {
    name: Option<String>,
    notice: Option<String>,
    meta: Option<Box<RawValue>>,
    #[serde(default, deserialize_with = "avatar")]
    avatar: Avatar,
    muted: Option<bool>,
    history: Option<History>,
}

async fn update(group: &Conversation, call: Call) -> Answer {
    let by = actor(&call)?;
    let request: Patch = call.json_with_null(&NULLABLE).await?;
    let has_details = request.notice.is_some() || request.meta.is_some() || request.avatar.is_some();
    if has_details {
        call.deps.connections.settings.features.require(Feature::Profiles)?;
    }
    let name = request.name.map(checked_name).transpose()?;
    let notice = request.notice.map(checked_notice).transpose()?;
    let meta = meta(request.meta)?;
    let history_from_start = request.history.map(History::is_from_start);
    if name.is_none() && !has_details && request.muted.is_none() && history_from_start.is_none() {
        return Err(ApiError::malformed(
            "nothing to change: send name, notice, avatar, meta, muted or history",
        ));
    }
    // Without a user, the operator names one of its own with X-User-Id.
    check_avatar(&request.avatar, call.user().ok(), &call).await?;
    let update = UpdateGroup {
        by: &by,
        name: name.as_deref(),
        notice: notice.as_deref(),
        meta: meta.as_ref(),
        avatar: request.avatar.as_ref().map(Option::as_ref),
        is_muted: request.muted,
        history_from_start,
    };
    call.deps.changes.update(group, update).await?;
    done()
}

fn checked_notice(notice: String) -> Result<String, ApiError> {
    if notice.len() > NOTICE_BYTES_MAX {
        let bytes = notice.len();
        return Err(ApiError::TooLarge(format!("notice has {bytes} bytes: send at most {NOTICE_BYTES_MAX}")));
    }
    Ok(notice)
}

#[derive(Serialize)]
struct Members {
    members: Vec<ListedMember>,
    /// The cursor of the next page; absent on the last page.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<String>,
}

async fn list(group: &Conversation, call: Call) -> Answer {
    let (cursor, limit) = (cursor(&call), limit(&call)?);
    require_member(group, &call).await?;
    let listed = members::list(&call.deps.pool, group, &cursor, u32::from(limit) + 1).await;
    let mut members = listed.map_err(|e| ApiError::database(&e))?;
    let next_cursor = truncate(&mut members, limit, |member| member.user_id.clone());
    json(&Members { members, next_cursor })
}

#[derive(Deserialize)]
struct Add {
    user_ids: Vec<UserId>,
}

async fn add(group: &Conversation, call: Call) -> Answer {
    let by = actor(&call)?;
    let Add { user_ids } = call.json_up_to(BODY_BYTES_MAX).await?;
    at_most_added(&user_ids)?;
    if user_ids.is_empty() {
        return Err(ApiError::malformed("user_ids is empty: name at least one user"));
    }
    if let (Actor::User(user), false) = (&by, call.is_operator()) {
        call.deps.quotas.add_members(user, &user_ids).await?;
    }
    json(&Added { invited: call.deps.changes.add(group, &by, &user_ids).await? })
}

#[derive(Deserialize)]
struct PatchMember {
    role: Option<Role>,
    #[serde(default, deserialize_with = "number::optional_capped")]
    muted_until: Option<i64>,
}

async fn update_member(group: &Conversation, user: &UserId, call: Call) -> Answer {
    let by = actor(&call)?;
    let PatchMember { role, muted_until } = call.json().await?;
    if role.is_none() && muted_until.is_none() {
        return Err(ApiError::malformed("nothing to change: send role or muted_until"));
    }
    if muted_until.is_some_and(|until| until < 0) {
        return Err(ApiError::malformed("muted_until must be milliseconds since 1970, or 0 to end the mute"));
    }
    // Many clients send their largest integer for a mute without an end.
    let muted_until = muted_until.map(|until| until.min(UNIX_MILLIS_MAX));
    call.deps.changes.update_member(group, &by, user, MemberUpdate { role, muted_until }).await?;
    done()
}
