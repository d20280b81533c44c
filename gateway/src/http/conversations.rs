//! `/api/conversations`: a user's list and its views, the messages of a conversation, and the read positions of its members.

use serde::Serialize;
use shared::ids::Seq;
use shared::mysql::positions::ListedPosition;

use super::answer::{Answer, json, json_text, rendered};
use super::call::Call;
use super::conversation_id::{conversation, reader};
use super::paging::{cursor, limit, truncate};
use super::refusals::{method_not_allowed, not_found};
use super::{one_message, send, views};
use crate::wire::api_error::ApiError;
use crate::wire::listing::{EntryView, Listing};
use crate::wire::request::PullRequest;

pub(super) async fn route(path: &[&str], call: Call) -> Answer {
    match (call.method(), path) {
        ("GET", []) => Box::pin(list(call)).await,
        ("GET", [id, "messages"]) => messages(id, call).await,
        ("POST", [id, "messages"]) => Box::pin(send::send(id, call)).await,
        ("GET", [id, "messages", seq]) => Box::pin(one_message::message(id, seq, call)).await,
        ("GET", [id, "messages", seq, "reactions"]) => Box::pin(one_message::reactions(id, seq, call)).await,
        ("GET", [id, "pins"]) => Box::pin(one_message::pins(id, call)).await,
        ("GET", [id, "positions"]) => positions(id, call).await,
        ("PATCH", [id]) => views::update(id, call).await,
        ("DELETE", [id]) => views::clear(id, call).await,
        (_, [_]) => Err(method_not_allowed("PATCH, DELETE")),
        (_, [_, "messages"]) => Err(method_not_allowed("GET, POST")),
        (_, [] | [_, "positions" | "pins"] | [_, "messages", _] | [_, "messages", _, "reactions"]) => {
            Err(method_not_allowed("GET"))
        }
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
    let limit = limit(&call)?;
    let user = call.user()?;
    let render = |listing: &Listing| {
        rendered(&Conversations {
            conversations: listing.entries.iter().map(|listed| EntryView::new(listed, user)).collect(),
            next_cursor: listing.has_more.then_some(listing.next),
        })
    };
    Ok(json_text(call.deps.reads.conversations(reader(&call)?, before, limit, render).await?))
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
    let changes = match call.parameter("changes").as_deref() {
        None | Some("true") => true,
        Some("false") => false,
        Some(_) => return Err(ApiError::malformed("changes must be true (default) or false")),
    };
    let request = PullRequest { cursor: Seq(cursor), limit: limit(&call)?, backward, changes };
    Ok(json_text(call.deps.reads.page(reader(&call)?, &conversation, request, None).await?))
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
    let mut positions = reads.positions(reader(&call)?, &conversation, &cursor, u32::from(limit) + 1).await?;
    let next_cursor = truncate(&mut positions, limit, |position| position.user_id.clone());
    json(&Positions { positions, next_cursor })
}
