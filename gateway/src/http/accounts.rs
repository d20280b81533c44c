//! `/api/register`, `/api/login`, `/api/logout`, and the passwords of the built-in accounts.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use shared::ids::UserId;
use shared::nickname::Nickname;

use super::answer::{Answer, json};
use super::call::Call;
use super::refusals::{method_not_allowed, not_found};
use crate::auth::accounts::Accounts;
use crate::auth::login_limits::Attempt;
use crate::wire::api_error::ApiError;

pub(super) async fn route(path: &[&str], call: Call) -> Answer {
    match (call.method(), path) {
        // Boxed: the futures of calls that hash are large.
        ("POST", ["register"]) => Box::pin(register(call)).await,
        ("POST", ["login"]) => Box::pin(log_in(call)).await,
        ("POST", ["logout"]) => log_out(call).await,
        ("PUT", ["users", "me", "password"]) => Box::pin(change_password(call)).await,
        (_, ["users", "me", "password"]) => Err(method_not_allowed("PUT")),
        (_, ["register" | "login" | "logout"]) => Err(method_not_allowed("POST")),
        _ => Err(not_found()),
    }
}

// No Debug, since it would show the password.
#[derive(Deserialize)]
struct Register {
    user_id: UserId,
    password: String,
    nickname: Option<Nickname>,
}

#[derive(Deserialize)]
struct LogIn {
    user_id: UserId,
    password: String,
}

#[derive(Deserialize)]
struct Change {
    old_password: String,
    new_password: String,
}

#[derive(Deserialize)]
struct Reset {
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
    let nickname = nickname.as_ref().map_or(user_id.as_str(), Nickname::as_str);
    accounts.register(attempt(&call, &user_id), password, nickname).await?;
    token(&call, &user_id, None)
}

async fn log_in(call: Call) -> Answer {
    let accounts = accounts(&call)?;
    let LogIn { user_id, password } = call.json_of_anyone().await?;
    let verified_at = accounts.log_in(attempt(&call, &user_id), password).await?;
    let (token, expires_at) = call.deps.tokens.mint_as_of(&user_id, None, verified_at)?;
    json(&Token { token, expires_at })
}

/// Ends the tokens of all devices of the user, and responds with a new one.
async fn change_password(call: Call) -> Answer {
    let accounts = accounts(&call)?;
    let user = call.user()?.clone();
    let Change { old_password, new_password } = call.json().await?;
    let not_before = accounts.change_password(attempt(&call, &user), old_password, new_password).await?;
    call.deps.revocations.revoked(&user, not_before);
    end_notifications(&call, &user).await;
    // A token of the millisecond of the revocation is revoked, too.
    tokio::time::sleep(Duration::from_millis(2)).await;
    token(&call, &user, None)
}

/// Sets the password of `user` for the operator.
pub(super) async fn reset_password(call: &Call, user: &UserId) -> Answer {
    let accounts = accounts(call)?;
    let Reset { password } = call.json().await?;
    let not_before = accounts.reset_password(user, password).await?;
    call.deps.revocations.revoked(user, not_before);
    end_notifications(call, user).await;
    json(&LoggedOut { not_before })
}

/// Ends the tokens of all devices of the user.
async fn log_out(call: Call) -> Answer {
    revoke(&call, call.user()?).await
}

/// Revokes all tokens of `user`.
pub(super) async fn revoke(call: &Call, user: &UserId) -> Answer {
    let not_before = call.deps.revocations.revoke(user).await?;
    end_notifications(call, user).await;
    json(&LoggedOut { not_before })
}

/// The devices of `user` are not notified any more: their tokens are revoked.
async fn end_notifications(call: &Call, user: &UserId) {
    if let Some(notifications) = &call.deps.notifications {
        notifications.logged_out(user).await;
    }
}

/// Responds with a new token for `user`.
pub(super) fn token(call: &Call, user: &UserId, ttl_s: Option<u64>) -> Answer {
    let (token, expires_at) = call.deps.tokens.mint(user, ttl_s)?;
    json(&Token { token, expires_at })
}

/// An attempt of the caller to guess a password.
fn attempt<'a>(call: &Call, user: &'a UserId) -> Attempt<'a> {
    Attempt { user, address: (!call.is_operator()).then(|| call.network()) }
}

/// 404 if accounts are disabled.
fn accounts(call: &Call) -> Result<Arc<Accounts>, ApiError> {
    call.deps.accounts.clone().ok_or_else(not_found)
}
