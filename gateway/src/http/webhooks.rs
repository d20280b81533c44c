//! `/api/admin/webhooks`: endpoints of the app that are told what happened, for the operator.

use serde::{Deserialize, Serialize};
use shared::config::Secret;
use shared::mysql::feed::reader_states;
use shared::mysql::webhooks::{self, AddError, ReplayFrom};
use shared::webhook::{
    InvalidWebhook, KEEP_OLD_S_DEFAULT, KEEP_OLD_S_MAX, Webhook, WebhookId, WebhookPatch, check_secret,
};
use shared::webhook_signature::new_secret;
use tokio::time::Instant;

use super::answer::{self, Answer};
use super::call::Call;
use super::feed::off;
use super::refusals::{method_not_allowed, not_found};
use crate::feed::{ChangeFeed, UserFeed};
use crate::webhooks::{WebhookView, Webhooks, views};
use crate::wire::api_error::ApiError;
use crate::wire::number;

pub(super) async fn route(path: &[&str], call: Call) -> Answer {
    match (call.method(), path) {
        ("GET", []) => list(&call).await,
        ("POST", []) => add(&call).await,
        ("GET", [id]) => show(&call, &find(&call, id).await?, None).await,
        ("PATCH", [id]) => change(&call, find(&call, id).await?).await,
        ("DELETE", [id]) => remove(&call, &find(&call, id).await?).await,
        ("POST", [id, "pause"]) => pause(&call, &find(&call, id).await?, true).await,
        ("POST", [id, "resume"]) => pause(&call, &find(&call, id).await?, false).await,
        ("POST", [id, "replay"]) => replay(&call, &find(&call, id).await?).await,
        ("POST", [id, "rotate"]) => rotate(&call, &find(&call, id).await?).await,
        ("POST", [id, "test"]) => test(&call, &find(&call, id).await?).await,
        (_, []) => Err(method_not_allowed("GET, POST")),
        (_, [_]) => Err(method_not_allowed("GET, PATCH, DELETE")),
        (_, [_, "pause" | "resume" | "replay" | "rotate" | "test"]) => Err(method_not_allowed("POST")),
        _ => Err(not_found()),
    }
}

/// What the calls need; 404 if the feed is off.
fn parts(call: &Call) -> Result<(&Webhooks, &ChangeFeed), ApiError> {
    let feed = call.deps.feed.as_deref().map(UserFeed::all);
    call.deps.webhooks.as_deref().zip(feed).ok_or_else(off)
}

fn no_webhook() -> ApiError {
    ApiError::NotFound("there is no such webhook: see GET /api/admin/webhooks".to_owned())
}

async fn find(call: &Call, id: &str) -> Result<Webhook, ApiError> {
    parts(call)?;
    let id = WebhookId::parse(id).ok_or_else(no_webhook)?;
    let found = webhooks::find(&call.deps.pool, &id).await.map_err(|error| ApiError::database(&error))?;
    found.ok_or_else(no_webhook)
}

#[derive(Serialize)]
struct List<'a> {
    webhooks: Vec<WebhookView<'a>>,
}

async fn list(call: &Call) -> Answer {
    parts(call)?;
    let all = webhooks::all(&call.deps.pool).await.map_err(|error| ApiError::database(&error))?;
    let states =
        reader_states(&call.deps.pool, "webhook_").await.map_err(|error| ApiError::database(&error))?;
    answer::json(&List { webhooks: views(&all, &states, None) })
}

/// Responds with the webhook, and with its secret if it is new.
async fn show(call: &Call, webhook: &Webhook, secret: Option<&str>) -> Answer {
    let states = reader_states(&call.deps.pool, &webhook.id.reader()).await;
    let states = states.map_err(|error| ApiError::database(&error))?;
    answer::json(&views(std::slice::from_ref(webhook), &states, secret).first())
}

/// Responds with the webhook as it is now.
async fn show_again(call: &Call, id: &WebhookId, secret: Option<&str>) -> Answer {
    show(call, &find(call, id.as_str()).await?, secret).await
}

#[derive(Deserialize)]
struct Settings {
    name: Option<String>,
    url: Option<String>,
    event_types: Option<Vec<String>>,
    conversations: Option<Vec<String>>,
    #[serde(default, deserialize_with = "number::optional")]
    batch_events: Option<u32>,
    #[serde(default, deserialize_with = "number::optional")]
    batch_bytes: Option<u32>,
    secret: Option<String>,
}

impl Settings {
    /// Checks all values. The other result is the secret.
    fn checked(self, webhooks: &Webhooks) -> Result<(WebhookPatch, Option<String>), ApiError> {
        let Self { name, url, event_types, conversations, batch_events, batch_bytes, secret } = self;
        if let Some(url) = &url {
            let refused = |refused| ApiError::malformed(InvalidWebhook::new("url", refused));
            webhooks.outgoing().url(url).map(drop).map_err(refused)?;
        }
        let types =
            event_types.as_deref().map(WebhookPatch::parse_types).transpose().map_err(ApiError::malformed)?;
        let patch = WebhookPatch { name, url, types, conversations, batch_events, batch_bytes };
        patch.check().map_err(ApiError::malformed)?;
        secret.as_deref().map_or(Ok(()), check_secret).map_err(ApiError::malformed)?;
        Ok((patch, secret))
    }
}

