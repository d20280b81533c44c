//! `/api/admin`: calls of the operator.

use serde::Deserialize;
use shared::ids::UserId;

use super::accounts::{reset_password, revoke, token};
use super::answer::Answer;
use super::call::{self, Call};
use super::refusals::{method_not_allowed, not_found};
use super::users;
use crate::wire::number;

pub(super) async fn route(path: &[&str], call: Call) -> Answer {
    // First, so that other callers learn nothing about these paths.
    call.operator()?;
    match (call.method(), path) {
        ("POST", ["tokens"]) => mint(call).await,
        ("POST", ["users", user, "revoke"]) => revoke(&call, &call::user(user)?).await,
        ("PUT", ["users", user, "password"]) => Box::pin(reset_password(&call, &call::user(user)?)).await,
        ("PUT", ["users", user]) => users::replace(&call::user(user)?, call).await,
        (_, ["users", _, "password"]) => Err(method_not_allowed("PUT")),
        (_, ["tokens"] | ["users", _, "revoke"]) => Err(method_not_allowed("POST")),
        (_, ["users", _]) => Err(method_not_allowed("PUT")),
        _ => Err(not_found()),
    }
}

#[derive(Deserialize)]
struct Mint {
    user_id: UserId,
    #[serde(default, deserialize_with = "number::optional")]
    ttl_s: Option<u64>,
}

/// Issues a token for any user.
async fn mint(call: Call) -> Answer {
    let request: Mint = call.json().await?;
    token(&call, &request.user_id, request.ttl_s)
}
