//! A user's own view of its conversations, and presence events: two gateways and two workers on real stores.

#![allow(clippy::unwrap_used)] // a failed helper is a failed test

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use testbed::client::{Client, Http, Packet};
use testbed::stack::{Builder, System, wait_for};

const TIMEOUT: Duration = Duration::from_secs(30);
const GROUP: &str = "group_views";
const CHAT: &str = "private_alice_bob";

async fn system() -> System {
    let system = Builder::new().unlimited().set("IM__GROUPS__AUTO_CREATE", "false").for_test().await.unwrap();
    let body = json!({"conversation_id": GROUP, "name": "Views", "members": ["bob", "carol"]});
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

/// Sends a message and returns its number when it is committed.
async fn stored(client: &mut Client, conversation: &str, msg_id: &str, mut payload: Value) -> u64 {
    payload["ack"] = "stored".into();
    let reply = send(client, conversation, msg_id, payload).await;
    assert_eq!(reply.code, 0, "{msg_id}: {}", reply.payload);
    reply.seq.unwrap()
}

async fn send(client: &mut Client, conversation: &str, msg_id: &str, payload: Value) -> Packet {
    let frame = json!({"cmd": 2, "msg_id": msg_id, "conversation_id": conversation, "payload": payload});
    client.send(frame.to_string()).await.unwrap();
    client.wait_for(|packet| packet.cmd == 2 && packet.msg_id.as_deref() == Some(msg_id)).await.unwrap()
}

async fn event(client: &mut Client, kind: &str) -> Value {
    let event = client.wait_for(|packet| packet.event() == Some(kind));
    tokio::time::timeout(TIMEOUT, event).await.unwrap_or_else(|_| panic!("no event {kind}")).unwrap().payload
}

/// The events of this kind that came before the answer to a heartbeat.
async fn events_until_now(client: &mut Client, kind: &str) -> Vec<Value> {
    client.send(r#"{"cmd":0}"#).await.unwrap();
    let mut events = Vec::new();
    loop {
        let packet = client.next().await.unwrap();
        match packet.event() {
            _ if packet.cmd == 0 => return events,
            Some(found) if found == kind => events.push(packet.payload),
            _ => {}
        }
    }
}

/// The entries of a sync from `cursor`, and the next cursor.
async fn sync(client: &mut Client, cursor: u64) -> (Vec<Value>, u64) {
    let reply = client.request(6, json!({"cmd": 6, "cursor_seq": cursor}).to_string()).await.unwrap();
    assert_eq!(reply.code, 0, "{}", reply.payload);
    (reply.payload.as_array().unwrap().clone(), reply.next_cursor_seq.unwrap())
}

/// The entries of a sync that has some: a commit reaches inboxes after its sender is answered.
async fn changed(client: &mut Client, cursor: u64) -> (Vec<Value>, u64) {
    let deadline = Instant::now() + TIMEOUT;
    loop {
        let (entries, next) = sync(client, cursor).await;
        if !entries.is_empty() {
            return (entries, next);
        }
        assert!(Instant::now() < deadline, "nothing changed after {cursor}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn of<'v>(entries: &'v [Value], conversation: &str) -> Option<&'v Value> {
    entries.iter().find(|entry| entry["conversation_id"] == conversation)
}

async fn listed(http: &Http, conversation: &str) -> Option<Value> {
    let list = http.ok("GET", "/api/conversations", None).await.unwrap();
    of(list["conversations"].as_array().unwrap(), conversation).cloned()
}

async fn patch(http: &Http, conversation: &str, body: Value) -> Value {
    let path = format!("/api/conversations/{conversation}");
    http.ok("PATCH", &path, Some(body)).await.unwrap()["settings"].clone()
}

async fn clear(http: &Http, conversation: &str) {
    http.ok("DELETE", &format!("/api/conversations/{conversation}"), None).await.unwrap();
}

/// The numbers of messages and changes, without what the server adds.
fn numbers(messages: &Value) -> Vec<u64> {
    let sent = messages.as_array().unwrap().iter().filter(|message| message["msg_type"] != 8);
    sent.map(|message| message["seq"].as_u64().unwrap()).collect()
}

async fn page(http: &Http, conversation: &str, query: &str) -> Vec<u64> {
    let path = format!("/api/conversations/{conversation}/messages?{query}");
    numbers(&http.ok("GET", &path, None).await.unwrap()["payload"])
}

async fn pull(client: &mut Client, conversation: &str) -> Vec<u64> {
    numbers(&client.pull(conversation, 0, 100).await.unwrap().payload)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_device_sets_is_seen_by_the_others_by_event_and_by_sync() {
    let system = system().await;
    let mut phone = connect(&system, 0, "alice").await;
    let mut tablet = connect(&system, 1, "alice").await;
    let mut bob = connect(&system, 1, "bob").await;
    stored(&mut bob, CHAT, "m1", json!({"content": "one"})).await;
    let (entries, cursor) = sync(&mut tablet, 0).await;
    assert_eq!(of(&entries, CHAT).unwrap().get("settings"), None);

    let alice = system.http(0, "alice");
    let all = json!({"muted_until": -1, "pinned": true, "archived": true, "marked_unread": true, "draft": "Dé\0😀"});
    assert_eq!(patch(&alice, "-?to=bob", all.clone()).await, all);
    for client in [&mut phone, &mut tablet] {
        assert_eq!(event(client, "settings").await["settings"], all);
    }
    let (entries, cursor) = sync(&mut tablet, cursor).await;
    assert_eq!(of(&entries, CHAT).unwrap()["settings"], all);
    assert_eq!(of(&entries, CHAT).unwrap()["unread"], 1, "a mark is no message");
    assert_eq!(listed(&system.http(1, "alice"), CHAT).await.unwrap()["settings"], all);
    assert_eq!(listed(&system.http(1, "bob"), CHAT).await.unwrap().get("settings"), None);

    // The same again is no change; what is taken back is not shown any more.
    patch(&alice, CHAT, json!({"pinned": true, "draft": null, "archived": false})).await;
    patch(&alice, CHAT, json!({"pinned": true})).await;
    let less = json!({"muted_until": -1, "pinned": true, "marked_unread": true});
    assert_eq!(event(&mut tablet, "settings").await["settings"], less);
    // Reading ends the mark, also where the position does not move, and the device that reads is not told.
    let ack = json!({"cmd": 4, "conversation_id": CHAT, "cursor_seq": 0}).to_string();
    phone.request(4, ack).await.unwrap();
    let less = json!({"muted_until": -1, "pinned": true});
    assert_eq!(event(&mut tablet, "settings").await["settings"], less);
    assert_eq!(events_until_now(&mut phone, "settings").await.len(), 1, "the change over HTTP before");
    let (entries, _) = sync(&mut tablet, cursor).await;
    assert_eq!(of(&entries, CHAT).unwrap()["settings"], less);
    patch(&alice, CHAT, json!({"marked_unread": true})).await;
    event(&mut tablet, "settings").await;
    let ack = json!({"cmd": 4, "conversation_id": CHAT, "cursor_seq": 1}).to_string();
    tablet.request(4, ack).await.unwrap();
    wait_for("the mark is gone", TIMEOUT, async || {
        let settings = listed(&alice, CHAT).await.unwrap()["settings"].clone();
        anyhow::ensure!(settings == less, "{settings}");
        Ok(())
    })
    .await
    .unwrap();
    patch(&alice, CHAT, json!({"muted_until": 0, "pinned": false})).await;
    assert_eq!(listed(&alice, CHAT).await.unwrap().get("settings"), None);
    // Pushes go on for a muted conversation.
    patch(&alice, GROUP, json!({"muted_until": 4_000_000_000_000_u64})).await;
    stored(&mut bob, GROUP, "g1", json!({"content": "x"})).await;
    phone
        .wait_for(|packet| packet.cmd == 5 && packet.conversation_id.as_deref() == Some(GROUP))
        .await
        .unwrap();
    system.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn malformed_requests_are_refused_and_change_nothing() {
    let system = system().await;
    let alice = system.http(0, "alice");
    let refused = async |http: &Http, method: &str, conversation: &str, body: Value| {
        let path = format!("/api/conversations/{conversation}");
        http.call(method, &path, Some(&body)).await.unwrap().0
    };
    for (body, expected) in [
        (json!({}), 400),
        (json!({"color": "red"}), 400),
        (json!({"pinned": null}), 400),
        (json!({"pinned": "yes"}), 400),
        (json!({"archived": 1}), 400),
        (json!({"marked_unread": []}), 400),
        (json!({"muted_until": "never"}), 400),
        (json!({"muted_until": -2}), 400),
        (json!({"muted_until": 1.5}), 400),
        (json!({"draft": 5}), 400),
        (json!({"draft": {"text": "x"}}), 400),
        (json!({"draft": "x".repeat(4_097)}), 413),
        (json!({"draft": "é".repeat(2_049)}), 413),
        (json!({"pinned": true, "draft": "x".repeat(5_000)}), 413),
    ] {
        assert_eq!(refused(&alice, "PATCH", GROUP, body.clone()).await, expected, "{body}");
    }
    assert_eq!(listed(&alice, GROUP).await.unwrap().get("settings"), None);
    for (user, conversation, expected) in [
        ("eve", GROUP, 403),
        ("eve", CHAT, 403),
        ("eve", "group_nowhere", 404),
        ("eve", "room", 400),
        ("eve", "private_eve", 400),
        ("alice", "-?to=", 400),
        ("alice", "-", 400),
    ] {
        let http = system.http(1, user);
        for method in ["PATCH", "DELETE"] {
            let status = refused(&http, method, conversation, json!({"pinned": true})).await;
            assert_eq!(status, expected, "{method} {conversation} by {user}");
        }
    }
    let nobody = Http::of_nobody(&system.http_urls()[0]);
    assert_eq!(refused(&nobody, "PATCH", GROUP, json!({"pinned": true})).await, 401);
    assert_eq!(refused(&nobody, "DELETE", GROUP, Value::Null).await, 401);
    assert_eq!(refused(&alice, "POST", GROUP, json!({})).await, 405);

    let longest = "é".repeat(2_048);
    assert_eq!(patch(&alice, GROUP, json!({"draft": longest, "color": "red"})).await["draft"], longest);
    assert_eq!(
        patch(&alice, GROUP, json!({"muted_until": 9e15})).await["muted_until"],
        8_640_000_000_000_000_i64
    );
    assert_eq!(
        patch(&alice, GROUP, json!({"muted_until": 1.7e12})).await["muted_until"],
        1_700_000_000_000_i64
    );
    assert_eq!(patch(&alice, GROUP, json!({"draft": "", "muted_until": 0})).await, json!({}));
    // A private chat without messages is in no list, and clearing it is no fault.
    clear(&alice, "-?to=dave").await;
    patch(&alice, "-?to=dave", json!({"pinned": true})).await;
    assert_eq!(listed(&alice, "private_alice_dave").await, None);
    system.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn features_that_are_switched_off_are_refused() {
    let system = Builder::new()
        .gateways(1)
        .workers(1)
        .unlimited()
        .set("IM__CONVERSATIONS__SETTINGS", "false")
        .set("IM__PRESENCE__EVENTS", "false")
        .for_test()
        .await
        .unwrap();
    let alice = system.http(0, "alice");
    let api = alice.ok("GET", "/api", None).await.unwrap();
    let features = api["features"].as_array().unwrap();
    assert!(!features.iter().any(|one| *one == "settings" || *one == "presence_events"), "{features:?}");
    for method in ["PATCH", "DELETE"] {
        let path = "/api/conversations/-?to=bob";
        let (status, answer) = alice.call(method, path, Some(&json!({"pinned": true}))).await.unwrap();
        assert_eq!(status, 400);
        assert!(answer["message"].as_str().unwrap().contains("conversations.settings = false"), "{answer}");
    }
    let mut client = connect(&system, 0, "alice").await;
    let reply = client.request(9, r#"{"cmd":9,"payload":{"user_ids":[]}}"#).await.unwrap();
    assert_eq!(reply.code, 400);
    assert!(reply.payload.as_str().unwrap().contains("presence.events = false"), "{}", reply.payload);
    system.stop().await;
}

/// The group with a message by alice that mentions bob, has a reaction and is pinned, and bob's own message, in that order.
async fn filled(alice: &mut Client, bob: &mut Client) -> [u64; 4] {
    let first = stored(alice, GROUP, "m1", json!({"content": "one @bob", "mentions": ["bob"]})).await;
    let own = stored(bob, GROUP, "m2", json!({"content": "own"})).await;
    let reaction = json!({"msg_type": 5, "react_seq": first, "reaction": "x"});
    let reaction = stored(alice, GROUP, "x1", reaction).await;
    let pin = stored(alice, GROUP, "p1", json!({"msg_type": 6, "pin_seq": first})).await;
    [first, own, reaction, pin]
}

/// Nothing of the group up to `first` is shown through `http`.
async fn nothing_is_shown(http: &Http, first: u64) {
    for query in ["", "direction=backward", "changes=false", "direction=backward&changes=false", "limit=1"] {
        assert_eq!(page(http, GROUP, query).await, [0; 0], "{query}");
    }
    let messages = format!("/api/conversations/{GROUP}/messages");
    assert_eq!(http.refused("GET", &format!("{messages}/{first}"), None).await.unwrap(), 404);
    assert_eq!(http.refused("GET", &format!("{messages}/{first}/reactions"), None).await.unwrap(), 404);
    let pins = http.ok("GET", &format!("/api/conversations/{GROUP}/pins"), None).await.unwrap();
    assert_eq!(pins["messages"], json!([]));
    assert_eq!(listed(http, GROUP).await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_cleared_is_shown_by_no_way_until_the_next_message() {
    let system = system().await;
    let mut alice = connect(&system, 0, "alice").await;
    let mut bob = connect(&system, 1, "bob").await;
    let mut tablet = connect(&system, 0, "bob").await;
    let all @ [first, own, _, last] = filled(&mut alice, &mut bob).await;
    let both = [0, 1].map(|gateway| system.http(gateway, "bob"));
    patch(&both[0], GROUP, json!({"pinned": true})).await;
    assert_eq!(listed(&both[0], GROUP).await.unwrap()["mentions"], 1);
    let (_, cursor) = sync(&mut tablet, 0).await;

    // Answered by one gateway, it holds on the other one at once.
    clear(&both[0], GROUP).await;
    for http in &both {
        nothing_is_shown(http, first).await;
    }
    for client in [&mut bob, &mut tablet] {
        assert_eq!(pull(client, GROUP).await, [0; 0]);
        assert_eq!(event(client, "cleared").await["seq"], last);
    }
    let (entries, cursor) = sync(&mut tablet, cursor).await;
    assert_eq!(entries, [json!({"conversation_id": GROUP, "cleared": true})]);
    let (entries, cursor) = sync(&mut tablet, cursor).await;
    assert_eq!(entries, [0; 0], "once");
    // What is not shown can be neither answered nor changed.
    for (n, payload) in [
        json!({"content": "x", "reply_to": first}),
        json!({"msg_type": 5, "react_seq": first, "reaction": "x"}),
        json!({"msg_type": 4, "edit_seq": own, "content": "x"}),
        json!({"msg_type": 3, "recall_seq": own}),
    ]
    .into_iter()
    .enumerate()
    {
        let reply = send(&mut bob, GROUP, &format!("no{n}"), payload.clone()).await;
        assert_eq!(reply.code, 404, "{payload}: {}", reply.payload);
    }
    // A retry of what was stored before is answered as ever.
    assert_eq!(send(&mut bob, GROUP, "m2", json!({"content": "own"})).await.seq, Some(own));
    // Others see what they saw.
    assert_eq!(page(&system.http(1, "carol"), GROUP, "").await, all);

    // A change of what is cleared does not bring it back.
    stored(&mut alice, GROUP, "e1", json!({"msg_type": 4, "edit_seq": first, "content": "one"})).await;
    assert_eq!(listed(&both[1], GROUP).await, None);
    let (entries, cursor) = changed(&mut tablet, cursor).await;
    assert_eq!(entries, [json!({"conversation_id": GROUP, "cleared": true})]);
    let next = stored(&mut alice, GROUP, "m3", json!({"content": "two @bob", "mentions": ["bob"]})).await;
    let (entries, _) = changed(&mut tablet, cursor).await;
    let entry = of(&entries, GROUP).unwrap();
    assert_eq!(entry["last_message"]["seq"], next);
    assert_eq!(
        (&entry["unread"], &entry["mentions"], &entry["mention_seq"]),
        (&json!(1), &json!(1), &json!(next))
    );
    assert_eq!(entry["settings"], json!({"pinned": true}), "settings stay");
    assert_eq!(pull(&mut bob, GROUP).await, [next - 1, next]);
    assert_eq!(page(&both[0], GROUP, "direction=backward&changes=false").await, [next]);
    system.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cleared_conversation_stays_so_for_new_connections_and_members() {
    let system = system().await;
    let mut alice = connect(&system, 0, "alice").await;
    let mut bob = connect(&system, 1, "bob").await;
    let [first, ..] = filled(&mut alice, &mut bob).await;
    stored(&mut alice, CHAT, "c1", json!({"content": "private"})).await;
    let (_, cursor) = sync(&mut bob, 0).await;
    bob.socket().close(None).await.unwrap();
    drop(bob);
    // Nobody of bob is connected: everything comes from the database.
    let calls = system.http(0, "bob");
    clear(&calls, GROUP).await;
    clear(&calls, CHAT).await;
    nothing_is_shown(&calls, first).await;
    assert_eq!(page(&calls, CHAT, "").await, [0; 0]);
    assert_eq!(page(&system.http(0, "alice"), CHAT, "").await.len(), 1);
    let mut bob = connect(&system, 1, "bob").await;
    assert_eq!((pull(&mut bob, GROUP).await, pull(&mut bob, CHAT).await), (vec![], vec![]));
    let (mut entries, _) = sync(&mut bob, cursor).await;
    entries.sort_by_key(|entry| entry["conversation_id"].to_string());
    let cleared = json!({"conversation_id": CHAT, "peer": "alice", "cleared": true});
    assert_eq!(entries, [json!({"conversation_id": GROUP, "cleared": true}), cleared]);
    let (entries, _) = sync(&mut bob, 0).await;
    assert_eq!(entries, [0; 0], "a complete list leaves them out");

    // Leaving and coming back does not bring it back either.
    calls.ok("DELETE", &format!("/api/groups/{GROUP}/members/bob"), None).await.unwrap();
    event(&mut bob, "left").await;
    assert_eq!(calls.refused("DELETE", &format!("/api/conversations/{GROUP}"), None).await.unwrap(), 403);
    let body = json!({"user_ids": ["bob"]});
    let path = format!("/api/groups/{GROUP}/members");
    system.http(0, "alice").ok("POST", &path, Some(body)).await.unwrap();
    event(&mut bob, "joined").await;
    assert_eq!(pull(&mut bob, GROUP).await, [0; 0]);
    for gateway in [0, 1] {
        nothing_is_shown(&system.http(gateway, "bob"), first).await;
    }
    let next = stored(&mut alice, GROUP, "m9", json!({"content": "two"})).await;
    assert_eq!(pull(&mut bob, GROUP).await, [next]);
    // Once more, further up; an earlier clear that comes late takes nothing back.
    clear(&calls, GROUP).await;
    assert_eq!(pull(&mut bob, GROUP).await, [0; 0]);
    system.stop().await;
}

/// As another gateway does whose event is lost: bob clears the group up to `seq`.
async fn clear_silently(system: &System, seq: u64) {
    let pool = sqlx::MySqlPool::connect(&system.urls.mysql).await.unwrap();
    for statement in [
        format!(
            "INSERT INTO user_conversation_state (user_id, conversation_id, last_ack_seq, updated_at, cleared_seq) \
             VALUES ('bob', '{GROUP}', 0, 0, {seq})"
        ),
        format!("INSERT INTO cleared_conversation (user_id, conversation_id) VALUES ('bob', '{GROUP}')"),
        format!(
            "INSERT INTO access_change (conversation_id, version, changed_at, user_id) \
             SELECT conversation_id, access_version, UNIX_TIMESTAMP() * 1000, 'bob' FROM conversation \
             WHERE conversation_id = '{GROUP}'"
        ),
    ] {
        sqlx::query(sqlx::AssertSqlSafe(statement)).execute(&pool).await.unwrap();
    }
    pool.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_reach_who_was_away_and_gateways_that_lost_the_event() {
    let system = system().await;
    let mut alice = connect(&system, 0, "alice").await;
    let mut bob = connect(&system, 1, "bob").await;
    let all = filled(&mut alice, &mut bob).await;
    let (_, cursor) = sync(&mut bob, 0).await;
    // Away while it is changed, through another gateway.
    bob.socket().close(None).await.unwrap();
    drop(bob);
    let draft = json!({"draft": "later"});
    patch(&system.http(0, "bob"), GROUP, draft.clone()).await;
    let mut bob = connect(&system, 1, "bob").await;
    let (entries, _) = changed(&mut bob, cursor).await;
    assert_eq!(of(&entries, GROUP).unwrap()["settings"], draft);
    assert_eq!(pull(&mut bob, GROUP).await, all);
    patch(&system.http(0, "bob"), GROUP, json!({"draft": null})).await;
    let pool = sqlx::MySqlPool::connect(&system.urls.mysql).await.unwrap();
    sqlx::query("DELETE FROM user_conversation_state").execute(&pool).await.unwrap();
    pool.close().await;

    clear_silently(&system, all[3]).await;
    let start = Instant::now();
    while !pull(&mut bob, GROUP).await.is_empty() {
        assert!(start.elapsed() < Duration::from_secs(10), "the change log was not read");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // Those who cleared nothing see everything.
    assert_eq!(pull(&mut alice, GROUP).await, all);
    system.stop().await;
}

async fn watch(client: &mut Client, users: &[&str]) -> Value {
    let frame = json!({"cmd": 9, "payload": {"user_ids": users}}).to_string();
    let reply = client.request(9, frame).await.unwrap();
    assert_eq!(reply.code, 0, "{}", reply.payload);
    reply.payload["users"].clone()
}

fn is(user: &str, online: bool) -> Value {
    json!([{"user_id": user, "online": online}])
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_watched_is_told_as_coming_at_once_and_as_going_after_a_while() {
    let system = system().await;
    let mut alice = connect(&system, 0, "alice").await;
    let mut other = connect(&system, 1, "alice").await;
    assert_eq!(watch(&mut alice, &["bob", "stranger", "bob"]).await, is("bob", false), "without strangers");
    assert_eq!(watch(&mut other, &["carol"]).await, is("carol", false));
    let start = Instant::now();
    let mut bob = connect(&system, 1, "bob").await;
    assert_eq!(
        event(&mut alice, "presence").await,
        json!({"type": "presence", "user_id": "bob", "online": true})
    );
    assert!(start.elapsed() < Duration::from_secs(4), "{:?}", start.elapsed());
    assert_eq!(watch(&mut other, &["bob"]).await, is("bob", true), "the list before is replaced");

    // Away for less than five seconds, and back through another gateway: not told.
    bob.socket().close(None).await.unwrap();
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(watch(&mut alice, &["bob"]).await, is("bob", true), "until it is told");
    let mut bob = connect(&system, 0, "bob").await;
    tokio::time::sleep(Duration::from_secs(6)).await;
    for client in [&mut alice, &mut other] {
        assert_eq!(events_until_now(client, "presence").await, [0; 0]);
    }
    let before = now_ms();
    bob.socket().close(None).await.unwrap();
    let gone = Instant::now();
    for client in [&mut alice, &mut other] {
        let told = event(client, "presence").await;
        assert_eq!((&told["user_id"], &told["online"]), (&json!("bob"), &json!(false)));
        let last_seen = told["last_seen"].as_i64().unwrap();
        assert!((before - 2_000..before + 5_000).contains(&last_seen), "{last_seen} around {before}");
    }
    let after = gone.elapsed();
    assert!((Duration::from_secs(5)..Duration::from_secs(10)).contains(&after), "{after:?}");
    assert_eq!(watch(&mut other, &["bob"]).await, is("bob", false));

    // An empty list ends it; so does a block, for the one who is blocked.
    assert_eq!(watch(&mut other, &[]).await, json!([]));
    let body = json!({"user_id": "alice"});
    system.http(1, "bob").ok("POST", "/api/blocks", Some(body)).await.unwrap();
    let mut carol = connect(&system, 1, "carol").await;
    assert_eq!(watch(&mut carol, &["bob"]).await, is("bob", false));
    let _bob = connect(&system, 1, "bob").await;
    event(&mut carol, "presence").await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    for client in [&mut alice, &mut other] {
        assert_eq!(events_until_now(client, "presence").await, [0; 0]);
    }
    assert_eq!(watch(&mut alice, &["bob"]).await, json!([]));
    system.stop().await;
}

fn now_ms() -> i64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    i64::try_from(now.as_millis()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_users_of_a_killed_gateway_are_told_as_gone_within_ten_seconds() {
    let mut system = system().await;
    let mut alice = connect(&system, 0, "alice").await;
    let _bob = connect(&system, 1, "bob").await;
    let carol = connect(&system, 1, "carol").await;
    wait_for("both are online", TIMEOUT, async || {
        let online = watch(&mut alice, &["bob", "carol"]).await;
        anyhow::ensure!(online == json!([is("bob", true)[0], is("carol", true)[0]]), "{online}");
        Ok(())
    })
    .await
    .unwrap();
    // The watcher has seen a few heartbeats.
    tokio::time::sleep(Duration::from_secs(3)).await;
    events_until_now(&mut alice, "presence").await;
    system.gateway(1).kill();
    let killed = Instant::now();
    // Carol reconnects, which bob does not.
    drop(carol);
    let _carol = connect(&system, 0, "carol").await;
    let told = event(&mut alice, "presence").await;
    let after = killed.elapsed();
    assert_eq!((&told["user_id"], &told["online"]), (&json!("bob"), &json!(false)));
    assert!((Duration::from_secs(4)..Duration::from_secs(10)).contains(&after), "{after:?}");
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert_eq!(events_until_now(&mut alice, "presence").await, [0; 0], "carol was not away");
    system.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_of_watched_users_are_limited() {
    let system = Builder::new()
        .gateways(1)
        .workers(1)
        .unlimited()
        .set("IM__PRESENCE__WATCHED_USERS_MAX", "3")
        .for_test()
        .await
        .unwrap();
    let users = ["bob", "carol", "dave", "eve"];
    let body = json!({"conversation_id": GROUP, "members": users});
    system.http(0, "alice").ok("POST", "/api/groups", Some(body)).await.unwrap();
    let mut alice = connect(&system, 0, "alice").await;
    for payload in [
        json!({"user_ids": vec!["bob"; 201]}),
        json!({"user_ids": "bob"}),
        json!({"user_ids": [5]}),
        json!({"user_ids": ["a b"]}),
        json!({"user_ids": null}),
        json!({}),
        json!([]),
    ] {
        let reply = alice.request(9, json!({"cmd": 9, "payload": payload}).to_string()).await.unwrap();
        assert_eq!(reply.code, 400, "{payload}");
    }
    assert_eq!(watch(&mut alice, &vec!["bob"; 200]).await, is("bob", false));
    let mut bob = connect(&system, 0, "bob").await;
    assert_eq!(event(&mut alice, "presence").await["user_id"], "bob");
    let reply = bob.request(9, json!({"cmd": 9, "payload": {"user_ids": users}}).to_string()).await.unwrap();
    assert_eq!(reply.code, 503, "{}", reply.payload);
    assert!(reply.payload["retry_after_ms"].is_u64(), "{}", reply.payload);
    assert_eq!(watch(&mut bob, &["bob", "carol", "dave"]).await.as_array().unwrap().len(), 3);
    bob.socket().close(None).await.unwrap();
    wait_for("the list of a connection goes with it", TIMEOUT, async || {
        let reply = alice
            .request(9, json!({"cmd": 9, "payload": {"user_ids": ["dave", "carol", "eve"]}}).to_string());
        let reply = reply.await?;
        anyhow::ensure!(reply.code == 0, "{}", reply.payload);
        Ok(())
    })
    .await
    .unwrap();
    system.stop().await;
}

/// The statements that the database has executed.
async fn statements(pool: &sqlx::MySqlPool) -> u64 {
    let row: (String, String) =
        sqlx::query_as("SHOW GLOBAL STATUS LIKE 'Com_stmt_execute'").fetch_one(pool).await.unwrap();
    row.1.parse().unwrap()
}

/// Requests of each kind. What runs in the background meanwhile executes less than half as many statements.
const COUNTED: u64 = 200;

#[tokio::test(flavor = "multi_thread")]
async fn reads_of_users_without_settings_cost_the_statements_that_they_always_did() {
    let builder = Builder::new().gateways(1).workers(1).unlimited().set("IM__GROUPS__AUTO_CREATE", "false");
    let system = builder.on_own_servers().await.unwrap();
    let body = json!({"conversation_id": GROUP, "members": ["bob"]});
    system.http(0, "alice").ok("POST", "/api/groups", Some(body)).await.unwrap();
    let mut alice = connect(&system, 0, "alice").await;
    for n in 0..60 {
        stored(&mut alice, GROUP, &format!("m{n}"), json!({"content": "x"})).await;
        stored(&mut alice, CHAT, &format!("m{n}"), json!({"content": "x"})).await;
    }
    let pool = sqlx::MySqlPool::connect(&system.urls.mysql).await.unwrap();
    let calls = system.http(0, "bob");
    let (_, cursor) = sync(&mut alice, 0).await;
    let mut counted = Vec::new();
    for (kind, each) in [("pull", 1), ("sync", 2), ("group over HTTP", 4), ("chat over HTTP", 2)] {
        let before = statements(&pool).await;
        for n in 0..COUNTED {
            match kind {
                // No two alike, so that no page is shared.
                "pull" => _ = alice.pull(GROUP, n % 10, 50).await.unwrap(),
                "sync" => _ = sync(&mut alice, cursor - 1).await,
                "group over HTTP" => _ = page(&calls, GROUP, &format!("cursor_seq={}", n % 10)).await,
                _ => _ = page(&calls, CHAT, &format!("cursor_seq={}", n % 10)).await,
            }
        }
        counted.push((kind, each, statements(&pool).await - before));
    }
    for (kind, each, executed) in &counted {
        let expected = COUNTED * each;
        assert!((expected..expected + COUNTED / 2).contains(executed), "{kind}: {counted:?}");
    }
    pool.close().await;
    system.stop().await;
}
