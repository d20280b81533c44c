//! The statements of stored readers of the change feed and of webhooks, on a real MySQL or MariaDB over TCP.

#![expect(clippy::unwrap_used, reason = "a failed helper is a failed test")]

#[path = "support/migrated.rs"]
mod support;

use shared::config::{self, Secret};
use shared::feed::{Cursor, FeedShards};
use shared::ids::unix_millis;
use shared::mysql::Pool;
use shared::mysql::feed::{self, Extent, ReaderState};
use shared::mysql::webhooks::{self, AddError, ReplayFrom};
use shared::shard::ShardLayout;
use shared::webhook::{EventType, WEBHOOKS_MAX, WebhookId, WebhookPatch};
use shared::webhook_signature::new_secret;
use testbed::stack::Stores;

use support::migrated;

const LEASE_MS: i64 = 60_000;

async fn opened(stores: &Stores) -> (Pool, FeedShards) {
    let pool = migrated(stores).await;
    let config = config::Feed { enabled: true, shards: 2, ..config::Feed::default() };
    let shards = feed::open(&pool, &config, ShardLayout::DEFAULT).await.unwrap().unwrap();
    (pool, shards)
}

fn patch() -> WebhookPatch {
    WebhookPatch {
        name: Some("index".to_owned()),
        url: Some("https://app.example/".to_owned()),
        types: Some(vec![EventType::Message, EventType::Group]),
        conversations: Some(vec!["private".to_owned(), "group_é_".to_owned()]),
        ..WebhookPatch::default()
    }
}

async fn added(pool: &Pool, shards: FeedShards) -> WebhookId {
    let (id, secret) = (WebhookId::random(), Secret::from(new_secret().as_str()));
    webhooks::add(pool, &id, (&patch(), &secret), shards).await.unwrap();
    id
}

async fn state(pool: &Pool, id: &WebhookId, shard: u16) -> ReaderState {
    let all = feed::reader_states(pool, &id.reader()).await.unwrap();
    all.into_iter().find(|state| state.shard == shard).unwrap()
}

async fn advance(pool: &Pool, owner: &str, id: &WebhookId, places: (u64, u64), is_success: bool) -> bool {
    let mut connection = pool.acquire().await.unwrap();
    let (from, to) = (Cursor::after(places.0), Cursor::after(places.1));
    let moved = feed::advance(&mut connection, (owner, &id.reader(), 0), (from, to), is_success).await;
    connection.finish(moved).unwrap()
}

async fn fail(pool: &Pool, owner: &str, id: &WebhookId, error: &str) -> bool {
    let mut connection = pool.acquire().await.unwrap();
    let reader = id.reader();
    let recorded = feed::record_failure(&mut connection, (owner, &reader, 0), error, 77).await;
    connection.finish(recorded).unwrap()
}

#[tokio::test]
async fn a_lease_is_one_gateways_and_only_it_moves_the_place() {
    let stores = Stores::for_test().await.unwrap();
    let (pool, shards) = opened(&stores).await;
    let id = added(&pool, shards).await;
    let reader = id.reader();
    assert!(feed::take_lease(&pool, "a", (&reader, 0), LEASE_MS).await.unwrap());
    assert!(!feed::take_lease(&pool, "b", (&reader, 0), LEASE_MS).await.unwrap());
    assert!(advance(&pool, "a", &id, (0, 5), true).await);
    assert!(!advance(&pool, "b", &id, (5, 6), true).await, "another gateway");
    assert!(!advance(&pool, "a", &id, (4, 6), true).await, "another place");
    assert!(advance(&pool, "a", &id, (5, 5), true).await, "nothing to move");
    let at_five = state(&pool, &id, 0).await;
    assert_eq!((at_five.cursor, at_five.owner.as_str()), (Cursor::after(5), "a"));
    assert!(at_five.last_success_at > 0);

    // The lease ends, and another gateway takes it: what the former owner has in hand moves nothing.
    feed::renew_leases(&pool, "a", -1).await.unwrap();
    assert_eq!(state(&pool, &id, 0).await.owner, "", "a lease that is over has no owner");
    assert!(advance(&pool, "a", &id, (5, 6), true).await, "nobody has taken it yet");
    assert!(feed::take_lease(&pool, "b", (&reader, 0), LEASE_MS).await.unwrap());
    assert!(!advance(&pool, "a", &id, (6, 7), true).await);
    assert!(!fail(&pool, "a", &id, "late").await);
    feed::renew_leases(&pool, "a", LEASE_MS).await.unwrap();
    assert_eq!(state(&pool, &id, 0).await.owner, "b");
    feed::release_leases(&pool, "b").await.unwrap();
    assert!(feed::take_lease(&pool, "a", (&reader, 0), LEASE_MS).await.unwrap());
    assert_eq!(feed::all_readers(&pool).await.unwrap().len(), 2);
}

