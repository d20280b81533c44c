//! Changes of groups as entries of their timelines: two gateways and two workers on real stores.

#![allow(clippy::unwrap_used)] // a failed helper is a failed test

use std::time::Duration;

use serde_json::{Value, json};
use testbed::client::{Client, Http};
use testbed::stack::{Builder, System};
use tokio::time::{Instant, sleep};

const TIMEOUT: Duration = Duration::from_secs(30);
const GROUP: &str = "group_entries";

fn builder() -> Builder {
    Builder::new()
        .unlimited()
        .set("IM__GROUPS__AUTO_CREATE", "false")
        .set("IM__GROUPS__SYSTEM_MESSAGES", "true")
}

async fn create(system: &System, members: &[&str]) {
    let body = json!({"conversation_id": GROUP, "name": "Entries", "members": members});
    system.http(0, "ann").ok("POST", "/api/groups", Some(body)).await.unwrap();
}

/// What a change is called by its entry: `(type, by, user_ids)`, and `name` or `role`.
fn said(message: &Value) -> (String, String, Vec<String>, Value) {
    assert_eq!((&message["msg_type"], &message["content"]), (&json!(8), &json!("")), "{message}");
    let meta = &message["meta"];
    assert_eq!(message["sender_id"], meta["by"], "{message}");
    let text = |key: &str| meta[key].as_str().unwrap().to_owned();
    let users = meta["user_ids"].as_array().unwrap().iter();
    let users = users.map(|user| user.as_str().unwrap().to_owned()).collect();
    let more = meta.get("name").or(meta.get("role")).cloned().unwrap_or_default();
    (text("type"), text("by"), users, more)
}

fn says(kind: &str, by: &str, users: &[&str], more: Value) -> (String, String, Vec<String>, Value) {
    (kind.to_owned(), by.to_owned(), users.iter().map(|user| (*user).to_owned()).collect(), more)
}

async fn page(http: &Http, query: &str) -> Vec<Value> {
    let path = format!("/api/conversations/{GROUP}/messages?limit=500{query}");
    http.ok("GET", &path, None).await.unwrap()["payload"].as_array().unwrap().clone()
}

