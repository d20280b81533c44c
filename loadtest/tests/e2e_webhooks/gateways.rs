//! Gateways that are killed, frozen or stopped while they deliver.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use testbed::client::{Behavior, Client, Http, WebhookReceiver};
use testbed::stack::{System, wait_for};

use crate::{TIMEOUT, add, builder, ids, operator, receives, say, show, state_is};

/// A lease is over after 10 s, and taken within a second or two.
const TAKEN_OVER: Duration = Duration::from_secs(14);

/// The gateway that delivers, by its place in the system. Tests have one shard.
async fn owner(system: &mut System, http: &Http, id: &str) -> usize {
    let shown = state_is(http, id, "an owner", |shown| shown["shards"][0]["gateway"].is_string()).await;
    let owner = shown["shards"][0]["gateway"].as_str().unwrap().to_owned();
    let processes = http.ok("GET", "/api/admin/processes", None).await.unwrap();
    let all: &Vec<Value> = processes["processes"].as_array().unwrap();
    let address = all.iter().find(|process| process["id"] == owner.as_str()).unwrap()["address"].clone();
    let port = address.as_str().unwrap().rsplit_once(':').unwrap().1.to_owned();
    system.ops_urls().iter().position(|url| url.trim_end_matches('/').ends_with(&format!(":{port}"))).unwrap()
}

async fn one_shard() -> System {
    builder().set("IM__SHARDS__COUNT", 1).for_test().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn another_gateway_takes_over_from_a_killed_one_and_nothing_is_lost() {
    let mut system = one_shard().await;
    let receiver = WebhookReceiver::start().await.unwrap();
    let http = [operator(&system, 0), operator(&system, 1)];
    let id = add(&http[0], &receiver, json!({"batch_events": 5})).await;
    let killed = owner(&mut system, &http[0], &id).await;
    let other = 1 - killed;
    let mut ann = Client::connect(&system.ws_urls()[other], "ann").await.unwrap();
    say(&mut ann, "group_killed", "a", 20).await;
    receiver.set(|_| Behavior::Status(Duration::from_millis(100), 200));
    say(&mut ann, "group_killed", "b", 50).await;
    system.gateway(killed).kill();
    let begun = Instant::now();
    say(&mut ann, "group_killed", "c", 10).await;
    receives(&receiver, "group_killed", &[ids("a", 20), ids("b", 50), ids("c", 10)].concat()).await;
    assert!(begun.elapsed() < TAKEN_OVER + Duration::from_secs(4), "{:?}", begun.elapsed());
    let shown = show(&http[other], &id).await;
    assert_eq!(shown["lag_rows"], 0, "{shown}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_gateway_that_wakes_up_moves_nothing_back() {
    let mut system = one_shard().await;
    let receiver = WebhookReceiver::start().await.unwrap();
    let http = [operator(&system, 0), operator(&system, 1)];
    let id = add(&http[0], &receiver, json!({"batch_events": 5})).await;
    let frozen = owner(&mut system, &http[0], &id).await;
    let other = 1 - frozen;
    let mut ann = Client::connect(&system.ws_urls()[other], "ann").await.unwrap();
    // It freezes within a call, or soon before one.
    receiver.set(|_| Behavior::Status(Duration::from_millis(300), 200));
    say(&mut ann, "group_frozen", "a", 40).await;
    system.gateway(frozen).freeze();
    receiver.set(|_| Behavior::Status(Duration::ZERO, 200));
    receives(&receiver, "group_frozen", &ids("a", 40)).await;
    let cursor = |shown: &Value| shown["shards"][0]["cursor"].as_str().unwrap().to_owned();
    let before = state_is(&http[other], &id, "the end", |shown| shown["lag_rows"] == 0).await;
    system.gateway(frozen).thaw();
    say(&mut ann, "group_frozen", "b", 40).await;
    receives(&receiver, "group_frozen", &[ids("a", 40), ids("b", 40)].concat()).await;
    // The former owner has renewed its connections, and has seen that it is none.
    wait_for("the former owner", TIMEOUT, async || {
        let found = testbed::meter::metric(&system.ops_urls()[frozen], "im_gateway_feed_readers").await?;
        anyhow::ensure!(found == 0.0, "it runs {found} readers");
        Ok(())
    })
    .await
    .unwrap();
    let after = state_is(&http[other], &id, "the end", |shown| shown["lag_rows"] == 0).await;
    let number = |text: &str| text.split('.').next().unwrap().parse::<u64>().unwrap();
    assert!(number(&cursor(&after)) > number(&cursor(&before)), "{before} {after}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_drains_hands_over_at_once() {
    let mut system = one_shard().await;
    let receiver = WebhookReceiver::start().await.unwrap();
    let http = [operator(&system, 0), operator(&system, 1)];
    let id = add(&http[0], &receiver, json!({})).await;
    let drained = owner(&mut system, &http[0], &id).await;
    let other = 1 - drained;
    let mut ann = Client::connect(&system.ws_urls()[other], "ann").await.unwrap();
    say(&mut ann, "group_drain", "a", 5).await;
    system.gateway(drained).terminate().await.unwrap();
    let begun = Instant::now();
    say(&mut ann, "group_drain", "b", 5).await;
    receives(&receiver, "group_drain", &[ids("a", 5), ids("b", 5)].concat()).await;
    assert!(begun.elapsed() < Duration::from_secs(6), "{:?}", begun.elapsed());
}
