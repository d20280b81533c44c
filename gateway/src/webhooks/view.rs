//! A webhook as the operator sees it: without its secret, with how far it has come.

use serde::Serialize;
use shared::ids::unix_millis;
use shared::mysql::feed::ReaderState;
use shared::webhook::{EventType, Webhook};

/// A webhook.
#[derive(Debug, Serialize)]
pub struct WebhookView<'a> {
    id: &'a str,
    name: &'a str,
    url: &'a str,
    event_types: Vec<&'static str>,
    conversations: &'a [String],
    batch_events: u32,
    batch_bytes: u32,
    created_at: i64,
    updated_at: i64,
    /// Until when the secret before signs too; `null`: it does not.
    old_secret_until: Option<i64>,
    /// `delivering`, `failing` or `paused`.
    state: &'static str,
    /// Of all shards.
    lag_rows: u64,
    shards: Vec<ShardView<'a>>,
    /// Only in the answer to its creation or rotation.
    #[serde(skip_serializing_if = "Option::is_none")]
    secret: Option<&'a str>,
}

/// How far it has come in a shard of the feed.
#[derive(Debug, Serialize)]
struct ShardView<'a> {
    shard: u16,
    cursor: String,
    latest_cursor: String,
    lag_rows: u64,
    /// The age of the next row; 0 without one.
    lag_ms: i64,
    /// The gateway that delivers it; `null`: none does at the moment.
    gateway: Option<&'a str>,
    failures: u32,
    failing_since: Option<i64>,
    last_error: Option<&'a str>,
    last_error_at: Option<i64>,
    next_attempt_at: Option<i64>,
    last_success_at: Option<i64>,
}

/// The views of `webhooks`, with those of `states` that are theirs. `secret`: that of the only one, to be shown.
#[must_use]
pub fn views<'a>(
    webhooks: &'a [Webhook],
    states: &'a [ReaderState],
    secret: Option<&'a str>,
) -> Vec<WebhookView<'a>> {
    let now = unix_millis();
    let view = |webhook: &'a Webhook| {
        let reader = webhook.id.reader();
        let states: Vec<&ReaderState> = states.iter().filter(|state| state.name == reader).collect();
        let shards: Vec<ShardView<'_>> = states.iter().map(|state| shard(state, now)).collect();
        let secrets = &webhook.secrets;
        WebhookView {
            id: webhook.id.as_str(),
            name: &webhook.name,
            url: &webhook.url,
            event_types: webhook.filter.types.iter().copied().map(EventType::name).collect(),
            conversations: &webhook.filter.conversations,
            batch_events: webhook.batch_events,
            batch_bytes: webhook.batch_bytes,
            created_at: webhook.created_at,
            updated_at: webhook.updated_at,
            old_secret_until: secrets.signs_with_old(now).then_some(secrets.old_until),
            state: state_name(&states),
            lag_rows: shards.iter().map(|shard| shard.lag_rows).sum(),
            shards,
            secret,
        }
    };
    webhooks.iter().map(view).collect()
}

fn state_name(states: &[&ReaderState]) -> &'static str {
    if states.iter().any(|state| state.is_paused) {
        "paused"
    } else if states.iter().any(|state| state.failures > 0) {
        "failing"
    } else {
        "delivering"
    }
}

fn shard(state: &ReaderState, now: i64) -> ShardView<'_> {
    let time = |at: i64| (at > 0).then_some(at);
    ShardView {
        shard: state.shard,
        cursor: state.cursor.to_string(),
        latest_cursor: state.head.to_string(),
        lag_rows: state.head.saturating_sub(state.cursor.position),
        lag_ms: state.next_written_at.map_or(0, |written| (now - written).max(0)),
        gateway: Some(state.owner.as_str()).filter(|owner| !owner.is_empty()),
        failures: state.failures,
        failing_since: time(state.failing_since),
        last_error: Some(state.last_error.as_str()).filter(|error| !error.is_empty()),
        last_error_at: time(state.last_error_at),
        next_attempt_at: time(state.next_attempt_at),
        last_success_at: time(state.last_success_at),
    }
}
