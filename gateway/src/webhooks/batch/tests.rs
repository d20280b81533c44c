use serde_json::{Value, json};
use shared::conversation::Conversation;
use shared::feed::{Event, EventKind};
use shared::ids::{Seq, UserId};
use shared::webhook::EventType;

use super::*;

fn at(position: u64, index: u64) -> Cursor {
    Cursor { position, index }
}

/// A page of voided numbers of a group and of profiles by turns: row 1 has two events, all others one.
fn selected(limits: &Limits<'_>, count: usize) -> Selection {
    let conversation = Conversation::from_key("group_1").unwrap();
    let user = UserId::parse("ann").unwrap();
    let cursors = std::iter::once(at(0, 1)).chain((1..).map(Cursor::after));
    let event = |(n, cursor): (usize, Cursor)| {
        let kind = match n % 2 {
            0 => EventKind::Voided { conversation: &conversation, first: Seq(1), last: Seq(2) },
            _ => EventKind::Profile(&user),
        };
        Event { cursor, written_at: 1_000 + i64::try_from(n).unwrap(), kind }
    };
    let events: Vec<_> = cursors.take(count).enumerate().map(event).collect();
    // The page ends after a row without events.
    let page = Page { events, next: Cursor::after(100), is_cut: false };
    limits.select(3, &page, false).unwrap()
}

fn limits<'a>(id: &'a WebhookId, filter: &'a Filter) -> Limits<'a> {
    Limits { id, filter, events: 100, bytes: 1 << 18, until: None }
}

fn cursors(selection: &Selection) -> Vec<String> {
    let body: Value = serde_json::from_slice(&selection.batch.as_ref().unwrap().body).unwrap();
    let events = body["events"].as_array().unwrap();
    events.iter().map(|event| event["cursor"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_batch_has_the_events_of_a_page_as_the_feed_shows_them() {
    let (id, filter) = (WebhookId::parse("0123456789abcdef").unwrap(), Filter::default());
    let selection = selected(&limits(&id, &filter), 3);
    let batch = selection.batch.as_ref().unwrap();
    let body: Value = serde_json::from_slice(&batch.body).unwrap();
    assert_eq!(
        body,
        json!({
            "type": "events",
            "shard": 3,
            "events": [
                {"cursor": "0.1", "time_ms": 1_000, "type": "voided", "conversation_id": "group_1",
                 "first_seq": 1, "last_seq": 2},
                {"cursor": "1", "time_ms": 1_001, "type": "profile", "user_id": "ann"},
                {"cursor": "2", "time_ms": 1_002, "type": "voided", "conversation_id": "group_1",
                 "first_seq": 1, "last_seq": 2},
            ],
            "next_cursor": "100",
        })
    );
    assert_eq!(batch.id, "msg_0123456789abcdef_3_0-1_100");
    assert_eq!((batch.events, batch.oldest, batch.end), (3, 1_000, at(100, 0)));
    assert_eq!((selection.seen, selection.has_more), (at(100, 0), false));
}

#[test]
fn what_the_filter_drops_moves_the_place_and_makes_no_call() {
    let id = WebhookId::random();
    let filter = Filter { types: vec![EventType::Message], ..Filter::default() };
    let selection = selected(&limits(&id, &filter), 5);
    assert!(selection.batch.is_none());
    assert_eq!((selection.seen, selection.has_more), (at(100, 0), false));
    let filter = Filter { types: vec![EventType::Profile], ..Filter::default() };
    assert_eq!(cursors(&selected(&limits(&id, &filter), 5)), ["1", "3"]);
}

#[test]
fn a_full_batch_ends_at_its_last_event_or_at_one_that_the_filter_dropped() {
    let (id, filter) = (WebhookId::random(), Filter::default());
    let few = Limits { events: 2, ..limits(&id, &filter) };
    let selection = selected(&few, 5);
    assert_eq!(cursors(&selection), ["0.1", "1"]);
    assert_eq!((selection.seen, selection.has_more), (at(1, 0), true));
    assert_eq!(selection.batch.unwrap().end, at(1, 0));
    let profiles = Filter { types: vec![EventType::Profile], ..Filter::default() };
    let one = Limits { events: 1, ..limits(&id, &profiles) };
    let selection = selected(&one, 5);
    assert_eq!(cursors(&selection), ["1"]);
    assert_eq!((selection.seen, selection.has_more), (at(2, 0), true));
}

#[test]
fn a_batch_has_no_more_bytes_than_it_may_but_at_least_one_event() {
    let (id, filter) = (WebhookId::random(), Filter::default());
    let tiny = Limits { bytes: 1, ..limits(&id, &filter) };
    assert_eq!(cursors(&selected(&tiny, 5)), ["0.1"]);
    let some = Limits { bytes: 200, ..limits(&id, &filter) };
    let selection = selected(&some, 5);
    assert!(selection.has_more);
    let count = cursors(&selection).len();
    assert!((2..5).contains(&count), "{count}");
}

#[test]
fn a_repetition_has_the_same_id_and_not_what_came_since() {
    let (id, filter) = (WebhookId::random(), Filter::default());
    let few = Limits { events: 3, ..limits(&id, &filter) };
    let failed = selected(&few, 3).batch.unwrap();
    let exact = Limits { events: 3, until: Some(failed.end), ..limits(&id, &filter) };
    assert_eq!(selected(&exact, 3).batch.unwrap().body, failed.body);
    // The place after a cut is that of the last event.
    let failed = selected(&few, 5).batch.unwrap();
    let more = Limits { until: Some(failed.end), ..limits(&id, &filter) };
    let repeated = selected(&more, 5);
    let batch = repeated.batch.unwrap();
    assert_eq!((batch.id, batch.body), (failed.id, failed.body));
    assert!(repeated.has_more);
}

#[test]
fn what_is_removed_is_told_as_an_event() {
    let id = WebhookId::parse("0123456789abcdef").unwrap();
    let batch = skipped(&id, 0, at(4, 2), at(9, 0)).unwrap();
    let body: Value = serde_json::from_slice(&batch.body).unwrap();
    let event = &body["events"][0];
    assert_eq!((&event["type"], &event["cursor"]), (&json!("skipped"), &json!("9")));
    assert_eq!((&event["from_cursor"], &event["to_cursor"]), (&json!("4.2"), &json!("9")));
    assert_eq!((body["next_cursor"].as_str(), batch.end), (Some("9"), at(9, 0)));
    assert_eq!(batch.id, "msg_0123456789abcdef_0_4-2_9");
}
