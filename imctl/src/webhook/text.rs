//! Webhooks for a terminal.

use gateway::webhooks::Tested;
use serde_json::Value;

use crate::text::{duration, fields, or_dash, table, time};

fn text(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(all) if all.is_empty() => "all".to_owned(),
        Value::Array(all) => all.iter().map(text).collect::<Vec<_>>().join(", "),
        other => other.to_string(),
    }
}

fn moment(value: &Value) -> String {
    or_dash(value.as_i64().map(time))
}

fn shards(webhook: &Value) -> impl Iterator<Item = &Value> {
    webhook["shards"].as_array().into_iter().flatten()
}

/// A line for each.
pub(super) fn list(webhooks: &[Value]) -> String {
    if webhooks.is_empty() {
        return "there are no webhooks".to_owned();
    }
    let row = |webhook: &Value| {
        let oldest = shards(webhook).filter_map(|shard| shard["lag_ms"].as_i64()).max().unwrap_or(0);
        let lag = if webhook["lag_rows"] == 0 { "-".to_owned() } else { duration(oldest) };
        let cells = ["id", "name", "state", "lag_rows"].map(|field| text(&webhook[field]));
        cells.into_iter().chain([lag, text(&webhook["url"])]).collect()
    };
    table(&["id", "name", "state", "rows behind", "oldest is", "url"], webhooks.iter().map(row))
}

/// All of one.
pub(super) fn one(webhook: &Value) -> String {
    let field = |name: &'static str| (name, text(&webhook[name]));
    let mut all: Vec<(&str, String)> = ["id", "name", "url", "state"].into_iter().map(field).collect();
    all.push(("event types", text(&webhook["event_types"])));
    all.push(("conversations", text(&webhook["conversations"])));
    all.push(("one call", format!("{} events, {} bytes", webhook["batch_events"], webhook["batch_bytes"])));
    all.push(("created", moment(&webhook["created_at"])));
    all.push(("changed", moment(&webhook["updated_at"])));
    if !webhook["old_secret_until"].is_null() {
        all.push(("old secret", format!("signs until {}", moment(&webhook["old_secret_until"]))));
    }
    if !webhook["secret"].is_null() {
        all.push(("secret", text(&webhook["secret"])));
    }
    let row = |shard: &Value| {
        let lag = if shard["lag_rows"] == 0 {
            "-".to_owned()
        } else {
            duration(shard["lag_ms"].as_i64().unwrap_or(0))
        };
        let error = match (&shard["last_error"], &shard["last_error_at"]) {
            (Value::Null, _) => "-".to_owned(),
            (error, at) => format!("{} at {}", text(error), moment(at)),
        };
        let cells = ["shard", "cursor", "latest_cursor", "lag_rows"].map(|field| text(&shard[field]));
        let rest = [
            lag,
            text(&shard["failures"]),
            moment(&shard["next_attempt_at"]),
            text(&shard["gateway"]),
            error,
        ];
        cells.into_iter().chain(rest).collect()
    };
    let header = [
        "shard",
        "cursor",
        "latest",
        "rows behind",
        "oldest is",
        "failures",
        "next attempt",
        "gateway",
        "last error",
    ];
    format!("{}\n\n{}", fields(&all), table(&header, shards(webhook).map(row)))
}

/// What came back.
pub(super) fn tested(tested: &Tested) -> String {
    let Tested { status, error, answer, elapsed_ms, .. } = tested;
    match error {
        Some(error) => format!("not delivered after {elapsed_ms} ms: {error}"),
        None => format!("delivered within {elapsed_ms} ms, status {}: {answer}", or_dash(*status)),
    }
}