/// The group in the user's list.
async fn entry(http: &Http) -> Value {
    let list = http.ok("GET", "/api/conversations", None).await.unwrap();
    let all = list["conversations"].as_array().unwrap().clone();
    all.into_iter().find(|entry| entry["conversation_id"] == GROUP).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_change_of_a_group_is_one_entry() {
    let system = builder().for_test().await.unwrap();
    create(&system, &["bob", "eve"]).await;
    let (ann, bob) = (system.http(0, "ann"), system.http(1, "bob"));
    let shown = entry(&bob).await;
    assert_eq!((&shown["last_seq"], &shown["unread"]), (&json!(1), &json!(0)), "{shown}");
    assert_eq!(shown.get("last_message"), None);

    let members = format!("/api/groups/{GROUP}/members");
    let group = format!("/api/groups/{GROUP}");
    let of = |user: &str| format!("{members}/{user}");
    ann.ok("POST", &members, Some(json!({"user_ids": ["eve", "dan", "carl"]}))).await.unwrap();
    ann.ok("POST", &members, Some(json!({"user_ids": ["eve"]}))).await.unwrap(); // changes nothing
    ann.ok("PATCH", &of("bob"), Some(json!({"role": "admin"}))).await.unwrap();
    ann.ok("PATCH", &of("bob"), Some(json!({"role": "admin"}))).await.unwrap(); // changes nothing
    bob.ok("PATCH", &of("dan"), Some(json!({"muted_until": 4_000_000_000_000_u64}))).await.unwrap(); // no entry
    bob.ok("PATCH", &group, Some(json!({"name": "A \"b\"", "notice": "n"}))).await.unwrap();
    bob.ok("PATCH", &group, Some(json!({"name": "A \"b\"", "muted": false}))).await.unwrap(); // the same name
    bob.ok("DELETE", &of("dan"), None).await.unwrap();
    system.http(1, "carl").ok("DELETE", &of("carl"), None).await.unwrap();
    ann.ok("PATCH", &of("bob"), Some(json!({"role": "owner"}))).await.unwrap();
    let operator = Http::of_operator(&system.http_urls()[1], system.operator_key());
    operator.ok("POST", &members, Some(json!({"user_ids": ["dan"]}))).await.unwrap();

    let none = Value::Null;
    let expected = [
        says("created", "ann", &["bob", "eve"], none.clone()),
        says("joined", "ann", &["carl", "dan"], none.clone()),
        says("role", "ann", &["bob"], json!("admin")),
        says("renamed", "bob", &[], json!("A \"b\"")),
        says("removed", "bob", &["dan"], none.clone()),
        says("left", "carl", &["carl"], none.clone()),
        says("role", "ann", &["bob"], json!("owner")),
        says("joined", "operator", &["dan"], none),
    ];
    let messages = page(&bob, "").await;
    assert_eq!(messages.iter().map(said).collect::<Vec<_>>(), expected);
    assert_eq!(
        messages.iter().map(|m| m["seq"].as_u64().unwrap()).collect::<Vec<_>>(),
        [1, 2, 3, 4, 5, 6, 7, 8]
    );
    assert_eq!(page(&bob, "&changes=false").await, Vec::<Value>::new());
    let shown = entry(&system.http(0, "eve")).await;
    assert_eq!((&shown["last_seq"], &shown["unread"]), (&json!(8), &json!(0)));
    // Who came back sees what is after that, with history from the start everything.
    assert_eq!(page(&system.http(0, "dan"), "").await.len(), 8);
    let one = bob.ok("GET", &format!("/api/conversations/{GROUP}/messages/4"), None).await.unwrap();
    assert_eq!(one, messages[3]);
    system.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn members_get_entries_as_pushes_and_may_answer_but_not_change_them() {
    let system = builder().for_test().await.unwrap();
    create(&system, &["bob"]).await;
    let url =
        |gateway: usize, user: &str| format!("{}?user_id={user}&device_id=d", system.ws_urls()[gateway]);
    let mut clients = Vec::new();
    for (gateway, user) in [(0, "ann"), (1, "bob"), (1, "eve")] {
        let mut client = Client::open(&url(gateway, user)).await.unwrap();
        client.request(0, r#"{"cmd":0}"#).await.unwrap();
        clients.push(client);
    }
    let ann = system.http(0, "ann");
    ann.ok("POST", &format!("/api/groups/{GROUP}/members"), Some(json!({"user_ids": ["eve"]})))
        .await
        .unwrap();
    for client in &mut clients {
        // The new member, too, and the one who made the change.
        let is_entry =
            |packet: &testbed::client::Packet| packet.cmd == 5 && packet.payload[0]["msg_type"] == 8;
        let pushed = client.wait_for(is_entry).await.unwrap();
        assert_eq!(said(&pushed.payload[0]), says("joined", "ann", &["eve"], Value::Null));
    }
    let send = format!("/api/conversations/{GROUP}/messages");
    for (payload, code) in [
        (json!({"msg_type": 8, "content": "x"}), 400),
        (json!({"msg_type": 8}), 400),
        (json!({"msg_type": 3, "recall_seq": 2}), 404),
        (json!({"msg_type": 4, "edit_seq": 2, "content": "x"}), 403),
        (json!({"content": "welcome", "reply_to": 2}), 200),
        (json!({"msg_type": 5, "react_seq": 2, "reaction": "+1"}), 200),
    ] {
        let (status, answer) = ann.call("POST", &send, Some(&json!({"payload": payload}))).await.unwrap();
        assert_eq!(status, code, "{payload}: {answer}");
    }
    system.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn large_groups_show_no_joins_and_a_setting_switches_entries_off() {
    let system = builder().set("IM__GROUPS__LARGE_ABOVE", 3).for_test().await.unwrap();
    create(&system, &["b", "c", "d"]).await;
    let ann = system.http(0, "ann");
    let members = format!("/api/groups/{GROUP}/members");
    ann.ok("POST", &members, Some(json!({"user_ids": ["e"]}))).await.unwrap();
    system.http(1, "e").ok("DELETE", &format!("{members}/e"), None).await.unwrap();
    ann.ok("PATCH", &format!("/api/groups/{GROUP}"), Some(json!({"name": "Large"}))).await.unwrap();
    let kinds: Vec<String> = page(&ann, "").await.iter().map(|message| said(message).0).collect();
    assert_eq!(kinds, ["created", "renamed"]);
    let features = Http::of_nobody(&system.http_urls()[0]).ok("GET", "/api", None).await.unwrap();
    assert!(features["features"].as_array().unwrap().contains(&json!("system")), "{features}");
    system.stop().await;

    let system = builder().set("IM__GROUPS__SYSTEM_MESSAGES", "false").for_test().await.unwrap();
    create(&system, &["b"]).await;
    assert_eq!(page(&system.http(0, "ann"), "").await, Vec::<Value>::new());
    let features = Http::of_nobody(&system.http_urls()[0]).ok("GET", "/api", None).await.unwrap();
    assert!(!features["features"].as_array().unwrap().contains(&json!("system")), "{features}");
    system.stop().await;
}

/// The change is committed, and its gateway dies before the entry is stored: the workers are stopped meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn an_entry_is_there_once_although_the_gateway_was_killed() {
    let mut system = builder().for_test().await.unwrap();
    create(&system, &["bob"]).await;
    for n in 0..system.worker_count() {
        system.worker(n).kill();
    }
    let (ann, bob) = (system.http(0, "ann"), system.http(1, "bob"));
    let rename = async |http: &Http, name: &str| {
        http.ok("PATCH", &format!("/api/groups/{GROUP}"), Some(json!({"name": name}))).await.unwrap();
    };
    // Answered although the entry is not stored.
    rename(&ann, "first").await;
    rename(&ann, "second").await;
    system.gateway(0).kill();
    for n in 0..system.worker_count() {
        system.worker(n).start_again().await.unwrap();
    }
    let deadline = Instant::now() + TIMEOUT;
    let names = loop {
        let messages = page(&bob, "").await;
        let names: Vec<Value> = messages.iter().skip(1).map(|message| said(message).3).collect();
        if names.len() >= 2 {
            break names;
        }
        assert!(Instant::now() < deadline, "{messages:?}");
        sleep(Duration::from_millis(100)).await;
    };
    assert_eq!(names, ["first", "second"]);
    // Long enough for another look at the entries that were left: none is sent twice.
    system.gateway(0).start_again().await.unwrap();
    rename(&system.http(0, "ann"), "third").await;
    sleep(Duration::from_secs(12)).await;
    assert_eq!(page(&bob, "").await.len(), 4);
    system.stop().await;
}
