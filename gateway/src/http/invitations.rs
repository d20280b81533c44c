//! `/api/invitations` and `/api/settings`: who may add the caller to groups, and the invitations of the others.

use serde::{Deserialize, Serialize};
use shared::conversation::Conversation;
use shared::mysql::groups::{self, Invitation};
use shared::mysql::user_settings;
use shared::permission::GroupAdds;

use super::answer::{Answer, done, json};
use super::call::Call;
use super::groups::group;
use super::paging::{cursor, limit, truncate};
use super::refusals::{method_not_allowed, not_found};
use crate::wire::api_error::ApiError;
use crate::wire::denied;

pub(super) async fn route(path: &[&str], call: Call) -> Answer {
    match (call.method(), path) {
        ("GET", []) => list(call).await,
        ("POST", [id]) => accept(&group(id)?, call).await,
        ("DELETE", [id]) => {
            let declined = groups::decline(&call.deps.pool, &group(id)?, call.user()?).await;
            if declined.map_err(|e| ApiError::database(&e))? { done() } else { Err(denied::no_invitation()) }
        }
        (_, []) => Err(method_not_allowed("GET")),
        (_, [_]) => Err(method_not_allowed("POST, DELETE")),
        _ => Err(not_found()),
    }
}

async fn accept(group: &Conversation, call: Call) -> Answer {
    let user = call.user()?;
    if !call.is_operator() {
        call.deps.quotas.accept(user).await?;
    }
    call.deps.changes.accept(group, user).await?;
    done()
}

#[derive(Serialize)]
struct Invitations {
    invitations: Vec<Invitation>,
    /// The cursor of the next page; absent on the last page.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<String>,
}

async fn list(call: Call) -> Answer {
    let (cursor, limit) = (cursor(&call), limit(&call)?);
    let listed = groups::invitations_of(&call.deps.pool, call.user()?, &cursor, u32::from(limit) + 1).await;
    let mut invitations = listed.map_err(|e| ApiError::database(&e))?;
    let next_cursor = truncate(&mut invitations, limit, |invitation| invitation.conversation_id.clone());
    json(&Invitations { invitations, next_cursor })
}

pub(super) async fn route_settings(path: &[&str], call: Call) -> Answer {
    match (call.method(), path) {
        ("GET", []) => show_settings(call).await,
        ("PATCH", []) => update_settings(call).await,
        (_, []) => Err(method_not_allowed("GET, PATCH")),
        _ => Err(not_found()),
    }
}

#[derive(Serialize)]
struct Settings {
    group_adds: GroupAdds,
}

async fn show_settings(call: Call) -> Answer {
    let found = user_settings::group_adds(&call.deps.pool, call.user()?).await;
    json(&Settings { group_adds: found.map_err(|e| ApiError::database(&e))? })
}

#[derive(Deserialize)]
struct Patch {
    group_adds: Option<GroupAdds>,
}

async fn update_settings(call: Call) -> Answer {
    let user = call.user()?.clone();
    let Patch { group_adds } = call.json().await?;
    let adds = group_adds.ok_or_else(|| {
        ApiError::malformed("nothing to change: send group_adds, which is everyone, contacts or nobody")
    })?;
    user_settings::set_group_adds(&call.deps.pool, &user, adds).await.map_err(|e| ApiError::database(&e))?;
    done()
}
