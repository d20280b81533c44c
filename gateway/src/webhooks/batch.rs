//! Bodies of calls, made from pages of the change feed.

use bytes::Bytes;
use serde::Serialize;
use serde_json::value::RawValue;
use shared::feed::{Cursor, Page};
use shared::ids::unix_millis;
use shared::webhook::{Filter, Webhook, WebhookId};

use crate::feed::EventView;

/// A call's body, and the place after its events.
#[derive(Debug)]
pub(super) struct Batch {
    /// The header `webhook-id`: the same for the same events.
    pub(super) id: String,
    pub(super) body: Bytes,
    pub(super) events: u64,
    /// When the first event was written, in milliseconds since 1970.
    pub(super) oldest: i64,
    pub(super) end: Cursor,
}

/// What a page has for a webhook.
#[derive(Debug)]
pub(super) struct Selection {
    /// `None`: nothing.
    pub(super) batch: Option<Batch>,
    /// The place up to which the page was looked at.
    pub(super) seen: Cursor,
    /// There is more after it.
    pub(super) has_more: bool,
}

/// What a batch is limited to.
#[derive(Debug)]
pub(super) struct Limits<'a> {
    pub(super) id: &'a WebhookId,
    pub(super) filter: &'a Filter,
    /// Events, at most.
    pub(super) events: usize,
    /// Bytes of events, at most, but for a single one.
    pub(super) bytes: usize,
    /// The end of a batch that failed: it is sent again as it was, without the events that came since.
    pub(super) until: Option<Cursor>,
}

impl<'a> Limits<'a> {
    pub(super) fn of(webhook: &'a Webhook, until: Option<Cursor>) -> Self {
        let number = |value| usize::try_from(value).unwrap_or(usize::MAX);
        let (events, bytes) = (number(webhook.batch_events), number(webhook.batch_bytes));
        Self { id: &webhook.id, filter: &webhook.filter, events, bytes, until }
    }

    /// Takes the events of a page that a call may have.
    ///
    /// # Errors
    /// An event cannot be rendered, which does not happen.
    pub(super) fn select(
        &self,
        shard: u16,
        page: &Page<'_>,
        has_more: bool,
    ) -> Result<Selection, serde_json::Error> {
        let mut events: Vec<Box<RawValue>> = Vec::new();
        let (mut bytes, mut oldest, mut first) = (0, 0, None);
        let mut seen = None;
        let mut is_cut = false;
        for event in &page.events {
            if self.until.is_some_and(|until| event.cursor > until) {
                is_cut = true;
                break;
            }
            if self.filter.has(&event.kind) {
                let json = serde_json::value::to_raw_value(&EventView::new(event, event.cursor.to_string()))?;
                let is_full = events.len() >= self.events || bytes + json.get().len() > self.bytes;
                if is_full && !events.is_empty() {
                    is_cut = true;
                    break;
                }
                if first.is_none() {
                    (first, oldest) = (Some(event.cursor), event.written_at);
                }
                bytes += json.get().len();
                events.push(json);
            }
            seen = Some(event.cursor);
        }
        let seen = seen.filter(|_| is_cut).unwrap_or(page.next);
        let batch = match first {
            None => None,
            Some(first) => {
                let id = batch_id(self.id, shard, first, seen);
                Some(batch(id, shard, (&events, oldest), seen)?)
            }
        };
        Ok(Selection { batch, seen, has_more: has_more || is_cut })
    }
}

#[derive(Serialize)]
struct Body<'a, E> {
    r#type: &'static str,
    shard: u16,
    events: &'a [E],
    next_cursor: String,
}

fn batch<E: Serialize>(
    id: String,
    shard: u16,
    (events, oldest): (&[E], i64),
    end: Cursor,
) -> Result<Batch, serde_json::Error> {
    let body = Body { r#type: "events", shard, events, next_cursor: end.to_string() };
    let body = serde_json::to_vec(&body)?.into();
    Ok(Batch { id, body, events: events.len() as u64, oldest, end })
}

#[derive(Serialize)]
struct Skipped {
    cursor: String,
    time_ms: i64,
    r#type: &'static str,
    from_cursor: String,
    to_cursor: String,
}

/// Tells that the events between two places are removed.
///
/// # Errors
/// None.
pub(super) fn skipped(
    id: &WebhookId,
    shard: u16,
    from: Cursor,
    to: Cursor,
) -> Result<Batch, serde_json::Error> {
    let time_ms = unix_millis();
    let event = Skipped {
        cursor: to.to_string(),
        time_ms,
        r#type: "skipped",
        from_cursor: from.to_string(),
        to_cursor: to.to_string(),
    };
    batch(batch_id(id, shard, from, to), shard, (&[event], time_ms), to)
}

/// A point in an id would be one of those that separate what is signed.
fn batch_id(id: &WebhookId, shard: u16, first: Cursor, last: Cursor) -> String {
    format!("msg_{}_{shard}_{first}_{last}", id.as_str()).replace('.', "-")
}

#[cfg(test)]
mod tests;
