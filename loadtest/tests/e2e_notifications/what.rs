//! Which messages users are notified of, and when.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use testbed::client::Client;
use testbed::push::WebPushService;

use super::support::{CHAT, LAST, builder, read, received, received_until_now, register, say, send};

const GROUP: &str = "group_team";

#[tokio::test(flavor = "multi_thread")]
async fn a_user_without_a_connection_gets_one_notification_for_a_burst_and_its_withdrawal() {
    let push = WebPushService::start().await.unwrap();
    let system = builder().set("IM__PUSH__INTERVAL_S", 10).for_test().await.unwrap();
    let bob = system.http(0, "bob");
    let (device, _) = register(&bob, &push).await;
    system.http(0, "ann").ok("PATCH", "/api/users/me", Some(json!({"nickname": "Ann"}))).await.unwrap();
    let mut ann = Client::connect(&system.ws_urls()[1], "ann").await.unwrap();
    let mut last = 0;
    for n in 0..5 {
        last = ann.say(CHAT, &format!("m{n}"), &format!("text {n}")).await.unwrap();
    }
    let shown = received(&device, "the notification", |all| !all.is_empty()).await;
    let expected = json!({"type": "message", "conversation_id": CHAT, "seq": last, "count": 5, "sender_id": "ann",
        "title": "Ann", "body": "text 4", "tag": shown[0]["tag"]});
    assert_eq!(shown, [expected]);
    let delivered = device.received();
    assert_eq!(delivered[0].topic.as_deref(), shown[0]["tag"].as_str());
    assert_eq!(delivered[0].urgency.as_deref(), Some("high"));

    // Read on another device, through the other gateway.
    let mut bob = Client::connect(&system.ws_urls()[0], "bob").await.unwrap();
    read(&mut bob, CHAT, last).await;
    let all = received(&device, "the withdrawal", |all| all.len() > 1).await;
    let expected = json!({"type": "read", "conversation_id": CHAT, "seq": last, "tag": shown[0]["tag"]});
    assert_eq!(all[1..], [expected]);
    assert_eq!(push.violations(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_with_a_connection_is_notified_of_what_it_has_not_read_in_time() {
    let push = WebPushService::start().await.unwrap();
    let system = builder().set("IM__PUSH__DELAY_S", 4).for_test().await.unwrap();
    let (device, _) = register(&system.http(0, "bob"), &push).await;
    let mut bob = Client::connect(&system.ws_urls()[0], "bob").await.unwrap();
    let begun = Instant::now();
    let seq = say(&system, "ann", CHAT, "m1", "read").await;
    read(&mut bob, CHAT, seq).await;
    say(&system, "eve", "private_bob_eve", "m2", "not read").await;
    let all = received(&device, "the notification", |all| !all.is_empty()).await;
    assert!(begun.elapsed() >= Duration::from_secs(4), "{:?}", begun.elapsed());
    let all: Vec<&Value> = all.iter().map(|one| &one["conversation_id"]).collect();
    assert_eq!(all, ["private_bob_eve"]);
    drop(bob);
    assert_eq!(push.violations(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_muted_conversation_notifies_only_of_mentions_and_muting_withdraws() {
    let push = WebPushService::start().await.unwrap();
    let system = builder().set("IM__PUSH__TEXT", false).for_test().await.unwrap();
    let bob = system.http(0, "bob");
    let (device, _) = register(&bob, &push).await;
    let group = json!({"conversation_id": GROUP, "name": "Team", "members": ["bob", "eve"]});
    system.http(0, "ann").ok("POST", "/api/groups", Some(group)).await.unwrap();
    let mut ann = Client::connect(&system.ws_urls()[1], "ann").await.unwrap();
    send(&mut ann, GROUP, "m1", json!({"content": "hello"})).await;
    let shown = received(&device, "the notification", |all| !all.is_empty()).await;
    // Without the text, a group's notification says who wrote.
    assert_eq!((&shown[0]["title"], &shown[0]["body"]), (&json!("Team"), &json!("ann")));
    let path = format!("/api/conversations/{GROUP}");
    bob.ok("PATCH", &path, Some(json!({"muted_until": -1}))).await.unwrap();
    received(&device, "the withdrawal", |all| all.iter().any(|one| one["type"] == "read")).await;

    send(&mut ann, GROUP, "m2", json!({"content": "not for bob"})).await;
    send(&mut ann, GROUP, "m3", json!({"content": "for eve", "mentions": ["eve"]})).await;
    assert_eq!(received_until_now(&system, &device, "z1").await.len(), 2, "muted");
    let mention = send(&mut ann, GROUP, "m4", json!({"content": "bob!", "mentions": ["bob"]})).await;
    send(&mut ann, GROUP, "m5", json!({"content": "not for bob"})).await;
    let is_mention = |one: &Value| one["mention"] == true && one["seq"] == mention && one["count"] == 1;
    received(&device, "the mention", |all| all.iter().any(is_mention)).await;
    assert_eq!(received_until_now(&system, &device, "z2").await.len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_of_messages_make_no_sound() {
    let push = WebPushService::start().await.unwrap();
    let system = builder().for_test().await.unwrap();
    let (device, _) = register(&system.http(0, "bob"), &push).await;
    let mut ann = Client::connect(&system.ws_urls()[1], "ann").await.unwrap();
    let mut bob = Client::connect(&system.ws_urls()[0], "bob").await.unwrap();
    let first = send(&mut bob, CHAT, "b1", json!({"content": "of bob"})).await;
    drop(bob);
    for (n, change) in [
        json!({"msg_type": 5, "react_seq": first, "reaction": "+1"}),
        json!({"msg_type": 6, "pin_seq": first}),
    ]
    .into_iter()
    .enumerate()
    {
        send(&mut ann, CHAT, &format!("c{n}"), change).await;
    }
    assert_eq!(received_until_now(&system, &device, "z1").await, [json!(null); 0]);

    let one = send(&mut ann, CHAT, "m1", json!({"content": "one"})).await;
    received(&device, "the first", |all| all.iter().any(|shown| shown["seq"] == one)).await;
    let two = send(&mut ann, CHAT, "m2", json!({"content": "two"})).await;
    received(&device, "the second", |all| all.iter().any(|shown| shown["seq"] == two)).await;
    let edit = json!({"msg_type": 4, "edit_seq": two, "content": "2"});
    send(&mut ann, CHAT, "e1", edit).await;
    assert_eq!(received_until_now(&system, &device, "z2").await.len(), 2, "an edit");

    let recall = send(&mut ann, CHAT, "r2", json!({"msg_type": 3, "recall_seq": two})).await;
    let is_quiet = |shown: &Value| {
        shown["seq"] == recall && shown["body"] == "one" && shown["count"] == 1 && shown["quiet"] == true
    };
    received(&device, "the first again", |all| all.iter().any(is_quiet)).await;
    let recall = send(&mut ann, CHAT, "r1", json!({"msg_type": 3, "recall_seq": one})).await;
    let is_withdrawn = |shown: &Value| shown["type"] == "read" && shown["seq"] == recall;
    received(&device, "the withdrawal", |all| all.iter().any(is_withdrawn)).await;
    assert_eq!(push.violations(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_who_is_removed_is_notified_no_longer() {
    let push = WebPushService::start().await.unwrap();
    let system = builder().for_test().await.unwrap();
    let (device, _) = register(&system.http(0, "bob"), &push).await;
    let group = json!({"conversation_id": GROUP, "name": "Team", "members": ["bob"]});
    let ann = system.http(0, "ann");
    ann.ok("POST", "/api/groups", Some(group)).await.unwrap();
    say(&system, "ann", GROUP, "m1", "hello").await;
    received(&device, "the notification", |all| !all.is_empty()).await;
    ann.ok("DELETE", &format!("/api/groups/{GROUP}/members/bob"), None).await.unwrap();
    received(&device, "the withdrawal", |all| all.iter().any(|one| one["type"] == "read")).await;
    say(&system, "ann", GROUP, "m2", "not for bob").await;
    assert_eq!(received_until_now(&system, &device, "z1").await.len(), 2);
    assert_ne!(GROUP, LAST);
}
