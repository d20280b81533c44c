//! `/api/feed`: the change feed for users, such as bots.

use shared::feed::Cursors;
use tokio::time::Instant;

use super::answer::{Answer, json_text};
use super::call::Call;
use super::conversation_id::reader;
use super::feed::{off, wait};
use super::paging::limit;
use super::refusals::{method_not_allowed, not_found};
use crate::feed::{UserFeed, UserStart};
use crate::wire::api_error::ApiError;

pub(super) async fn route(path: &[&str], call: Call) -> Answer {
    match (call.method(), path) {
        ("GET", []) => Box::pin(events(&call)).await,
        (_, []) => Err(method_not_allowed("GET")),
        _ => Err(not_found()),
    }
}

/// The next events of the user's conversations; waits for the first one, if it is asked to.
async fn events(call: &Call) -> Answer {
    let (payer, user) = reader(call)?;
    let feed = call.deps.feed.as_deref().ok_or_else(off)?;
    let (limit, wait) = (limit(call)?, wait(call)?);
    let start = match call.parameter("cursor").as_deref() {
        None | Some("" | "latest") => UserStart::Latest,
        Some("oldest") => UserStart::Oldest,
        Some(text) => {
            UserStart::After(Cursors::parse(text, feed.all().shards()).map_err(ApiError::malformed)?)
        }
    };
    // At once: the reader stores the cursor before anything happens after it.
    let until = if start == UserStart::Latest { Instant::now() } else { Instant::now() + wait };
    call.wait_until(until);
    let mut reading = feed.begin((payer, user), start, limit).await?;
    let mut place = None;
    loop {
        if let Some(page) = feed.page(&mut reading).await? {
            return Ok(json_text(page));
        }
        if Instant::now() < until && place.is_none() {
            place = Some(feed.place(user)?);
            call.leave_place();
        }
        if Instant::now() >= until || !feed.wait(&mut reading, until).await {
            return Ok(json_text(UserFeed::empty_page(&reading)?));
        }
        // It may have been revoked meanwhile.
        call.check_again()?;
    }
}