#[tokio::test]
async fn failures_are_counted_until_the_place_moves() {
    let stores = Stores::for_test().await.unwrap();
    let (pool, shards) = opened(&stores).await;
    let id = added(&pool, shards).await;
    assert!(feed::take_lease(&pool, "a", (&id.reader(), 0), LEASE_MS).await.unwrap());
    assert!(fail(&pool, "a", &id, "first").await);
    let first = state(&pool, &id, 0).await;
    assert!(fail(&pool, "a", &id, &"é".repeat(600)).await);
    let second = state(&pool, &id, 0).await;
    assert_eq!((second.failures, second.next_attempt_at), (2, 77));
    assert_eq!((second.failing_since, second.last_error.chars().count()), (first.failing_since, 500));
    assert!(advance(&pool, "a", &id, (0, 1), false).await);
    let moved = state(&pool, &id, 0).await;
    assert_eq!((moved.failures, moved.failing_since, moved.next_attempt_at), (0, 0, 0));
    assert_eq!((moved.last_success_at, moved.last_error), (0, second.last_error), "it was no success");
}

#[tokio::test]
async fn a_pause_and_a_replay_take_the_lease_away() {
    let stores = Stores::for_test().await.unwrap();
    let (pool, shards) = opened(&stores).await;
    let id = added(&pool, shards).await;
    let reader = id.reader();
    assert!(feed::take_lease(&pool, "a", (&reader, 0), LEASE_MS).await.unwrap());
    assert!(fail(&pool, "a", &id, "it failed").await);
    webhooks::pause(&pool, &id, true).await.unwrap();
    assert!(!advance(&pool, "a", &id, (0, 1), true).await);
    assert!(!feed::take_lease(&pool, "b", (&reader, 0), LEASE_MS).await.unwrap(), "it is paused");
    let paused = state(&pool, &id, 0).await;
    assert!(paused.is_paused && paused.failures == 0, "{paused:?}");
    webhooks::pause(&pool, &id, false).await.unwrap();
    assert!(feed::take_lease(&pool, "b", (&reader, 0), LEASE_MS).await.unwrap());
    assert!(advance(&pool, "b", &id, (0, 9), true).await);
    webhooks::replay(&pool, &id, &[(0, Cursor { position: 3, index: 2 })]).await.unwrap();
    assert!(!advance(&pool, "b", &id, (9, 10), true).await);
    assert_eq!(state(&pool, &id, 0).await.cursor, Cursor { position: 3, index: 2 });
    assert!(webhooks::remove(&pool, &id).await.unwrap());
    assert!(!webhooks::remove(&pool, &id).await.unwrap());
    assert!(feed::all_readers(&pool).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_webhook_is_read_as_it_was_written_and_changed_in_parts() {
    let stores = Stores::for_test().await.unwrap();
    let (pool, shards) = opened(&stores).await;
    let id = added(&pool, shards).await;
    let webhook = webhooks::find(&pool, &id).await.unwrap().unwrap();
    assert_eq!((webhook.name.as_str(), webhook.url.as_str()), ("index", "https://app.example/"));
    assert_eq!(webhook.filter.types, [EventType::Message, EventType::Group]);
    assert_eq!(webhook.filter.conversations, ["private", "group_é_"]);
    assert_eq!((webhook.batch_events, webhook.batch_bytes), (100, 256 * 1024));
    let part = WebhookPatch { types: Some(Vec::new()), batch_events: Some(7), ..WebhookPatch::default() };
    assert!(webhooks::change(&pool, &id, &part).await.unwrap());
    let changed = webhooks::find(&pool, &id).await.unwrap().unwrap();
    assert!(changed.updated_at > webhook.updated_at);
    assert!(changed.filter.types.is_empty() && changed.filter.conversations == webhook.filter.conversations);
    assert_eq!((changed.batch_events, &changed.name), (7, &webhook.name));
    let secret = Secret::from(new_secret().as_str());
    assert!(webhooks::rotate(&pool, &id, &secret, 60).await.unwrap());
    let secrets = webhooks::find(&pool, &id).await.unwrap().unwrap().secrets;
    assert_eq!((&secrets.present, &secrets.old), (&secret, &webhook.secrets.present));
    let now = unix_millis();
    assert!(secrets.signs_with_old(now) && !secrets.signs_with_old(now + 61_000));
    let nobody = WebhookId::random();
    assert!(!webhooks::change(&pool, &nobody, &part).await.unwrap());
    assert!(webhooks::find(&pool, &nobody).await.unwrap().is_none());
    for _ in 1..WEBHOOKS_MAX {
        added(&pool, shards).await;
    }
    let full = webhooks::add(&pool, &nobody, (&patch(), &secret), shards).await;
    assert!(matches!(full, Err(AddError::Full)), "{full:?}");
    assert_eq!(webhooks::all(&pool).await.unwrap().len(), WEBHOOKS_MAX);
}

/// Adds rows that were written at these times.
async fn written_at(pool: &Pool, times: &[i64]) {
    for (position, time) in (1_u64..).zip(times) {
        sqlx::query("INSERT INTO feed_change (shard, position, written_at, body) VALUES (0, ?, ?, '{}')")
            .bind(position)
            .bind(time)
            .execute(pool)
            .await
            .unwrap();
    }
    sqlx::query("UPDATE feed_shard SET head = ? WHERE shard = 0")
        .bind(times.len() as u64)
        .execute(pool)
        .await
        .unwrap();
}

#[tokio::test]
async fn a_replay_finds_the_first_row_of_a_time() {
    let stores = Stores::for_test().await.unwrap();
    let (pool, _) = opened(&stores).await;
    written_at(&pool, &[10, 20, 20, 30, 40]).await;
    sqlx::query("DELETE FROM feed_change WHERE position = 1").execute(&pool).await.unwrap();
    let extent: Extent = feed::extents(&pool).await.unwrap()[0];
    assert_eq!((extent.before, extent.head), (1, 5));
    for (time, before) in [(0, 1), (20, 1), (21, 3), (30, 3), (40, 4), (41, 5)] {
        assert_eq!(feed::position_before(&pool, extent, time).await.unwrap(), before, "{time}");
    }
    let places = async |from, shard| webhooks::replay_places(&pool, from, shard).await.unwrap();
    assert_eq!(
        places(ReplayFrom::Oldest, None).await,
        Ok(vec![(0, Cursor::after(1)), (1, Cursor::after(0))])
    );
    assert_eq!(places(ReplayFrom::Latest, Some(0)).await, Ok(vec![(0, Cursor::after(5))]));
    assert_eq!(places(ReplayFrom::Time(30), Some(0)).await, Ok(vec![(0, Cursor::after(3))]));
    let within = Cursor { position: 2, index: 1 };
    assert_eq!(places(ReplayFrom::Cursor(within), Some(0)).await, Ok(vec![(0, within)]));
    for (cursor, shard) in [(0, Some(0)), (6, Some(0)), (1, None), (1, Some(2))] {
        let refused = places(ReplayFrom::Cursor(Cursor::after(cursor)), shard).await;
        assert!(refused.is_err(), "{cursor} {shard:?}");
    }
}
