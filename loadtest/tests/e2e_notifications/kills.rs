//! Gateways that are killed while they plan and send.

use std::collections::BTreeMap;

use serde_json::Value;
use testbed::client::Client;
use testbed::push::WebPushService;

use super::support::{builder, received, register};

const SENDERS: usize = 60;

#[tokio::test(flavor = "multi_thread")]
async fn no_notification_is_lost_or_shown_twice_when_gateways_are_killed() {
    let push = WebPushService::start().await.unwrap();
    let mut system = builder().set("IM__FEED__SHARDS", 8).for_test().await.unwrap();
    let (device, _) = register(&system.http(1, "bob"), &push).await;
    let mut sent = BTreeMap::new();
    for n in 0..SENDERS {
        let user = format!("u{n:02}");
        let conversation = format!("private_bob_{user}");
        let mut client = Client::connect(&system.ws_urls()[1], &user).await.unwrap();
        let seq = client.say(&conversation, "m1", "hello").await.unwrap();
        sent.insert(conversation, seq);
        match n % 15 {
            5 => system.gateway(0).kill(),
            12 => system.gateway(0).start_again().await.unwrap(),
            _ => {}
        }
    }
    let is_shown = |all: &[Value], (conversation, seq): (&String, &u64)| {
        all.iter().any(|one| one["conversation_id"] == **conversation && one["seq"] == *seq)
    };
    let all = received(&device, "all notifications", |all| sent.iter().all(|one| is_shown(all, one))).await;
    // What a device has shown, it drops: the same number of the same conversation.
    let mut shown: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
    let mut dropped = 0;
    for one in &all {
        let (conversation, seq) = (one["conversation_id"].as_str().unwrap(), one["seq"].as_u64().unwrap());
        let numbers = shown.entry(conversation).or_default();
        if numbers.last().is_none_or(|last| seq > *last) {
            numbers.push(seq);
        } else {
            dropped += 1;
        }
    }
    assert!(shown.values().all(|numbers| numbers.len() == 1), "{shown:?}");
    assert_eq!(shown.len(), SENDERS);
    // At most those that were being sent at a kill.
    assert!(dropped <= SENDERS / 2, "{dropped} of {SENDERS} were sent again");
    println!("{SENDERS} messages, {dropped} sent again to a device that drops them");
}
