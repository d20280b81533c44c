//! `/api/admin`: for the operator alone.

use serde::{Deserialize, Serialize};
use shared::ids::UserId;

use super::answer::{Answer, json};
use super::api::{only, unknown};
use super::call::Call;

pub(super) async fn route(path: &[&str], call: Call) -> Answer {
    // Before anything else: a stranger learns nothing about these paths.
    call.operator()?;
    match (call.method(), path) {
        ("POST", ["tokens"]) => mint(call).await,
        (_, ["tokens"]) => Err(only("POST")),
        _ => Err(unknown()),
    }
}

#[derive(Deserialize)]
struct Mint {
    user_id: UserId,
    ttl_s: Option<u64>,
}

/// A token and its end, in milliseconds since 1970.
#[derive(Serialize)]
pub(super) struct Minted {
    pub(super) token: String,
    pub(super) expires_at: i64,
}

/// An app's own server makes tokens for its users.
async fn mint(call: Call) -> Answer {
    let request: Mint = call.json().await?;
    let (token, expires_at) = call.services.tokens.mint(&request.user_id, request.ttl_s)?;
    json(&Minted { token, expires_at })
}
