//! `/api/admin/feed`: the change feed, for the operator's own servers.

use std::time::Duration;

use serde::Serialize;
use tokio::time::Instant;

use super::answer::{self, Answer, json_text};
use super::call::Call;
use super::paging::limit;
use super::refusals::{method_not_allowed, not_found};
use crate::feed::{ChangeFeed, Start, UserFeed};
use crate::wire::api_error::ApiError;

/// Longest `wait_s`: proxies end a call that is silent for longer than a minute.
const WAIT_S_MAX: u64 = 30;

pub(super) async fn route(path: &[&str], call: Call) -> Answer {
    match (call.method(), path) {
        ("GET", []) => events(&call).await,
        ("GET", ["shards"]) => shards(&call).await,
        (_, [] | ["shards"]) => Err(method_not_allowed("GET")),
        _ => Err(not_found()),
    }
}

/// The refusal while there is no feed.
pub(super) fn off() -> ApiError {
    ApiError::NotFound("the change feed is off: set feed.enabled on all gateways and workers".to_owned())
}

fn feed(call: &Call) -> Result<&ChangeFeed, ApiError> {
    call.deps.feed.as_deref().map(UserFeed::all).ok_or_else(off)
}

#[derive(Serialize)]
struct Shards {
    shards: Vec<Shard>,
    keep_s: u32,
}

#[derive(Serialize)]
struct Shard {
    shard: u16,
    /// The cursor before the oldest event.
    oldest_cursor: String,
    /// The cursor after the newest event.
    latest_cursor: String,
}

/// All shards with their first and last cursors.
async fn shards(call: &Call) -> Answer {
    let feed = feed(call)?;
    let shards = feed.extents().await?.into_iter().map(|extent| Shard {
        shard: extent.shard,
        oldest_cursor: extent.before.to_string(),
        latest_cursor: extent.head.to_string(),
    });
    answer::json(&Shards { shards: shards.collect(), keep_s: feed.keep_s() })
}

/// The next events of a shard; waits for the first one, if it is asked to.
async fn events(call: &Call) -> Answer {
    let feed = feed(call)?;
    let rule = format!("shard must be 0 to {}: see /api/admin/feed/shards", feed.shards().get() - 1);
    let shard = call.parameter_as("shard", &rule)?.filter(|shard| *shard < feed.shards().get());
    let shard = shard.ok_or_else(|| ApiError::malformed(rule))?;
    let (limit, wait) = (usize::from(limit(call)?), wait(call)?);
    let mut start = match call.parameter("cursor").as_deref() {
        None | Some("") => Start::Oldest,
        Some("latest") => Start::Latest,
        Some(cursor) => Start::After(cursor.parse().map_err(ApiError::malformed)?),
    };
    let until = Instant::now() + wait;
    call.wait_until(until);
    let mut place = None;
    loop {
        let page = feed.page(shard, start, limit).await?;
        let Some(cursor) = page.waits_after.filter(|_| start != Start::Latest && Instant::now() < until)
        else {
            return Ok(json_text(page.json));
        };
        if place.is_none() {
            place = Some(feed.place()?);
        }
        if !feed.wait(shard, cursor, until).await {
            return Ok(json_text(page.json));
        }
        start = Start::After(cursor);
    }
}

/// The parameter `wait_s`.
pub(super) fn wait(call: &Call) -> Result<Duration, ApiError> {
    let rule = "wait_s must be 0 to 30";
    let wait_s: u64 = call.parameter_as("wait_s", rule)?.unwrap_or(0);
    if wait_s > WAIT_S_MAX { Err(ApiError::malformed(rule)) } else { Ok(Duration::from_secs(wait_s)) }
}
