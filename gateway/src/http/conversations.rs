//! `/api/conversations`: a user's list, the messages of a conversation, and the read positions of its members.

use serde::Serialize;
use shared::conversation::{Conversation, ConversationError};
use shared::ids::Seq;
use shared::mysql::positions::ListedPosition;
use warp::http::header::{CONTENT_TYPE, HeaderValue};
use warp::reply::Response;

use super::answer::{Answer, json};
use super::call::Call;
use super::paging::{cursor, limit, truncate};
use super::refusals::{method_not_allowed, not_found};
use crate::wire::api_error::ApiError;
use crate::wire::listing::EntryView;
use crate::wire::request::PullRequest;

pub(super) async fn route(path: &[&str], call: Call) -> Answer {
    match (call.method(), path) {
        ("GET", []) => Box::pin(list(call)).await,
        ("GET", [id, "messages"]) => messages(id, call).await,
        ("GET", [id, "positions"]) => positions(id, call).await,
        (_, [] | [_, "messages" | "positions"]) => Err(method_not_allowed("GET")),
        _ => Err(not_found()),
    }
}

#[derive(Serialize)]
struct Conversations<'a> {
    conversations: Vec<EntryView<'a>>,
    /// The cursor of the next page; absent on the last page.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<u64>,
}

async fn list(call: Call) -> Answer {
    let before =
        call.parameter_as("cursor", "cursor must be the next_cursor of the page before")?.unwrap_or(0);
    let limit = usize::from(limit(&call)?);
    let listing = call.deps.reads.conversations(call.user()?, before, limit).await?;
    json(&Conversations {
        conversations: listing.entries.iter().map(EntryView::new).collect(),
        next_cursor: listing.has_more.then_some(listing.next),
    })
}

fn conversation(id: &str, call: &Call) -> Result<Conversation, ApiError> {
    Conversation::parse(id, call.user()?).map_err(|error| match error {
        ConversationError::NotYours => ApiError::Forbidden(error.to_string()),
        _ => ApiError::Malformed(error.to_string()),
    })
}

async fn messages(id: &str, call: Call) -> Answer {
    let conversation = conversation(id, &call)?;
    let rule = "cursor_seq must be an integer from 0 to 2^53 - 1";
    let cursor: u64 = call.parameter_as("cursor_seq", rule)?.unwrap_or(0);
    if cursor > Seq::MAX.0 {
        return Err(ApiError::malformed(rule));
    }
    let backward = match call.parameter("direction").as_deref() {
        None | Some("forward") => false,
        Some("backward") => true,
        Some(_) => return Err(ApiError::malformed("direction must be forward (default) or backward")),
    };
    let request = PullRequest { cursor: Seq(cursor), limit: limit(&call)?, backward };
    let page = call.deps.reads.page(call.user()?, &conversation, request).await?;
    let mut response = Response::new(page.as_str().to_owned().into());
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(response)
}

#[derive(Serialize)]
struct Positions {
    positions: Vec<ListedPosition>,
    /// The cursor of the next page; absent on the last page.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<String>,
}

async fn positions(id: &str, call: Call) -> Answer {
    let conversation = conversation(id, &call)?;
    let (cursor, limit) = (cursor(&call), limit(&call)?);
    let reads = &call.deps.reads;
    let mut positions = reads.positions(call.user()?, &conversation, &cursor, u32::from(limit) + 1).await?;
    let next_cursor = truncate(&mut positions, limit, |position| position.user_id.clone());
    json(&Positions { positions, next_cursor })
}
