//! `/api/blocks` and `/api/presence`: the users that a user has blocked, and the presence of its contacts.

use serde::{Deserialize, Serialize};
use shared::ids::UserId;
use shared::mysql::{blocks, partners};

use super::answer::{Answer, done, json};
use super::call::{Call, user};
use super::paging::{cursor, limit, truncate};
use super::path;
use super::refusals::{method_not_allowed, not_found};
use crate::wire::api_error::ApiError;
use crate::wire::retry_delay::RetryDelay;

/// Most users that one call asks about.
const ASKED_USERS_MAX: usize = 100;

pub(super) async fn route_blocks(path: &[&str], call: Call) -> Answer {
    match (call.method(), path) {
        ("GET", []) => list(call).await,
        ("POST", []) => {
            let Block { user_id } = call.json().await?;
            set(&user_id, true, call).await
        }
        ("DELETE", [other]) => set(&user(other)?, false, call).await,
        (_, []) => Err(method_not_allowed("GET, POST")),
        (_, [_]) => Err(method_not_allowed("DELETE")),
        _ => Err(not_found()),
    }
}

#[derive(Deserialize)]
struct Block {
    user_id: UserId,
}

async fn set(other: &UserId, blocked: bool, call: Call) -> Answer {
    let me = call.user()?;
    if me == other {
        return Err(ApiError::malformed("user_id is your own id: you cannot block yourself"));
    }
    call.deps.changes.block(me, other, blocked).await?;
    done()
}

#[derive(Serialize)]
struct Blocks {
    user_ids: Vec<String>,
    /// The cursor of the next page; absent on the last page.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<String>,
}

async fn list(call: Call) -> Answer {
    let (cursor, limit) = (cursor(&call), limit(&call)?);
    let listed = blocks::blocked_by(&call.deps.pool, call.user()?, &cursor, u32::from(limit) + 1).await;
    let mut user_ids = listed.map_err(|e| ApiError::database(&e))?;
    let next_cursor = truncate(&mut user_ids, limit, String::clone);
    json(&Blocks { user_ids, next_cursor })
}

pub(super) async fn route_presence(path: &[&str], call: Call) -> Answer {
    match (call.method(), path) {
        ("GET" | "POST", []) => presence(asked_users(&call).await?, call).await,
        (_, []) => Err(method_not_allowed("GET, POST")),
        _ => Err(not_found()),
    }
}

#[derive(Deserialize)]
struct AskedUsers {
    user_ids: Vec<UserId>,
}

/// The users that a call asks about, by id: `GET` names them in the parameter `user_ids`, or each in a parameter `user`, also
/// one with a comma; `POST` names them in its body.
pub(super) async fn asked_users(call: &Call) -> Result<Vec<UserId>, ApiError> {
    let mut users: Vec<UserId> = if call.method() == "GET" {
        let ids = call.parameter("user_ids").unwrap_or_default();
        let listed = ids.split(',').filter(|id| !id.is_empty()).map(user);
        let named = call.parameters(path::USER).map(|id| user(&id));
        listed.chain(named).collect::<Result<_, _>>()?
    } else {
        call.json::<AskedUsers>().await?.user_ids
    };
    users.sort_unstable();
    users.dedup();
    if users.is_empty() || users.len() > ASKED_USERS_MAX {
        return Err(ApiError::malformed(
            "name 1 to 100 users: user_ids, separated by commas, or user for each",
        ));
    }
    Ok(users)
}

#[derive(Serialize)]
struct Presences {
    users: Vec<PresenceOf>,
}

#[derive(Serialize)]
struct PresenceOf {
    user_id: UserId,
    online: bool,
}

/// Strangers are left out, and users who have blocked the caller, whether they exist or not.
async fn presence(users: Vec<UserId>, call: Call) -> Answer {
    let me = call.user()?;
    let partners = partners::among(&call.deps.pool, me, &users).await;
    let partners = partners.map_err(|e| ApiError::database(&e))?;
    let online = call.deps.online.among(&partners).await.map_err(|error| {
        tracing::warn!(%error, "presence could not be read from Redis");
        ApiError::unavailable("presence is unavailable: try again", RetryDelay::StoreUnavailable)
    })?;
    let users = partners.into_iter().zip(online).map(|(user_id, online)| PresenceOf { user_id, online });
    json(&Presences { users: users.collect() })
}
