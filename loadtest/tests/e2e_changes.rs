//! Edits, reactions, pins, mentions, answers and `meta`: two gateways and two workers on real stores.

#![allow(clippy::unwrap_used)] // a failed helper is a failed test

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use testbed::client::{Client, Http, Packet};
use testbed::stack::{Builder, System};

const TIMEOUT: Duration = Duration::from_secs(30);
const GROUP: &str = "group_changes";

async fn system() -> System {
    let system = Builder::new().unlimited().set("IM__GROUPS__AUTO_CREATE", "false").for_test().await.unwrap();
    let body = json!({"conversation_id": GROUP, "name": "Changes", "members": ["bob", "carol", "dave"]});
    system.http(0, "alice").ok("POST", "/api/groups", Some(body)).await.unwrap();
    system
}

/// A client whose pushes are on.
async fn connect(system: &System, gateway: usize, user: &str) -> Client {
    let url = format!("{}?user_id={user}&device_id=d{gateway}", system.ws_urls()[gateway]);
    let mut client = Client::open(&url).await.unwrap();
    client.request(0, r#"{"cmd":0}"#).await.unwrap();
    client
}

async fn send(client: &mut Client, conversation: &str, msg_id: &str, payload: Value) -> Packet {
    let mut payload = payload;
    payload["ack"] = "stored".into();
    let frame = json!({"cmd": 2, "msg_id": msg_id, "conversation_id": conversation, "payload": payload});
    client.send(frame.to_string()).await.unwrap();
    // A refusal at the commit comes as a second answer to all connections, too.
    client.wait_for(|packet| packet.cmd == 2 && packet.msg_id.as_deref() == Some(msg_id)).await.unwrap()
}

/// Sends a message to the group and returns its number.
async fn stored(client: &mut Client, msg_id: &str, payload: Value) -> u64 {
    let reply = send(client, GROUP, msg_id, payload).await;
    assert_eq!(reply.code, 0, "{msg_id}: {}", reply.payload);
    reply.seq.unwrap()
}

async fn refused(client: &mut Client, msg_id: &str, payload: Value) -> u16 {
    send(client, GROUP, msg_id, payload).await.code
}

/// The pushed message with this id.
async fn pushed(client: &mut Client, msg_id: &str) -> Value {
    let find = |packet: &Packet| {
        let all = packet.payload.as_array().cloned().unwrap_or_default();
        all.into_iter().find(|message| message["msg_id"] == msg_id)
    };
    let packet = client.wait_for(|packet| packet.cmd == 5 && find(packet).is_some()).await.unwrap();
    find(&packet).unwrap()
}

async fn page(http: &Http, query: &str) -> Vec<Value> {
    let path = format!("/api/conversations/{GROUP}/messages?limit=500{query}");
    http.ok("GET", &path, None).await.unwrap()["payload"].as_array().unwrap().clone()
}

async fn one(http: &Http, seq: u64) -> Value {
    http.ok("GET", &format!("/api/conversations/{GROUP}/messages/{seq}"), None).await.unwrap()
}

/// The group in the user's list.
async fn entry(client: &mut Client) -> Value {
    let reply = client.request(6, r#"{"cmd":6}"#).await.unwrap();
    let all = reply.payload.as_array().unwrap();
    all.iter().find(|entry| entry["conversation_id"] == GROUP).unwrap().clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_is_pushed_pulled_and_shown_in_its_present_state() {
    let system = system().await;
    let mut alice = connect(&system, 0, "alice").await;
    let mut bob = connect(&system, 1, "bob").await;
    let first = stored(&mut alice, "m1", json!({"content": "old", "meta": {"b": 1.50, "a": []}})).await;
    assert_eq!(pushed(&mut bob, "m1").await["meta"], json!({"b": 1.50, "a": []}));
    let answer = json!({"content": "yes", "reply_to": first, "mentions": ["carol", "eve", "bob"]});
    let second = stored(&mut bob, "m2", answer).await;
    let shown = pushed(&mut alice, "m2").await;
    assert_eq!((&shown["reply_to"], &shown["mentions"]), (&json!(first), &json!(["carol", "eve", "bob"])));
    stored(&mut alice, "e1", json!({"msg_type": 4, "edit_seq": first, "content": "new", "send_time": 5_000}))
        .await;
    let edit = pushed(&mut bob, "e1").await;
    assert_eq!((&edit["edit_seq"], &edit["content"]), (&json!(first), &json!("new")));
    stored(&mut bob, "r1", json!({"msg_type": 5, "react_seq": first, "reaction": "👍"})).await;
    let reaction = pushed(&mut alice, "r1").await;
    assert_eq!((&reaction["react_seq"], &reaction["reaction"]), (&json!(first), &json!("👍")));
    stored(&mut alice, "p1", json!({"msg_type": 6, "pin_seq": first})).await;
    assert_eq!(pushed(&mut bob, "p1").await["pin_seq"], first);
    let app = stored(&mut alice, "a1", json!({"msg_type": 100, "meta": {"lat": 52.5}})).await;

    let carol = system.http(1, "carol");
    for messages in [page(&carol, "").await, page(&carol, "&direction=backward").await] {
        let found = messages.iter().find(|message| message["seq"] == first).unwrap();
        assert_eq!(found, &one(&carol, first).await);
        assert_eq!((&found["content"], &found["edited_at"]), (&json!("new"), &json!(5_000)));
        assert_eq!(found["reactions"], json!([{"reaction": "👍", "count": 1, "user_ids": ["bob"]}]));
        assert_eq!(found["meta"], json!({"b": 1.50, "a": []}));
        assert_eq!(messages.len(), 6);
    }
    let plain: Vec<Value> = page(&carol, "&changes=false").await;
    let seqs: Vec<_> = plain.iter().map(|message| message["seq"].as_u64().unwrap()).collect();
    assert_eq!(seqs, [first, second, app]);
    let path = format!("/api/conversations/{GROUP}/messages?changes=false&cursor_seq={second}&limit=1");
    let last = carol.ok("GET", &path, None).await.unwrap();
    assert_eq!((&last["next_cursor_seq"], &last["has_more"]), (&json!(app), &json!(false)));
    let pins = carol.ok("GET", &format!("/api/conversations/{GROUP}/pins"), None).await.unwrap();
    assert_eq!(pins["messages"], json!([one(&carol, first).await]));
    let path = format!("/api/conversations/{GROUP}/messages/{first}/reactions");
    let all = carol.ok("GET", &path, None).await.unwrap();
    assert_eq!(
        (&all["reactions"][0]["user_id"], all["reactions"].as_array().unwrap().len()),
        (&json!("bob"), 1)
    );
    system.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_show_the_last_message_unread_messages_and_mentions() {
    let system = system().await;
    let mut alice = connect(&system, 0, "alice").await;
    let mut carol = connect(&system, 1, "carol").await;
    let first = stored(&mut alice, "m1", json!({"content": "one"})).await;
    let second = stored(&mut alice, "m2", json!({"content": "two @carol", "mentions": ["carol"]})).await;
    stored(&mut alice, "r1", json!({"msg_type": 5, "react_seq": first, "reaction": "x"})).await;
    stored(&mut alice, "e1", json!({"msg_type": 4, "edit_seq": second, "content": "two, @carol"})).await;
    let shown = entry(&mut carol).await;
    assert_eq!(
        (&shown["unread"], &shown["mentions"], &shown["mention_seq"]),
        (&json!(2), &json!(1), &json!(second))
    );
    assert_eq!(shown["last_message"]["content"], "two, @carol", "the newest message, in its present state");
    assert_eq!(entry(&mut alice).await.get("mentions"), None);
    // An edit takes the mention away, and another one adds one for everyone.
    stored(&mut alice, "e2", json!({"msg_type": 4, "edit_seq": second, "content": "two", "mentions": []}))
        .await;
    assert_eq!(entry(&mut carol).await.get("mentions"), None);
    stored(&mut alice, "e3", json!({"msg_type": 4, "edit_seq": first, "content": "all", "mentions": ["*"]}))
        .await;
    let shown = entry(&mut carol).await;
    assert_eq!((&shown["mentions"], &shown["mention_seq"]), (&json!(1), &json!(first)));
    // Reading past them clears them; so does a recall.
    let ack = json!({"cmd": 4, "conversation_id": GROUP, "cursor_seq": first}).to_string();
    carol.request(4, ack).await.unwrap();
    let shown = entry(&mut carol).await;
    assert_eq!((shown.get("mentions"), &shown["unread"]), (None, &json!(1)));
    let third = stored(&mut alice, "m3", json!({"content": "x", "mentions": ["carol"]})).await;
    assert_eq!(entry(&mut carol).await["mention_seq"], third);
    stored(&mut alice, "x3", json!({"msg_type": 3, "recall_seq": third})).await;
    let shown = entry(&mut carol).await;
    assert_eq!((shown.get("mentions"), &shown["unread"]), (None, &json!(1)));
    assert_eq!(shown["last_message"]["recalled"], true, "a recalled message is still the last one");
    system.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_not_be_done_is_refused_and_nothing_is_stored() {
    let system = system().await;
    let mut alice = connect(&system, 0, "alice").await;
    let mut bob = connect(&system, 1, "bob").await;
    let own = stored(&mut bob, "m1", json!({"content": "own"})).await;
    let edit = stored(&mut bob, "e1", json!({"msg_type": 4, "edit_seq": own, "content": "edited"})).await;
    let gone = stored(&mut bob, "m2", json!({"content": "gone"})).await;
    let recall = stored(&mut bob, "x2", json!({"msg_type": 3, "recall_seq": gone})).await;
    let others = stored(&mut alice, "m3", json!({"content": "others"})).await;
    let future = others + 500;
    for (n, (payload, code)) in [
        (json!({"content": "x", "reply_to": future}), 404),
        (json!({"content": "x", "reply_to": edit}), 404),
        (json!({"content": "x", "reply_to": recall}), 404),
        (json!({"content": "x", "reply_to": -1}), 400),
        (json!({"content": "x", "mentions": vec!["bob"; 51]}), 400),
        (json!({"content": "x", "mentions": ["a b"]}), 400),
        (json!({"content": "x", "meta": []}), 400),
        (json!({"content": "x", "meta": {"a": "x".repeat(2_048)}}), 413),
        (json!({"msg_type": 4, "edit_seq": others, "content": "x"}), 403),
        (json!({"msg_type": 4, "edit_seq": gone, "content": "x"}), 403),
        (json!({"msg_type": 4, "edit_seq": edit, "content": "x"}), 404),
        (json!({"msg_type": 4, "edit_seq": future, "content": "x"}), 404),
        (json!({"msg_type": 4, "edit_seq": own, "content": ""}), 400),
        (json!({"msg_type": 4, "edit_seq": own, "meta": {"a": 1}}), 400),
        (json!({"msg_type": 5, "react_seq": edit, "reaction": "x"}), 404),
        (json!({"msg_type": 5, "react_seq": future, "reaction": "x"}), 404),
        (json!({"msg_type": 5, "react_seq": gone, "reaction": "x"}), 403),
        (json!({"msg_type": 5, "react_seq": own, "reaction": "x".repeat(33)}), 400),
        (json!({"msg_type": 5, "react_seq": own, "reaction": "a b"}), 400),
        (json!({"msg_type": 6, "pin_seq": own}), 403),
        (json!({"msg_type": 8, "content": "x"}), 400),
    ]
    .into_iter()
    .enumerate()
    {
        assert_eq!(refused(&mut bob, &format!("bad{n}"), payload.clone()).await, code, "{payload}");
    }
    let messages = page(&system.http(0, "carol"), "").await;
    assert_eq!(messages.len(), 5, "nothing of it is stored");
    // One combining character is a reaction like others; mentioning oneself or strangers has no effect.
    stored(&mut bob, "r1", json!({"msg_type": 5, "react_seq": own, "reaction": "\u{301}"})).await;
    stored(&mut bob, "m4", json!({"content": "x", "mentions": ["bob", "eve"]})).await;
    // A member who joined later sees and changes nothing from before.
    let http_alice = system.http(0, "alice");
    let path = format!("/api/groups/{GROUP}");
    http_alice.ok("PATCH", &path, Some(json!({"history": "joining"}))).await.unwrap();
    http_alice.ok("POST", &format!("{path}/members"), Some(json!({"user_ids": ["late"]}))).await.unwrap();
    let mut late = connect(&system, 1, "late").await;
    for payload in
        [json!({"content": "x", "reply_to": own}), json!({"msg_type": 5, "react_seq": own, "reaction": "x"})]
    {
        assert_eq!(refused(&mut late, "bad", payload.clone()).await, 404, "{payload}");
    }
    let path = format!("/api/conversations/{GROUP}/messages/{own}");
    assert_eq!(system.http(0, "late").refused("GET", &path, None).await.unwrap(), 404);
    system.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reaction_that_changes_nothing_is_answered_and_a_retry_gives_its_number_again() {
    let system = system().await;
    let mut alice = connect(&system, 0, "alice").await;
    let first = stored(&mut alice, "m1", json!({"content": "x"})).await;
    let add = json!({"msg_type": 5, "react_seq": first, "reaction": "x"});
    let remove = json!({"msg_type": 5, "react_seq": first, "reaction": "x", "remove": true});
    let added = stored(&mut alice, "r1", add.clone()).await;
    let unchanged = stored(&mut alice, "r2", add.clone()).await;
    assert!(unchanged > added);
    assert_eq!(stored(&mut alice, "r2", add.clone()).await, unchanged);
    let removed = stored(&mut alice, "r3", remove.clone()).await;
    assert_eq!(stored(&mut alice, "r4", remove.clone()).await, removed + 1);
    // The one that changed nothing is sent again: it changes nothing now either.
    assert_eq!(stored(&mut alice, "r2", add.clone()).await, unchanged);
    assert_eq!(stored(&mut alice, "r1", add).await, added);
    assert_eq!(one(&system.http(1, "bob"), first).await.get("reactions"), None);
    // The number of an entry that changed nothing is not waited for.
    let begun = Instant::now();
    let next = stored(&mut alice, "m2", json!({"content": "y"})).await;
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    let seqs = page(&system.http(1, "bob"), "").await;
    let seqs: Vec<_> = seqs.iter().map(|message| message["seq"].as_u64().unwrap()).collect();
    assert_eq!(seqs, [first, added, removed, next]);
    system.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recall_after_edits_leaves_no_copy_of_the_content() {
    let system = system().await;
    let mut alice = connect(&system, 0, "alice").await;
    let secret = |n: u32| format!("secret-{n}");
    let body = json!({"content": secret(0), "meta": {"k": secret(1)}, "mentions": ["secret-user"]});
    let first = stored(&mut alice, "m1", body).await;
    let edit = json!({"msg_type": 4, "edit_seq": first, "content": secret(2), "meta": {"k": secret(3)}});
    stored(&mut alice, "e1", edit.clone()).await;
    stored(&mut alice, "e2", json!({"msg_type": 4, "edit_seq": first, "content": secret(4)})).await;
    stored(&mut alice, "r1", json!({"msg_type": 5, "react_seq": first, "reaction": "x"})).await;
    stored(&mut alice, "p1", json!({"msg_type": 6, "pin_seq": first})).await;
    stored(&mut alice, "x1", json!({"msg_type": 3, "recall_seq": first})).await;
    let pool = sqlx::MySqlPool::connect(&system.urls.mysql).await.unwrap();
    let left: i64 = sqlx::query_scalar(
        "SELECT COUNT(*) FROM timeline_message WHERE content LIKE '%secret%' OR extra LIKE '%secret%'",
    )
    .fetch_one(&pool)
    .await
    .unwrap();
    assert_eq!(left, 0);
    for table in ["message_reaction", "reaction_summary", "message_pin", "message_mention"] {
        let text = format!("SELECT COUNT(*) FROM {table}");
        let left: i64 = sqlx::query_scalar(sqlx::AssertSqlSafe(text)).fetch_one(&pool).await.unwrap();
        assert_eq!(left, 0, "{table}");
    }
    let shown = one(&system.http(1, "bob"), first).await;
    assert_eq!((&shown["recalled"], &shown["content"]), (&json!(true), &json!("")));
    for field in ["meta", "mentions", "reactions", "edited_at"] {
        assert_eq!(shown.get(field), None, "{field}");
    }
    // A retry of what was blanked is still known.
    assert_eq!(send(&mut alice, GROUP, "e1", edit).await.code, 0);
    system.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_are_sent_over_http_by_the_same_rules() {
    let system = system().await;
    let mut bob = connect(&system, 1, "bob").await;
    let alice = system.http(0, "alice");
    let path = format!("/api/conversations/{GROUP}/messages");
    let body = json!({"msg_id": "h1", "payload": {"content": "hello", "meta": {"a": 1}}});
    let sent = alice.ok("POST", &path, Some(body.clone())).await.unwrap();
    assert_eq!((&sent["cmd"], &sent["code"], &sent["msg_id"]), (&json!(2), &json!(0), &json!("h1")));
    assert_eq!(pushed(&mut bob, "h1").await["meta"], json!({"a": 1}));
    assert_eq!(alice.ok("POST", &path, Some(body)).await.unwrap()["seq"], sent["seq"], "a retry");
    let mut socket = connect(&system, 1, "alice").await;
    assert_eq!(stored(&mut socket, "h1", json!({"content": "hello"})).await, sent["seq"].as_u64().unwrap());
    for (body, code) in [
        (json!({"payload": {"content": ""}}), 400),
        (json!({"payload": []}), 400),
        (json!({}), 400),
        (json!({"payload": {"msg_type": 5, "react_seq": 900, "reaction": "x"}}), 404),
        (json!({"msg_id": "h1", "payload": {"msg_type": 2, "content": "x"}}), 409),
    ] {
        assert_eq!(alice.refused("POST", &path, Some(body.clone())).await.unwrap(), code, "{body}");
    }
    let body = Some(json!({"payload": {"content": "x"}}));
    assert_eq!(system.http(0, "eve").refused("POST", &path, body).await.unwrap(), 403);
    system.stop().await;
}

/// What a client has that applies the entries in their order to an empty view: content, and who reacted how.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct Shown {
    content: String,
    reactions: BTreeMap<String, Vec<String>>,
}

fn applied(entries: &[Value]) -> BTreeMap<u64, Shown> {
    let mut view: BTreeMap<u64, Shown> = BTreeMap::new();
    for entry in entries {
        let text = |field: &str| entry[field].as_str().unwrap_or_default().to_owned();
        let of = |field: &str| entry[field].as_u64().unwrap();
        match entry["msg_type"].as_u64().unwrap() {
            4 => view.get_mut(&of("edit_seq")).unwrap().content = text("content"),
            5 => {
                let reactions = &mut view.get_mut(&of("react_seq")).unwrap().reactions;
                let users = reactions.entry(text("reaction")).or_default();
                match entry["remove"].as_bool() {
                    Some(true) => users.retain(|user| *user != text("sender_id")),
                    _ => users.push(text("sender_id")),
                }
                reactions.retain(|_, users| !users.is_empty());
            }
            _ => drop(view.insert(of("seq"), Shown { content: text("content"), ..Shown::default() })),
        }
    }
    view
}

fn pulled(entries: &[Value]) -> BTreeMap<u64, Shown> {
    let messages = entries.iter().filter(|entry| entry["msg_type"] == 1);
    let shown = messages.map(|entry| {
        let users = |one: &Value| serde_json::from_value(one["user_ids"].clone()).unwrap();
        let reactions = entry["reactions"].as_array().cloned().unwrap_or_default();
        let reactions =
            reactions.iter().map(|one| (one["reaction"].as_str().unwrap().to_owned(), users(one))).collect();
        let content = entry["content"].as_str().unwrap().to_owned();
        (entry["seq"].as_u64().unwrap(), Shown { content, reactions })
    });
    shown.collect()
}

/// Sends until it is answered with success, whatever dies meanwhile.
async fn insist(client: &mut Client, msg_id: &str, payload: &Value) {
    let begun = Instant::now();
    loop {
        let reply = send(client, GROUP, msg_id, payload.clone()).await;
        match reply.code {
            0 => return,
            503 if begun.elapsed() < TIMEOUT => tokio::time::sleep(Duration::from_millis(50)).await,
            code => panic!("{msg_id}: {code} {}", reply.payload),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_workers_neither_lose_nor_repeat_changes() {
    let mut system = system().await;
    let mut alice = connect(&system, 0, "alice").await;
    let first = stored(&mut alice, "m1", json!({"content": "v0"})).await;
    let senders = ["bob", "carol", "dave"].map(|user| {
        let url = format!("{}?user_id={user}&device_id=d", system.ws_urls()[1]);
        tokio::spawn(async move {
            let mut client = Client::open(&url).await.unwrap();
            for n in 0..60 {
                // Each pair ends where it began, but for the last one.
                let remove = n % 2 == 1 && n < 59;
                let reaction = if n >= 58 { "last" } else { "x" };
                let payload =
                    json!({"msg_type": 5, "react_seq": first, "reaction": reaction, "remove": remove});
                insist(&mut client, &format!("{user}-{n}"), &payload).await;
            }
        })
    });
    for n in 1..=40 {
        let payload = json!({"msg_type": 4, "edit_seq": first, "content": format!("v{n}")});
        insist(&mut alice, &format!("e{n}"), &payload).await;
        if n % 20 == 10 {
            let worker = system.worker(n / 20);
            worker.kill();
            worker.start_again().await.unwrap();
        }
    }
    for sender in senders {
        sender.await.unwrap();
    }
    let entries = page(&system.http(0, "bob"), "").await;
    assert_eq!(pulled(&entries), applied(&entries), "the entries say what the message shows");
    let shown = &pulled(&entries)[&first];
    assert_eq!(shown.content, "v40");
    let mut users = shown.reactions["last"].clone();
    users.sort_unstable();
    assert_eq!((users, shown.reactions.len()), (vec!["bob".into(), "carol".into(), "dave".into()], 1));
    system.stop().await;
}

/// What one batch takes back and does again: the rows are written once, and no shard stops.
#[tokio::test(flavor = "multi_thread")]
async fn a_batch_takes_back_what_is_stored_and_does_it_again() {
    let mut system = system().await;
    let mut alice = connect(&system, 0, "alice").await;
    let first = stored(&mut alice, "m1", json!({"content": "one"})).await;
    let react = |remove: bool| json!({"msg_type": 5, "react_seq": first, "reaction": "x", "remove": remove});
    let pin = |remove: bool| json!({"msg_type": 6, "pin_seq": first, "remove": remove});
    stored(&mut alice, "r0", react(false)).await;
    stored(&mut alice, "p0", pin(false)).await;
    for n in 0..system.worker_count() {
        system.worker(n).kill();
    }
    let again = [true, false, true, false];
    let changes = again.iter().flat_map(|remove| [react(*remove), pin(*remove)]).enumerate();
    let mut ids = Vec::new();
    for (n, mut payload) in changes {
        let id = format!("c{n}");
        payload["ack"] = "stored".into();
        let frame = json!({"cmd": 2, "msg_id": id, "conversation_id": GROUP, "payload": payload});
        alice.send(frame.to_string()).await.unwrap();
        ids.push(id);
    }
    for n in 0..system.worker_count() {
        system.worker(n).start_again().await.unwrap();
    }
    let bob = system.http(1, "bob");
    let last = stored(&mut alice, "m2", json!({"content": "two"})).await;
    let entries = page(&bob, "").await;
    assert_eq!(entries.last().unwrap()["seq"], last);
    assert_eq!(entries.len(), 4 + ids.len(), "{entries:?}");
    let without_pins: Vec<Value> = entries.into_iter().filter(|entry| entry["msg_type"] != 6).collect();
    assert_eq!(pulled(&without_pins), applied(&without_pins), "the entries say what the message shows");
    let shown = one(&bob, first).await;
    assert_eq!(shown["reactions"], json!([{"reaction": "x", "count": 1, "user_ids": ["alice"]}]));
    let pins = bob.ok("GET", &format!("/api/conversations/{GROUP}/pins"), None).await.unwrap();
    assert_eq!(pins["messages"], json!([shown]));
    system.stop().await;
}
