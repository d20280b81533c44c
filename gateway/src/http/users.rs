//! `/api/users`: what users show of themselves.
//!
//! Whoever is logged in may read all profiles; blocks do not matter. Nothing is cached, so that a change is seen at once on
//! every gateway.

use std::slice;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use shared::feed::FeedShards;
use shared::ids::UserId;
use shared::meta::Meta;
use shared::mysql::profiles::{self, Profile, ProfileUpdate};
use shared::nickname::Nickname;

use super::answer::{Answer, json_text, rendered};
use super::call::Call;
use super::people::asked_users;
use super::profile_fields::{Avatar, NULLABLE, avatar, check_avatar, meta, no_avatar};
use super::refusals::{method_not_allowed, not_found};
use crate::features::Feature;
use crate::wire::api_error::ApiError;

pub(super) async fn route(path: &[&str], call: Call) -> Answer {
    require_feature(&call)?;
    match (call.method(), path) {
        // By `POST` also ids that have a comma.
        ("GET" | "POST", []) => list(call).await,
        ("GET", ["me"]) => show(call.user()?, &call).await,
        ("PATCH", ["me"]) => update(call).await,
        (_, []) => Err(method_not_allowed("GET, POST")),
        (_, ["me"]) => Err(method_not_allowed("GET, PATCH")),
        _ => Err(not_found()),
    }
}

fn require_feature(call: &Call) -> Result<(), ApiError> {
    call.deps.connections.settings.features.require(Feature::Profiles)
}

#[derive(Serialize)]
struct ProfileView<'a> {
    user_id: &'a str,
    nickname: &'a str,
    /// A file; `null`: none.
    avatar: Option<&'a str>,
    meta: &'a Meta,
    updated_at: i64,
}

impl<'a> From<&'a Profile> for ProfileView<'a> {
    fn from(profile: &'a Profile) -> Self {
        let Profile { user_id, nickname, avatar, meta, updated_at } = profile;
        Self { user_id, nickname, avatar: avatar.as_deref(), meta, updated_at: *updated_at }
    }
}

#[derive(Serialize)]
struct Profiles<'a> {
    users: Vec<ProfileView<'a>>,
}

async fn list(call: Call) -> Answer {
    call.caller()?;
    let users = asked_users(&call).await?;
    let render =
        |found: &[Profile]| rendered(&Profiles { users: found.iter().map(ProfileView::from).collect() });
    Ok(json_text(call.deps.reads.profiles(&call.payer, &users, render).await?))
}

/// Responds with the profile of `user`, also if it has set nothing.
async fn show(user: &UserId, call: &Call) -> Answer {
    let render = |found: &[Profile]| {
        let unset = Profile::unset(user);
        rendered(&ProfileView::from(found.first().unwrap_or(&unset)))
    };
    Ok(json_text(call.deps.reads.profiles(&call.payer, slice::from_ref(user), render).await?))
}

#[derive(Deserialize)]
struct Body {
    nickname: Option<Nickname>,
    meta: Option<Box<RawValue>>,
    #[serde(default, deserialize_with = "avatar")]
    avatar: Avatar,
}

async fn update(call: Call) -> Answer {
    let user = call.user()?;
    let body: Body = call.json_with_null(&NULLABLE).await?;
    check_avatar(&body.avatar, Some(user), &call).await?;
    let update = ProfileUpdate { nickname: body.nickname, meta: meta(body.meta)?, avatar: body.avatar };
    if update == ProfileUpdate::default() {
        return Err(ApiError::malformed("nothing to change: send nickname, avatar or meta"));
    }
    if !call.is_operator() {
        take_change(user, &call)?;
    }
    let updated = profiles::update(&call.deps.pool, user, &update, feed(&call)).await;
    if !updated.map_err(|e| ApiError::database(&e))? {
        return Err(no_avatar());
    }
    show(user, &call).await
}

fn feed(call: &Call) -> Option<FeedShards> {
    call.deps.feed.as_ref().map(|feed| feed.all().shards())
}

fn take_change(user: &UserId, call: &Call) -> Result<(), ApiError> {
    call.deps.profile_changes.take(user).map_err(|retry_after_ms| ApiError::RateLimited {
        message: "you change your profile too often: wait and try again".to_owned(),
        retry_after_ms,
    })
}

/// Sets the whole profile of `user`, for the operator.
pub(super) async fn replace(user: &UserId, call: Call) -> Answer {
    require_feature(&call)?;
    let body: Body = call.json_with_null(&NULLABLE).await?;
    check_avatar(&body.avatar, Some(user), &call).await?;
    let profile = ProfileUpdate { nickname: body.nickname, meta: meta(body.meta)?, avatar: body.avatar };
    let replaced = profiles::replace(&call.deps.pool, user, &profile, feed(&call)).await;
    if !replaced.map_err(|e| ApiError::database(&e))? {
        return Err(no_avatar());
    }
    show(user, &call).await
}
