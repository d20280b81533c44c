//! What an answer promises: retries, recalls, reused ids, heartbeats, devices, mutes and histories. Two gateways and two workers
//! on real stores.

#![allow(clippy::unwrap_used)] // a failed helper is a failed test

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use testbed::client::{Client, Ended, Http, Packet};
use testbed::stack::{Builder, System, wait_for};

const TIMEOUT: Duration = Duration::from_secs(20);

async fn system() -> System {
    Builder::new().unlimited().set("IM__GROUPS__AUTO_CREATE", "false").for_test().await.unwrap()
}

async fn connect(system: &System, gateway: usize, user: &str) -> Client {
    let mut client = Client::connect(&system.ws_urls()[gateway], user).await.unwrap();
    client.request(0, r#"{"cmd":0}"#).await.unwrap();
    client
}

/// Sends `payload` under `msg_id`, and returns the first answer.
async fn send(client: &mut Client, conversation: &str, msg_id: &str, payload: &Value) -> Packet {
    let frame =
        json!({"cmd": 2, "msg_id": msg_id, "conversation_id": conversation, "payload": payload}).to_string();
    client.send(frame).await.unwrap();
    client.wait_for(|packet| packet.cmd == 2 && packet.msg_id.as_deref() == Some(msg_id)).await.unwrap()
}

async fn send_text(client: &mut Client, conversation: &str, msg_id: &str, content: &str) -> Packet {
    send(client, conversation, msg_id, &json!({"content": content})).await
}

/// Sends a text and waits until it is stored.
async fn store(client: &mut Client, conversation: &str, msg_id: &str) -> u64 {
    let payload = json!({"content": format!("content of {msg_id}"), "ack": "stored"});
    let reply = send(client, conversation, msg_id, &payload).await;
    assert_eq!(reply.code, 0, "{}", reply.payload);
    reply.seq.unwrap()
}

async fn recall(client: &mut Client, conversation: &str, msg_id: &str, seq: u64) -> Packet {
    send(client, conversation, msg_id, &json!({"msg_type": 3, "recall_seq": seq})).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_can_be_recalled_as_soon_as_its_sender_has_code_0() {
    let system = system().await;
    let (mut alice, mut bob) = (connect(&system, 0, "alice").await, connect(&system, 1, "bob").await);
    let chat = "private_alice_bob";
    for n in 0..40 {
        let sent = send_text(&mut alice, chat, &format!("m{n}"), "a slip").await;
        assert_eq!(sent.code, 0, "{}", sent.payload);
        let recalled = recall(&mut alice, chat, &format!("r{n}"), sent.seq.unwrap()).await;
        assert_eq!(recalled.code, 0, "attempt {n}: {}", recalled.payload);
    }
    store(&mut alice, chat, "last").await;
    let shown = bob.pull_all(chat, 0).await.unwrap();
    let texts: Vec<_> = shown.iter().filter(|message| message.msg_type == 1).collect();
    assert_eq!((shown.len(), texts.len()), (81, 41));
    assert!(texts[..40].iter().all(|message| message.recalled && message.content.is_empty()));
    // What does not exist is refused at once, and somebody else's message too, however new it is.
    let begun = Instant::now();
    assert_eq!(recall(&mut alice, chat, "nothing", 5_000).await.code, 404);
    assert!(begun.elapsed() < Duration::from_secs(2));
    let sent = send_text(&mut alice, chat, "mine", "not a slip").await;
    assert_eq!(recall(&mut bob, chat, "theirs", sent.seq.unwrap()).await.code, 403);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reused_id_is_never_answered_as_if_it_were_done() {
    let mut system = system().await;
    let (mut alice, mut again) = (connect(&system, 0, "alice").await, connect(&system, 1, "alice").await);
    let chat = "private_alice_bob";
    let first = send_text(&mut alice, chat, "m1", "the first one").await.seq;
    // At once, through the same and the other gateway.
    for client in [&mut alice, &mut again] {
        let retry = send_text(client, chat, "m1", "the first one").await;
        assert_eq!((retry.code, retry.seq, retry.payload), (0, first, Value::Null), "a retry is free");
        let other = send_text(client, chat, "m1", "another one").await;
        assert_eq!((other.code, other.seq), (0, first));
        assert_eq!(other.payload["content_differs"], true, "{}", other.payload);
        let image = send(client, chat, "m1", &json!({"content": "the first one", "msg_type": 2})).await;
        assert_eq!(image.code, 409);
        assert!(image.payload.as_str().unwrap().contains("msg_id"), "{}", image.payload);
    }
    let seq = store(&mut alice, chat, "m2").await;
    assert_eq!(recall(&mut alice, chat, "m2", seq).await.code, 409);
    // The other way round; a retry of the recall is answered with its number.
    let recalled = recall(&mut alice, chat, "r1", first.unwrap()).await.seq;
    assert_eq!(send_text(&mut alice, chat, "r1", "text").await.code, 409);
    assert_eq!(recall(&mut alice, chat, "r1", seq).await.code, 409, "of another message");
    assert_eq!(recall(&mut again, chat, "r1", first.unwrap()).await.seq, recalled);
    let other_sender = send_text(&mut connect(&system, 1, "bob").await, chat, "m1", "bob's own").await;
    assert_eq!((other_sender.code, other_sender.payload), (0, Value::Null), "ids are the sender's own");

    // Redis has forgotten the ids: the commit tells.
    let redis = system.redis().unwrap();
    redis.stop().await;
    redis.lose_data().unwrap();
    redis.start_again().await.unwrap();
    wait_for("messages go again", TIMEOUT, async || {
        let reply = send_text(&mut alice, chat, "go", "go").await;
        anyhow::ensure!(reply.code == 0, "{}", reply.payload);
        Ok(())
    })
    .await
    .unwrap();
    let image = |ack: &str| json!({"content": "content of m2", "msg_type": 2, "ack": ack});
    assert_eq!(recall(&mut alice, chat, "m2", seq).await.code, 409);
    let told = send(&mut alice, chat, "m2", &image("stored")).await;
    assert_eq!(told.code, 409, "{}", told.payload);
    let shown = alice.pull_all(chat, 0).await.unwrap();
    let stored: Vec<_> = shown.iter().filter(|message| message.msg_id == "m2").collect();
    assert_eq!(stored.iter().map(|m| (m.seq, m.msg_type, m.recalled)).collect::<Vec<_>>(), [(seq, 1, false)]);
    let plain = send(&mut again, chat, "m2", &image("accepted")).await;
    if plain.code == 0 {
        let is_second = |packet: &Packet| packet.cmd == 2 && packet.msg_id.as_deref() == Some("m2");
        assert_eq!(again.wait_for(is_second).await.unwrap().code, 409);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_of_a_stored_message_is_answered_whatever_its_sender_may_do_now() {
    let system = system().await;
    let owner = system.http(1, "olga");
    for group in ["group_mute", "group_hush", "group_out", "group_over"] {
        let new = json!({"conversation_id": group, "members": ["alice"]});
        owner.ok("POST", "/api/groups", Some(new)).await.unwrap();
    }
    let mut alice = connect(&system, 0, "alice").await;
    let chats = ["group_mute", "group_hush", "group_out", "group_over", "private_alice_olga"];
    let mut stored = Vec::new();
    for chat in chats {
        stored.push(store(&mut alice, chat, "m1").await);
    }
    let slip = store(&mut alice, "group_mute", "slip").await;
    let recalled = recall(&mut alice, "group_mute", "r1", slip).await.seq;
    store(&mut alice, "group_mute", "m2").await;
    let mute = json!({"muted_until": 4_000_000_000_000_i64});
    owner.ok("PATCH", "/api/groups/group_mute/members/alice", Some(mute)).await.unwrap();
    owner.ok("PATCH", "/api/groups/group_hush", Some(json!({"muted": true}))).await.unwrap();
    owner.ok("DELETE", "/api/groups/group_out/members/alice", None).await.unwrap();
    owner.ok("DELETE", "/api/groups/group_over", None).await.unwrap();
    owner.ok("POST", "/api/blocks", Some(json!({"user_id": "alice"}))).await.unwrap();
    // Through the gateway that knows the permissions, through the other one, and after a new login.
    let clients = [alice, connect(&system, 1, "alice").await, connect(&system, 0, "alice").await];
    for mut client in clients {
        for (chat, seq) in chats.iter().zip(&stored) {
            for ack in ["accepted", "stored"] {
                let retry = json!({"content": "content of m1", "ack": ack});
                let reply = send(&mut client, chat, "m1", &retry).await;
                assert_eq!((reply.code, reply.seq), (0, Some(*seq)), "{chat} {ack}: {}", reply.payload);
            }
            let refused = if *chat == "group_over" { 404 } else { 403 };
            assert_eq!(send_text(&mut client, chat, "new", "new").await.code, refused, "{chat}");
            let other = send_text(&mut client, chat, "m1", "other").await;
            assert_eq!((other.code, other.seq), (0, Some(*seq)), "{chat}");
            assert_eq!(other.payload["content_differs"], true, "{chat}");
            let image = send(&mut client, chat, "m1", &json!({"content": "x", "msg_type": 2})).await;
            assert_eq!(image.code, 409, "{chat}");
        }
        assert_eq!(recall(&mut client, "group_mute", "r1", slip).await.seq, recalled);
        assert_eq!(recall(&mut client, "group_mute", "r2", stored[0]).await.code, 403);
    }
}

async fn heartbeat(client: &mut Client, cursor: u64) -> u64 {
    let frame = format!(r#"{{"cmd":0,"cursor_seq":{cursor}}}"#);
    client.request(0, frame).await.unwrap().next_cursor_seq.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_heartbeat_says_that_nothing_was_missed_only_if_that_is_so() {
    let system = system().await;
    let (mut alice, mut bob) = (connect(&system, 0, "alice").await, connect(&system, 1, "bob").await);
    // Without a conversation.
    let empty = alice.sync_all(0).await.unwrap();
    assert!(empty.entries.is_empty());
    assert_eq!(heartbeat(&mut alice, empty.cursor).await, empty.cursor, "nothing was missed");
    let again = alice.sync_all(empty.cursor).await.unwrap();
    assert_eq!((again.entries.len(), again.reset, again.cursor), (0, false, empty.cursor));
    store(&mut bob, "private_alice_bob", "m1").await;
    wait_for("the heartbeat tells", TIMEOUT, async || {
        let next = heartbeat(&mut alice, empty.cursor).await;
        if next > empty.cursor { Ok(()) } else { Err(anyhow::anyhow!("{next}")) }
    })
    .await
    .unwrap();
    // From another deployment, or from before the clock was set back.
    let largest = (1 << 53) - 1;
    for future in [empty.cursor + 3_600_000_000, largest - 1, largest] {
        assert_ne!(heartbeat(&mut alice, future).await, future);
        let synced = alice.sync(future, 100).await.unwrap();
        assert!(synced.reset, "{future}");
        assert_eq!(synced.entries().unwrap().len(), 1);
        let cursor = synced.next_cursor_seq.unwrap();
        assert_eq!(heartbeat(&mut alice, cursor).await, cursor);
    }
}

/// Which of `clients` are still connected when all others are closed with 4409.
async fn survivors(clients: &mut [Client]) -> Vec<usize> {
    let is_open = async |client: &mut Client| {
        let closed = async {
            match client.until_closed().await.unwrap() {
                Ended(Some((4409, _))) => {}
                other => panic!("{other:?}"),
            }
        };
        tokio::time::timeout(Duration::from_secs(1), closed).await.is_err()
    };
    let open = futures_util::future::join_all(clients.iter_mut().map(is_open)).await;
    (0..open.len()).filter(|n| open[*n]).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn one_connection_of_a_device_stays_the_newest_on_whatever_gateway() {
    let system = system().await;
    let url =
        |gateway: usize, user: &str| format!("{}?user_id={user}&device_id=phone", system.ws_urls()[gateway]);
    let mut clients = Vec::new();
    for n in 0..6 {
        let mut client = Client::open(&url(n % 2, "alice")).await.unwrap();
        client.request(0, r#"{"cmd":0}"#).await.unwrap();
        clients.push(client);
    }
    assert_eq!(survivors(&mut clients).await, [5], "the newest one");
    // Another device and another user are not concerned.
    let mut desk =
        Client::open(&format!("{}?user_id=alice&device_id=desk", system.ws_urls()[0])).await.unwrap();
    desk.request(0, r#"{"cmd":0}"#).await.unwrap();
    clients[5].request(0, r#"{"cmd":0}"#).await.unwrap();
    // Ten at once.
    for round in 0..5 {
        let user = format!("user{round}");
        let opening = (0..10).map(|n| Client::open(url(n % 2, &user).leak()));
        let mut clients: Vec<Client> =
            futures_util::future::join_all(opening).await.into_iter().map(Result::unwrap).collect();
        let survivors = survivors(&mut clients).await;
        assert_eq!(survivors.len(), 1, "round {round}: {survivors:?}");
        clients[survivors[0]].request(0, r#"{"cmd":0}"#).await.unwrap();
    }
    desk.request(0, r#"{"cmd":0}"#).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mute_outlasts_the_membership_and_ends_with_the_hand_over() {
    let system = system().await;
    let owner = system.http(0, "olga");
    let group = json!({"conversation_id": "group_1", "members": ["alice", "bob"]});
    owner.ok("POST", "/api/groups", Some(group)).await.unwrap();
    let path = "/api/groups/group_1/members";
    let mute = || Some(json!({"muted_until": 9_007_199_254_740_991_i64}));
    owner.ok("PATCH", &format!("{path}/alice"), mute()).await.unwrap();
    let mut alice = connect(&system, 1, "alice").await;
    let mut elsewhere = connect(&system, 0, "alice").await;
    assert_eq!(send_text(&mut alice, "group_1", "a1", "x").await.code, 403);
    // Leaving and coming back, of her own will or not.
    for leaver in ["alice", "olga"] {
        system.http(1, leaver).ok("DELETE", &format!("{path}/alice"), None).await.unwrap();
        owner.ok("POST", path, Some(json!({"user_ids": ["alice"]}))).await.unwrap();
        assert_eq!(send_text(&mut alice, "group_1", "a2", "x").await.code, 403);
        assert_eq!(send_text(&mut elsewhere, "group_1", "a3", "x").await.code, 403);
    }
    let listed = owner.ok("GET", path, None).await.unwrap();
    assert_eq!(listed["members"][0]["muted_until"], 8_640_000_000_000_000_i64, "a time that Date can show");
    // A mute that was ended stays ended.
    owner.ok("PATCH", &format!("{path}/alice"), Some(json!({"muted_until": 0}))).await.unwrap();
    system.http(1, "alice").ok("DELETE", &format!("{path}/alice"), None).await.unwrap();
    owner.ok("POST", path, Some(json!({"user_ids": ["alice"]}))).await.unwrap();
    store(&mut alice, "group_1", "a4").await;

    // The new owner could not be unmuted by anybody.
    owner.ok("PATCH", &format!("{path}/alice"), mute()).await.unwrap();
    assert_eq!(send_text(&mut alice, "group_1", "a5", "x").await.code, 403);
    owner.ok("PATCH", &format!("{path}/alice"), Some(json!({"role": "owner"}))).await.unwrap();
    store(&mut alice, "group_1", "a6").await;
    // Nor is it muted by the same call.
    let both = json!({"role": "owner", "muted_until": 4_000_000_000_000_i64});
    let status = system.http(0, "alice").refused("PATCH", &format!("{path}/bob"), Some(both)).await.unwrap();
    assert_eq!(status, 403);
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_shows_newcomers_more_of_the_history_than_it_sees() {
    let system = system().await;
    let owner = system.http(0, "olga");
    let group = json!({"conversation_id": "group_1", "history": "joining"});
    owner.ok("POST", "/api/groups", Some(group)).await.unwrap();
    let mut olga = connect(&system, 0, "olga").await;
    store(&mut olga, "group_1", "secret").await;
    let path = "/api/groups/group_1";
    owner.ok("POST", &format!("{path}/members"), Some(json!({"user_ids": ["adam"]}))).await.unwrap();
    owner.ok("PATCH", &format!("{path}/members/adam"), Some(json!({"role": "admin"}))).await.unwrap();
    store(&mut olga, "group_1", "later").await;
    let adam = system.http(1, "adam");
    let seen = async |user: &str| {
        let shown = connect(&system, 1, user).await.pull_all("group_1", 0).await.unwrap();
        shown.into_iter().map(|message| message.msg_id).collect::<Vec<_>>()
    };
    assert_eq!(seen("adam").await, ["later"]);
    let start = || Some(json!({"history": "start"}));
    adam.ok("PATCH", path, start()).await.unwrap();
    adam.ok("POST", &format!("{path}/members"), Some(json!({"user_ids": ["adam2"]}))).await.unwrap();
    assert_eq!(seen("adam2").await, ["later"], "what adam sees");
    assert_eq!(owner.ok("GET", path, None).await.unwrap()["history"], "start");
    // The owner, who sees everything, may show everything.
    owner.ok("PATCH", path, start()).await.unwrap();
    adam.ok("PATCH", path, start()).await.unwrap();
    adam.ok("POST", &format!("{path}/members"), Some(json!({"user_ids": ["eve"]}))).await.unwrap();
    assert_eq!(seen("eve").await, ["secret", "later"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_private_name_reaches_the_user_who_is_meant_or_nobody() {
    let system = system().await;
    let mut m = connect(&system, 0, "m").await;
    let mut peers = Vec::new();
    for user in ["a_m", "m_a"] {
        peers.push(connect(&system, 1, user).await);
    }
    // m with a_m, and m with m_a: neither has this name.
    let refused = send_text(&mut m, "private_m_a_m", "m1", "whom?").await;
    assert_eq!(refused.code, 400);
    assert!(refused.payload.as_str().unwrap().contains("\"to\""), "{}", refused.payload);
    let m_http = system.http(0, "m");
    let status = m_http.refused("GET", "/api/conversations/private_m_a_m/messages", None).await;
    assert_eq!(status.unwrap(), 400);
    for (n, (user, peer)) in ["a_m", "m_a"].into_iter().zip(&mut peers).enumerate() {
        let msg_id = format!("to{n}");
        let payload = json!({"content": "for you", "ack": "stored"});
        let frame = json!({"cmd": 2, "msg_id": msg_id, "to": user, "payload": payload}).to_string();
        let reply = m.request(2, frame).await.unwrap();
        assert_eq!((reply.code, reply.peer.as_deref()), (0, Some(user)), "{}", reply.payload);
        let push = peer.wait_for(|packet| packet.cmd == 5).await.unwrap();
        assert_eq!(push.peer.as_deref(), Some("m"));
        let typed = m.request(8, json!({"cmd": 8, "to": user}).to_string()).await.unwrap();
        assert_eq!((typed.code, typed.peer.as_deref()), (0, Some(user)));
        let typing = peer.wait_for(|packet| packet.event() == Some("typing")).await.unwrap();
        assert_eq!(typing.peer.as_deref(), Some("m"));
        // The same page for both, each with its own peer, and again from the cache.
        for _ in 0..2 {
            for (client, other) in [(&mut m, user), (&mut *peer, "m")] {
                let pull = json!({"cmd": 3, "to": other, "cursor_seq": 0}).to_string();
                let page = client.request(3, pull).await.unwrap();
                assert_eq!((page.code, page.peer.as_deref()), (0, Some(other)));
                assert_eq!(page.messages().unwrap().len(), 1);
                assert_eq!(page.conversation_id, reply.conversation_id);
            }
        }
        let read = json!({"cmd": 4, "to": "m", "cursor_seq": 1}).to_string();
        assert_eq!(peer.request(4, read).await.unwrap().peer.as_deref(), Some("m"));
        let event = m.wait_for(|packet| packet.event() == Some("read")).await.unwrap();
        assert_eq!(event.peer.as_deref(), Some(user));
        let synced = peer.sync_all(0).await.unwrap();
        assert_eq!(synced.entries[0].peer.as_deref(), Some("m"));
        let path = format!("/api/conversations/-/messages?to={user}");
        assert_eq!(m_http.ok("GET", &path, None).await.unwrap()["peer"], user);
    }
    let both = json!({"cmd": 3, "to": "a_m", "conversation_id": "private_a_m_m"}).to_string();
    assert_eq!(m.request(3, both).await.unwrap().code, 400);
    let ill_formed = json!({"cmd": 3, "to": "a b"}).to_string();
    assert_eq!(m.request(3, ill_formed).await.unwrap().code, 400);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_block_keeps_the_blocked_user_off() {
    let system = system().await;
    let (mut ann, mut bob) = (connect(&system, 0, "ann").await, connect(&system, 1, "bob").await);
    let (ann_http, bob_http) = (system.http(1, "ann"), system.http(0, "bob"));
    let chat = "private_ann_bob";
    let presence = async || {
        let users = bob_http.ok("GET", "/api/presence?user_ids=ann", None).await.unwrap()["users"].clone();
        users.as_array().unwrap().len()
    };
    // One unwanted message does not open presence; an answer does.
    store(&mut bob, chat, "b1").await;
    assert_eq!(presence().await, 0);
    store(&mut ann, chat, "a1").await;
    assert_eq!(presence().await, 1);
    let read = |seq: u64| format!(r#"{{"cmd":4,"conversation_id":"{chat}","cursor_seq":{seq}}}"#);
    ann.request(4, read(1)).await.unwrap();
    bob.wait_for(|packet| packet.event() == Some("read")).await.unwrap();

    ann_http.ok("POST", "/api/blocks", Some(json!({"user_id": "bob"}))).await.unwrap();
    assert_eq!(presence().await, 0);
    let positions = bob_http.ok("GET", &format!("/api/conversations/{chat}/positions"), None).await.unwrap();
    assert_eq!(positions["positions"], json!([{"user_id": "bob", "seq": 0}]));
    ann.request(4, read(2)).await.unwrap();
    let new = || Some(json!({"members": ["ann", "cid"]}));
    assert_eq!(bob_http.refused("POST", "/api/groups", new()).await.unwrap(), 403);
    let made = bob_http.ok("POST", "/api/groups", Some(json!({"members": ["cid"]}))).await.unwrap();
    let members = format!("/api/groups/{}/members", made["conversation_id"].as_str().unwrap());
    assert_eq!(bob_http.refused("POST", &members, Some(json!({"user_ids": ["ann"]}))).await.unwrap(), 403);
    // Ann's reading was not told: what is told now comes after it.
    ann_http.ok("DELETE", "/api/blocks/bob", None).await.unwrap();
    store(&mut bob, chat, "b2").await;
    ann.request(4, read(3)).await.unwrap();
    let told = bob.wait_for(|packet| packet.event() == Some("read")).await.unwrap();
    assert_eq!(told.payload["seq"], 3);
    assert_eq!(presence().await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_may_want_to_be_asked_before_it_is_in_a_group() {
    let system = system().await;
    let (mut ann, mut eve) = (connect(&system, 0, "ann").await, connect(&system, 1, "eve").await);
    let (ann_http, bob_http) = (system.http(1, "ann"), system.http(0, "bob"));
    assert_eq!(ann_http.ok("GET", "/api/settings", None).await.unwrap(), json!({"group_adds": "everyone"}));
    ann_http.ok("PATCH", "/api/settings", Some(json!({"group_adds": "contacts"}))).await.unwrap();
    let new = |id: &str| Some(json!({"conversation_id": id, "name": "Fun", "members": ["ann", "eve"]}));
    let made = bob_http.ok("POST", "/api/groups", new("group_1")).await.unwrap();
    assert_eq!(made["invited"], json!(["ann"]));
    let told = ann.wait_for(|packet| packet.event() == Some("invited")).await.unwrap();
    assert_eq!(told.payload, json!({"type": "invited", "by": "bob"}));
    assert_eq!(told.conversation_id.as_deref(), Some("group_1"));
    assert_eq!(ann.pull("group_1", 0, 1).await.unwrap().code, 403, "not a member yet");
    let open = ann_http.ok("GET", "/api/invitations", None).await.unwrap();
    let invitation = &open["invitations"][0];
    assert_eq!(
        (&invitation["conversation_id"], &invitation["name"], &invitation["invited_by"]),
        (&json!("group_1"), &json!("Fun"), &json!("bob"))
    );
    // Adding her again tells nobody again, and is no way in.
    let again = bob_http.ok("POST", "/api/groups/group_1/members", Some(json!({"user_ids": ["ann"]}))).await;
    assert_eq!(again.unwrap(), json!({}));
    assert_eq!(system.http(0, "eve").refused("POST", "/api/invitations/group_1", None).await.unwrap(), 404);
    ann_http.ok("POST", "/api/invitations/group_1", None).await.unwrap();
    store(&mut eve, "group_1", "welcome").await;
    ann.wait_for(|packet| packet.cmd == 5).await.unwrap();
    assert_eq!(ann_http.refused("POST", "/api/invitations/group_1", None).await.unwrap(), 404, "it is used");
    // To whom she has written is a contact.
    store(&mut ann, "private_ann_bob", "hello").await;
    assert_eq!(bob_http.ok("POST", "/api/groups", new("group_2")).await.unwrap().get("invited"), None);
    // Nobody: not even a contact. Declined, and ended by a block.
    ann_http.ok("PATCH", "/api/settings", Some(json!({"group_adds": "nobody"}))).await.unwrap();
    for group in ["group_3", "group_4"] {
        assert_eq!(bob_http.ok("POST", "/api/groups", new(group)).await.unwrap()["invited"], json!(["ann"]));
    }
    ann_http.ok("DELETE", "/api/invitations/group_3", None).await.unwrap();
    assert_eq!(ann_http.refused("POST", "/api/invitations/group_3", None).await.unwrap(), 404);
    ann_http.ok("POST", "/api/blocks", Some(json!({"user_id": "bob"}))).await.unwrap();
    assert_eq!(ann_http.refused("POST", "/api/invitations/group_4", None).await.unwrap(), 404);
    assert_eq!(ann_http.ok("GET", "/api/invitations", None).await.unwrap()["invitations"], json!([]));
    // The operator asks nobody.
    let operator = Http::of_operator(&system.http_urls()[0], system.operator_key());
    operator.ok("POST", "/api/groups/group_4/members", Some(json!({"user_ids": ["ann"]}))).await.unwrap();
    assert_eq!(ann.pull("group_4", 0, 1).await.unwrap().code, 0);
    let wrong = Some(json!({"group_adds": "friends"}));
    assert_eq!(ann_http.refused("PATCH", "/api/settings", wrong).await.unwrap(), 400);
}