async fn add(call: &Call) -> Answer {
    let (webhooks, feed) = parts(call)?;
    let (patch, secret) = call.json::<Settings>().await?.checked(webhooks)?;
    if patch.name.is_none() || patch.url.is_none() {
        return Err(ApiError::malformed("name and url are required"));
    }
    let (id, secret) = (WebhookId::random(), secret.unwrap_or_else(new_secret));
    let stored = Secret::from(secret.as_str());
    let added = webhooks::add(&call.deps.pool, &id, (&patch, &stored), feed.shards()).await;
    added.map_err(|error| match error {
        AddError::Full => ApiError::Conflict(error.to_string()),
        AddError::Sql(error) => ApiError::database(&error),
    })?;
    tracing::info!(webhook.id = id.as_str(), "Webhook {} is added", id.as_str());
    show_again(call, &id, Some(&secret)).await
}

async fn change(call: &Call, webhook: Webhook) -> Answer {
    let (webhooks, _) = parts(call)?;
    let (patch, secret) = call.json::<Settings>().await?.checked(webhooks)?;
    if secret.is_some() {
        return Err(ApiError::malformed("secret: is changed by POST /api/admin/webhooks/{id}/rotate"));
    }
    if patch == WebhookPatch::default() {
        return Err(ApiError::malformed(
            "nothing to change: send name, url, event_types, conversations, batch_events or batch_bytes",
        ));
    }
    let changed = webhooks::change(&call.deps.pool, &webhook.id, &patch).await;
    changed.map_err(|error| ApiError::database(&error))?;
    show_again(call, &webhook.id, None).await
}

async fn remove(call: &Call, webhook: &Webhook) -> Answer {
    webhooks::remove(&call.deps.pool, &webhook.id).await.map_err(|error| ApiError::database(&error))?;
    tracing::info!(webhook.id = webhook.id.as_str(), "Webhook {} is removed", webhook.id.as_str());
    answer::done()
}

async fn pause(call: &Call, webhook: &Webhook, is_paused: bool) -> Answer {
    let paused = webhooks::pause(&call.deps.pool, &webhook.id, is_paused).await;
    paused.map_err(|error| ApiError::database(&error))?;
    show(call, webhook, None).await
}

#[derive(Deserialize)]
struct Rotate {
    secret: Option<String>,
    #[serde(default, deserialize_with = "number::optional")]
    keep_old_s: Option<u32>,
}

async fn rotate(call: &Call, webhook: &Webhook) -> Answer {
    let Rotate { secret, keep_old_s } = call.json().await?;
    secret.as_deref().map_or(Ok(()), check_secret).map_err(ApiError::malformed)?;
    let keep_old_s = keep_old_s.unwrap_or(KEEP_OLD_S_DEFAULT);
    if keep_old_s > KEEP_OLD_S_MAX {
        return Err(ApiError::malformed(format!("keep_old_s: must be 0 to {KEEP_OLD_S_MAX}")));
    }
    let secret = secret.unwrap_or_else(new_secret);
    let stored = Secret::from(secret.as_str());
    let rotated = webhooks::rotate(&call.deps.pool, &webhook.id, &stored, keep_old_s).await;
    rotated.map_err(|error| ApiError::database(&error))?;
    show_again(call, &webhook.id, Some(&secret)).await
}

#[derive(Deserialize)]
struct Replay {
    #[serde(default, deserialize_with = "number::optional")]
    shard: Option<u16>,
    cursor: Option<String>,
    #[serde(default, deserialize_with = "number::optional")]
    since_ms: Option<i64>,
}

async fn replay(call: &Call, webhook: &Webhook) -> Answer {
    let Replay { shard, cursor, since_ms } = call.json().await?;
    let from = match (cursor.as_deref(), since_ms) {
        (Some("oldest"), None) => ReplayFrom::Oldest,
        (Some("latest"), None) => ReplayFrom::Latest,
        (Some(cursor), None) => ReplayFrom::Cursor(cursor.parse().map_err(ApiError::malformed)?),
        (None, Some(time)) => ReplayFrom::Time(time),
        _ => {
            return Err(ApiError::malformed("send either cursor (of a shard, oldest or latest) or since_ms"));
        }
    };
    let pool = &call.deps.pool;
    let places =
        webhooks::replay_places(pool, from, shard).await.map_err(|error| ApiError::database(&error))?;
    let replayed = webhooks::replay(pool, &webhook.id, &places.map_err(ApiError::malformed)?).await;
    replayed.map_err(|error| ApiError::database(&error))?;
    show(call, webhook, None).await
}

async fn test(call: &Call, webhook: &Webhook) -> Answer {
    let (webhooks, _) = parts(call)?;
    // The endpoint has its own time.
    call.wait_until(Instant::now() + webhooks.timeout());
    answer::json(&webhooks.test(webhook).await)
}
