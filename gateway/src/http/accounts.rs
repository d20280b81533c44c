//! `/api/register`, `/api/login`, `/api/logout`: the built-in accounts.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use shared::ids::UserId;

use super::answer::{Answer, json};
use super::call::Call;
use super::refusals::{method_not_allowed, not_found};
use crate::auth::accounts::Accounts;
use crate::wire::api_error::ApiError;

pub(super) async fn route(path: &[&str], call: Call) -> Answer {
    match (call.method(), path) {
        ("POST", ["register"]) => register(call).await,
        ("POST", ["login"]) => log_in(call).await,
        ("POST", ["logout"]) => log_out(call).await,
        (_, ["register" | "login" | "logout"]) => Err(method_not_allowed("POST")),
        _ => Err(not_found()),
    }
}

// No Debug, since it would show the password.
#[derive(Deserialize)]
struct Register {
    user_id: UserId,
    password: String,
    nickname: Option<String>,
}

#[derive(Deserialize)]
struct LogIn {
    user_id: UserId,
    password: String,
}

/// A token, and its expiry in milliseconds since 1970.
#[derive(Serialize)]
struct Token {
    token: String,
    expires_at: i64,
}

/// Tokens that were issued up to this time, in milliseconds since 1970, are revoked.
#[derive(Serialize)]
struct LoggedOut {
    not_before: i64,
}

async fn register(call: Call) -> Answer {
    let accounts = accounts(&call)?;
    let Register { user_id, password, nickname } = call.json_of_anyone().await?;
    check_rate(&call, &accounts, &user_id)?;
    let nickname = nickname.unwrap_or_else(|| user_id.as_str().to_owned());
    accounts.register(&user_id, password, &nickname).await?;
    token(&call, &user_id, None)
}

async fn log_in(call: Call) -> Answer {
    let accounts = accounts(&call)?;
    let LogIn { user_id, password } = call.json_of_anyone().await?;
    check_rate(&call, &accounts, &user_id)?;
    accounts.check(&user_id, password).await?;
    token(&call, &user_id, None)
}

/// Ends the tokens of all devices of the user.
async fn log_out(call: Call) -> Answer {
    revoke(&call, call.user()?).await
}

/// Revokes all tokens of `user`.
pub(super) async fn revoke(call: &Call, user: &UserId) -> Answer {
    json(&LoggedOut { not_before: call.deps.revocations.revoke(user).await? })
}

/// Responds with a new token for `user`.
pub(super) fn token(call: &Call, user: &UserId, ttl_s: Option<u64>) -> Answer {
    let (token, expires_at) = call.deps.tokens.mint(user, ttl_s)?;
    json(&Token { token, expires_at })
}

/// Applies the rate limits of logins. The operator is exempt: its server logs in many users from one address.
fn check_rate(call: &Call, accounts: &Accounts, user: &UserId) -> Result<(), ApiError> {
    if call.is_operator() { Ok(()) } else { accounts.check_rate(user, call.network()) }
}

/// 404 if accounts are disabled.
fn accounts(call: &Call) -> Result<Arc<Accounts>, ApiError> {
    call.deps.accounts.clone().ok_or_else(not_found)
}
