//! `/api/admin`: calls of the operator.

use serde::Deserialize;
use shared::ids::UserId;

use super::accounts::{reset_password, revoke, token};
use super::answer::{self, Answer};
use super::call::{self, Call};
use super::refusals::{method_not_allowed, not_found};
use super::{feed, users, webhooks};
use crate::wire::api_error::ApiError;
use crate::wire::number;
use crate::wire::retry_delay::RetryDelay;

pub(super) async fn route(path: &[&str], call: Call) -> Answer {
    // First, so that other callers learn nothing about these paths.
    call.operator()?;
    match (call.method(), path) {
        ("POST", ["tokens"]) => mint(call).await,
        ("POST", ["users", user, "revoke"]) => revoke(&call, &call::user(user)?).await,
        ("PUT", ["users", user, "password"]) => Box::pin(reset_password(&call, &call::user(user)?)).await,
        ("PUT", ["users", user]) => users::replace(&call::user(user)?, call).await,
        ("GET", ["processes"]) => processes(&call).await,
        (_, ["feed", rest @ ..]) => feed::route(rest, call).await,
        (_, ["webhooks", rest @ ..]) => Box::pin(webhooks::route(rest, call)).await,
        (_, ["processes"]) => Err(method_not_allowed("GET")),
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

/// All live gateways and workers with their metrics.
async fn processes(call: &Call) -> Answer {
    let report = call.deps.processes.report().await.map_err(|error| {
        ApiError::unavailable(
            format!("the list of processes cannot be read: {error}"),
            RetryDelay::StoreUnavailable,
        )
    })?;
    answer::json(&*report)
}
