//! Who may talk to whom, and the way back after being offline: two gateways and two workers on real stores.

#![allow(clippy::unwrap_used)] // a failed helper is a failed test

use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::{Value, json};
use spec::Strictness;
use testbed::client::{Chat, Client, Http, Packet};
use testbed::stack::{Builder, System, wait_for};

const PATIENCE: Duration = Duration::from_secs(20);

async fn system() -> System {
    Builder::new().unlimited().set("IM__GROUPS__AUTO_CREATE", "false").for_test().await.unwrap()
}

/// A client whose pushes are on.
async fn connect(system: &System, gateway: usize, user: &str) -> Client {
    connect_device(system, gateway, user, "d").await
}

async fn connect_device(system: &System, gateway: usize, user: &str, device: &str) -> Client {
    let url = format!("{}?user_id={user}&device_id={device}{gateway}", system.ws_urls()[gateway]);
    let mut client = Client::open(&url).await.unwrap();
    client.request(0, r#"{"cmd":0}"#).await.unwrap();
    client
}

async fn code(client: &mut Client, conversation: &str, msg_id: &str) -> u16 {
    let chat = Chat {
        conversation: conversation.to_owned(),
        msg_id: msg_id.to_owned(),
        content: format!("content of {msg_id}"),
        stored: true,
    };
    client.chat(&chat).await.unwrap().code
}

/// Says something and waits until it is committed.
async fn say(client: &mut Client, conversation: &str, msg_id: &str) -> u64 {
    let chat = Chat {
        conversation: conversation.to_owned(),
        msg_id: msg_id.to_owned(),
        content: format!("content of {msg_id}"),
        stored: true,
    };
    let reply = client.chat(&chat).await.unwrap();
    assert_eq!(reply.code, 0, "{}", reply.payload);
    reply.seq.unwrap()
}

fn is_push_of<'a>(msg_id: &'a str) -> impl Fn(&Packet) -> bool + 'a {
    move |packet| packet.cmd == 5 && packet.messages().is_ok_and(|all| all.iter().any(|m| m.msg_id == msg_id))
}

async fn event(client: &mut Client, kind: &str) -> Packet {
    client.wait_for(|packet| packet.event() == Some(kind)).await.unwrap()
}

/// Everything that came before the answer to a heartbeat.
async fn until_now(client: &mut Client) -> Vec<Packet> {
    let mut all = Vec::new();
    client.send(r#"{"cmd":0}"#).await.unwrap();
    loop {
        let packet = client.next().await.unwrap();
        if packet.cmd == 0 {
            return all;
        }
        all.push(packet);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_a_group_holds_on_every_gateway_when_its_caller_is_answered() {
    let system = system().await;
    let owner = system.http(0, "olga");
    let made = owner
        .ok("POST", "/api/groups", Some(json!({"name": "Team", "members": ["adam", "carol"]})))
        .await
        .unwrap();
    let group = made["conversation_id"].as_str().unwrap().to_owned();
    let path = format!("/api/groups/{group}");
    let mut olga = connect(&system, 0, "olga").await;
    let mut carol = connect(&system, 1, "carol").await;
    let mut eve = connect(&system, 1, "eve").await;
    say(&mut olga, &group, "m1").await;
    carol.wait_for(is_push_of("m1")).await.unwrap();
    assert_eq!(code(&mut eve, &group, "e1").await, 403);
    assert_eq!(eve.pull(&group, 0, 10).await.unwrap().code, 403);
    assert_eq!(eve.pull("group_nowhere", 0, 10).await.unwrap().code, 404);

    // Added: pushes without reconnecting.
    let added = json!({"user_ids": ["eve"]});
    assert_eq!(
        system
            .http(1, "carol")
            .refused("POST", &format!("{path}/members"), Some(added.clone()))
            .await
            .unwrap(),
        403
    );
    owner.ok("POST", &format!("{path}/members"), Some(added)).await.unwrap();
    event(&mut eve, "joined").await;
    say(&mut olga, &group, "m2").await;
    eve.wait_for(is_push_of("m2")).await.unwrap();
    assert_eq!(code(&mut eve, &group, "e2").await, 0);

    // Removed: the next send and pull are refused, and no push comes.
    owner.ok("DELETE", &format!("{path}/members/carol"), None).await.unwrap();
    assert_eq!(carol.pull(&group, 0, 10).await.unwrap().code, 403);
    assert_eq!(code(&mut carol, &group, "c1").await, 403);
    event(&mut carol, "left").await;
    say(&mut olga, &group, "m3").await;
    eve.wait_for(is_push_of("m3")).await.unwrap();
    assert!(!until_now(&mut carol).await.iter().any(is_push_of("m3")));

    // Mutes, of one and of all.
    let members = format!("{path}/members");
    owner.ok("PATCH", &format!("{members}/adam"), Some(json!({"role": "admin"}))).await.unwrap();
    let adam = system.http(1, "adam");
    adam.ok("PATCH", &format!("{members}/eve"), Some(json!({"muted_until": 4_000_000_000_000_i64})))
        .await
        .unwrap();
    assert_eq!(code(&mut eve, &group, "e3").await, 403);
    assert_eq!(eve.pull(&group, 0, 10).await.unwrap().code, 0, "reads on");
    adam.ok("PATCH", &format!("{members}/eve"), Some(json!({"muted_until": 0}))).await.unwrap();
    assert_eq!(code(&mut eve, &group, "e3").await, 0);
    owner.ok("PATCH", &path, Some(json!({"muted": true, "name": "Quiet"}))).await.unwrap();
    assert_eq!(code(&mut eve, &group, "e4").await, 403);
    say(&mut olga, &group, "m4").await;
    let shown = system.http(1, "eve").ok("GET", &path, None).await.unwrap();
    assert_eq!(
        (&shown["name"], &shown["muted"], &shown["role"]),
        (&json!("Quiet"), &json!(true), &json!("member"))
    );
    let listed = system.http(1, "eve").ok("GET", &format!("{members}?limit=2"), None).await.unwrap();
    assert_eq!((&listed["members"][0]["user_id"], &listed["next_cursor"]), (&json!("adam"), &json!("eve")));
    let rest = system.http(1, "eve").ok("GET", &format!("{members}?limit=2&cursor=eve"), None).await.unwrap();
    assert_eq!((&rest["members"][0]["role"], &rest["next_cursor"]), (&json!("owner"), &Value::Null));

    // Over: nobody is in it any more.
    assert_eq!(adam.refused("DELETE", &path, None).await.unwrap(), 403);
    owner.ok("DELETE", &path, None).await.unwrap();
    event(&mut eve, "dismissed").await;
    assert_eq!(code(&mut olga, &group, "m5").await, 404);
    assert_eq!(eve.pull(&group, 0, 10).await.unwrap().code, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn members_that_join_at_the_same_time_get_the_next_push() {
    let system = Builder::new().unlimited().for_test().await.unwrap();
    for round in 0..3 {
        let group = format!("group_rush{round}");
        let mut clients = Vec::new();
        for n in 0..120 {
            clients.push(connect(&system, n % 2, &format!("rush{n}")).await);
        }
        let joining = clients.iter_mut().map(|client| client.pull(&group, 0, 1));
        for joined in futures_util::future::join_all(joining).await {
            assert_eq!(joined.unwrap().code, 0);
        }
        let mut sender = connect(&system, 0, "sender").await;
        say(&mut sender, &group, "the-one").await;
        let hearing = clients.iter_mut().map(|client| client.wait_for(is_push_of("the-one")));
        for (n, heard) in futures_util::future::join_all(hearing).await.into_iter().enumerate() {
            heard.unwrap_or_else(|error| panic!("rush{n}: {error:#}"));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn continuous_changes_are_still_applied() {
    let system = Builder::new().unlimited().for_test().await.unwrap();
    let until = Instant::now() + Duration::from_secs(6);
    let joining = (0..4).map(|lane| {
        let system = &system;
        async move {
            for n in (0..).take_while(|_| Instant::now() < until) {
                let mut client = connect(system, lane % 2, &format!("flow{lane}.{n}")).await;
                assert_eq!(client.pull("group_stream", 0, 1).await.unwrap().code, 0);
            }
        }
    });
    futures_util::future::join_all(joining).await;
    for gateway in 0..2 {
        let log = std::fs::read_to_string(system.logs().join(format!("gateway-{gateway}.log"))).unwrap();
        assert!(!log.contains("reading the list of membership changes timed out"), "{log}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn newcomers_see_and_count_only_what_is_theirs() {
    let system = system().await;
    let olga_http = system.http(0, "olga");
    for (group, history) in [("group_open_book", "start"), ("group_fresh_page", "joining")] {
        let new = json!({"conversation_id": group, "members": ["old"], "history": history});
        olga_http.ok("POST", "/api/groups", Some(new)).await.unwrap();
        let mut olga = connect(&system, 0, "olga").await;
        for n in 1..=3 {
            say(&mut olga, group, &format!("before{n}")).await;
        }
        olga_http
            .ok("POST", &format!("/api/groups/{group}/members"), Some(json!({"user_ids": ["late"]})))
            .await
            .unwrap();
        say(&mut olga, group, "after").await;
        let mut late = connect(&system, 1, "late").await;
        let seen: Vec<_> = late.pull_all(group, 0).await.unwrap().iter().map(|m| m.seq).collect();
        let mut backward = late
            .request(
                3,
                format!(r#"{{"cmd":3,"conversation_id":"{group}","payload":{{"direction":"backward"}}}}"#),
            )
            .await
            .unwrap()
            .messages()
            .unwrap();
        backward.reverse();
        let expected = if history == "start" { vec![1, 2, 3, 4] } else { vec![4] };
        assert_eq!(seen, expected, "{history}");
        assert_eq!(backward.iter().map(|m| m.seq).collect::<Vec<_>>(), expected, "{history}");
        let synced = late.sync_all(0).await.unwrap();
        let entry = synced.of(group).unwrap();
        assert_eq!((entry.last_seq, entry.unread), (Some(4), Some(1)), "{history}: {entry:?}");
        let mut old = connect(&system, 1, "old").await;
        assert_eq!(old.sync_all(0).await.unwrap().of(group).unwrap().unread, Some(4));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_blocked_side_may_not_write_until_it_is_unblocked() {
    let system = system().await;
    let (mut alice, mut bob) = (connect(&system, 0, "alice").await, connect(&system, 1, "bob").await);
    let chat = "private_alice_bob";
    say(&mut bob, chat, "b1").await;
    let alice_http = system.http(0, "alice");
    alice_http.ok("POST", "/api/blocks", Some(json!({"user_id": "bob"}))).await.unwrap();
    assert_eq!(code(&mut bob, chat, "b2").await, 403);
    assert_eq!(code(&mut alice, chat, "a1").await, 0, "the other way is open");
    assert_eq!(alice_http.ok("GET", "/api/blocks", None).await.unwrap()["user_ids"], json!(["bob"]));
    assert_eq!(
        alice_http.refused("POST", "/api/blocks", Some(json!({"user_id": "alice"}))).await.unwrap(),
        400
    );
    alice_http.ok("DELETE", "/api/blocks/bob", None).await.unwrap();
    assert_eq!(code(&mut bob, chat, "b2").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sync_tells_what_changed_and_positions_move_on_all_devices() {
    let system = system().await;
    let chat = "private_alice_bob";
    let mut bob = connect(&system, 0, "bob").await;
    let mut phone = connect_device(&system, 0, "alice", "phone").await;
    let mut desk = connect_device(&system, 1, "alice", "desk").await;
    let empty = phone.sync_all(0).await.unwrap();
    assert!(empty.entries.is_empty());
    for n in 1..=3 {
        say(&mut bob, chat, &format!("m{n}")).await;
    }
    // The inbox is told at the commit, beside the push.
    let synced = changed(&mut phone, empty.cursor, chat, |entry| entry.last_seq == Some(3)).await;
    let entry = synced.of(chat).unwrap();
    assert_eq!((entry.unread, entry.last_ack_seq), (Some(3), Some(0)));
    assert_eq!(entry.last_message.as_ref().unwrap().msg_id, "m3");
    assert!(!synced.reset);
    let synced = until_quiet(&mut phone, synced).await;
    let beat = phone.request(0, format!(r#"{{"cmd":0,"cursor_seq":{}}}"#, synced.cursor)).await.unwrap();
    assert_eq!(beat.next_cursor_seq, Some(synced.cursor), "nothing was missed");

    // Own messages are not unread.
    say(&mut phone, chat, "a1").await;
    let synced = changed(&mut desk, synced.cursor, chat, |entry| entry.last_seq == Some(4)).await;
    assert_eq!(synced.of(chat).unwrap().unread, Some(3));
    let beat = desk.request(0, format!(r#"{{"cmd":0,"cursor_seq":{}}}"#, empty.cursor)).await.unwrap();
    assert!(beat.next_cursor_seq.unwrap() > empty.cursor, "something was");

    phone.request(4, format!(r#"{{"cmd":4,"conversation_id":"{chat}","cursor_seq":2}}"#)).await.unwrap();
    let moved = event(&mut desk, "ack").await;
    assert_eq!(moved.payload, json!({"type": "ack", "seq": 2, "unread": 1}));
    let read = event(&mut bob, "read").await;
    assert_eq!(read.payload, json!({"type": "read", "user_id": "alice", "seq": 2}));
    let synced = desk.sync_all(synced.cursor).await.unwrap();
    assert_eq!((synced.of(chat).unwrap().last_ack_seq, synced.of(chat).unwrap().unread), (Some(2), Some(1)));
    let positions =
        system.http(1, "bob").ok("GET", &format!("/api/conversations/{chat}/positions"), None).await;
    assert_eq!(
        positions.unwrap()["positions"],
        json!([{"user_id": "alice", "seq": 2}, {"user_id": "bob", "seq": 0}])
    );
    // Bob's inbox is built by his first sync; the cursor that it gives is good for the next one.
    let first = bob.sync_all(0).await.unwrap();
    assert_eq!(first.entries.len(), 1);
    assert!(!bob.sync_all(first.cursor).await.unwrap().reset);
    let list = system.http(1, "alice").ok("GET", "/api/conversations", None).await.unwrap();
    assert_eq!(
        (&list["conversations"][0]["conversation_id"], &list["conversations"][0]["unread"]),
        (&json!(chat), &json!(1))
    );
    let page =
        system.http(1, "alice").ok("GET", &format!("/api/conversations/{chat}/messages?limit=2"), None).await;
    assert_eq!(page.unwrap()["next_cursor_seq"], 2);
    assert_eq!(
        system
            .http(1, "eve")
            .refused("GET", &format!("/api/conversations/{chat}/messages"), None)
            .await
            .unwrap(),
        403
    );
}

/// Syncs until nothing is new: the same state may be told once more, when the inbox hears of it after the database.
async fn until_quiet(client: &mut Client, mut synced: testbed::client::Synced) -> testbed::client::Synced {
    loop {
        let next = client.sync_all(synced.cursor).await.unwrap();
        if next.entries.is_empty() {
            return next;
        }
        assert_eq!(next.entries.len(), 1, "{:?}", next.entries);
        synced = next;
    }
}

/// Syncs from `cursor` until `conversation` is as wanted: inboxes are written beside the reply.
async fn changed(
    client: &mut Client,
    cursor: u64,
    conversation: &str,
    wanted: impl Fn(&testbed::client::Entry) -> bool,
) -> testbed::client::Synced {
    let mut last = None;
    wait_for(conversation, PATIENCE, async || {
        let synced = client.sync_all(cursor).await?;
        let done = synced.of(conversation).is_some_and(&wanted);
        let seen = format!("{:?}", synced.entries);
        last = Some(synced);
        anyhow::ensure!(done, "{seen}");
        Ok(())
    })
    .await
    .unwrap();
    last.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_inbox_that_was_lost_is_built_anew_and_answered_as_complete() {
    let mut system = system().await;
    let mut alice = connect(&system, 0, "alice").await;
    let mut bob = connect(&system, 1, "bob").await;
    let names: Vec<String> = (0..7).map(|n| format!("group_{n}")).collect();
    for name in &names {
        let new = json!({"conversation_id": name, "members": ["alice"]});
        system.http(0, "bob").ok("POST", "/api/groups", Some(new)).await.unwrap();
        say(&mut bob, name, "hello").await;
    }
    let before = changed(&mut alice, 0, "group_6", |entry| entry.last_seq == Some(1)).await;
    for empty in [true, false] {
        let redis = system.redis().unwrap();
        redis.kill();
        if empty {
            redis.lose_data().unwrap();
        }
        redis.start_again().await.unwrap();
        // Page by page, from a cursor of before.
        let mut cursor = before.cursor;
        let mut told = Vec::new();
        let mut resets = 0;
        wait_for("sync after the restart", PATIENCE, async || {
            loop {
                let page = alice.sync(cursor, 3).await?;
                anyhow::ensure!(page.code == 0, "{}", page.payload);
                resets += u32::from(page.reset);
                told.extend(page.entries()?.into_iter().map(|entry| entry.conversation_id));
                cursor = page.next_cursor_seq.unwrap();
                if page.has_more != Some(true) {
                    return Ok(());
                }
            }
        })
        .await
        .unwrap();
        told.sort();
        assert_eq!((told, resets), (names.clone(), 1), "empty: {empty}");
        assert!(alice.sync_all(cursor).await.unwrap().entries.is_empty());
    }
    // Who left is told so once it has a cursor, and not in a complete list.
    let cursor = alice.sync_all(0).await.unwrap().cursor;
    system.http(1, "alice").ok("DELETE", "/api/groups/group_3/members/alice", None).await.unwrap();
    let synced = alice.sync_all(cursor).await.unwrap();
    assert!(synced.of("group_3").unwrap().removed, "{:?}", synced.entries);
    assert!(alice.sync_all(0).await.unwrap().of("group_3").is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cursor_that_is_older_than_inboxes_live_is_answered_as_complete() {
    let system = Builder::new().unlimited().set("IM__INBOX__TTL_S", 1).for_test().await.unwrap();
    let mut alice = connect(&system, 0, "alice").await;
    say(&mut alice, "private_alice_bob", "m1").await;
    let before = changed(&mut alice, 0, "private_alice_bob", |entry| entry.last_seq == Some(1)).await;
    wait_for("a complete answer", PATIENCE, async || {
        let synced = alice.sync_all(before.cursor).await?;
        anyhow::ensure!(synced.reset, "{:?}", synced.entries);
        anyhow::ensure!(synced.of("private_alice_bob").is_some(), "{:?}", synced.entries);
        Ok(())
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn presence_is_the_same_on_every_gateway_and_ends_with_a_killed_one() {
    let mut system = system().await;
    let _alice = connect(&system, 0, "alice").await;
    let mut bob = connect(&system, 1, "bob").await;
    // That bob has written opens his presence to alice.
    say(&mut bob, "private_alice_bob", "m1").await;
    let alice_http = system.http(0, "alice");
    let online = async || {
        let users = alice_http.ok("GET", "/api/presence?user_ids=bob,stranger", None).await?;
        anyhow::Ok(users["users"].clone())
    };
    let wait = async |expected: bool, patience: Duration| {
        wait_for("presence", patience, async || {
            let users = online().await?;
            anyhow::ensure!(users == json!([{"user_id": "bob", "online": expected}]), "{users}");
            Ok(())
        })
        .await
        .unwrap();
    };
    wait(true, PATIENCE).await;
    bob.socket().close(None).await.unwrap();
    wait(false, PATIENCE).await;
    let _bob = connect(&system, 1, "bob").await;
    wait(true, PATIENCE).await;
    // Redis forgets: whoever is connected is noted again.
    let redis = system.redis().unwrap();
    redis.kill();
    redis.lose_data().unwrap();
    redis.start_again().await.unwrap();
    wait(true, PATIENCE).await;
    system.gateway(1).kill();
    wait(false, Duration::from_secs(10)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn typing_is_passed_on_and_not_too_often() {
    let system = system().await;
    let mut alice = connect(&system, 0, "alice").await;
    let mut bob = connect(&system, 1, "bob").await;
    let notice = r#"{"cmd":8,"conversation_id":"private_alice_bob"}"#;
    assert_eq!(alice.request(8, notice).await.unwrap().code, 0);
    assert_eq!(event(&mut bob, "typing").await.payload, json!({"type": "typing", "user_id": "alice"}));
    let mut codes = Vec::new();
    for _ in 0..8 {
        codes.push(alice.request(8, notice).await.unwrap().code);
    }
    assert!(codes.contains(&429), "{codes:?}");
    assert_eq!(
        alice.request(8, r#"{"cmd":8,"conversation_id":"private_bob_carol"}"#).await.unwrap().code,
        403
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_missed_a_change_invalidates_its_caches() {
    let mut system = system().await;
    let new = json!({"conversation_id": "group_1", "members": ["carol"]});
    system.http(0, "olga").ok("POST", "/api/groups", Some(new)).await.unwrap();
    let mut carol = connect(&system, 1, "carol").await;
    assert_eq!(code(&mut carol, "group_1", "c1").await, 0);
    // Frozen, it does not hear of the removal; the caller is answered all the same.
    system.gateway(1).freeze();
    system.http(0, "olga").ok("DELETE", "/api/groups/group_1/members/carol", None).await.unwrap();
    carol.send(r#"{"cmd":3,"conversation_id":"group_1"}"#).await.unwrap();
    // Longer than what is remembered is believed without a look into the database.
    tokio::time::sleep(Duration::from_secs(6)).await;
    system.gateway(1).thaw();
    let pulled = carol.wait_for(|packet| packet.cmd == 3).await.unwrap();
    assert_eq!(pulled.code, 403, "{}", pulled.payload);
}

#[tokio::test(flavor = "multi_thread")]
async fn invalid_requests_are_refused_with_a_sentence() {
    let system = system().await;
    let alice = system.http(0, "alice");
    let new = json!({"conversation_id": "group_1"});
    alice.ok("POST", "/api/groups", Some(new.clone())).await.unwrap();
    for (method, path, body, status) in [
        ("POST", "/api/groups", Some(new), 409),
        ("POST", "/api/groups", Some(json!({"conversation_id": "room_1"})), 400),
        ("POST", "/api/groups", Some(json!({"name": "x".repeat(129)})), 400),
        ("POST", "/api/groups", Some(json!({"members": ["a b"]})), 400),
        ("POST", "/api/groups", Some(json!({"history": "never"})), 400),
        ("GET", "/api/groups/group_nowhere", None, 404),
        ("GET", "/api/groups/private_a_b", None, 400),
        ("PUT", "/api/groups/group_1", None, 405),
        ("PATCH", "/api/groups/group_1", Some(json!({})), 400),
        ("POST", "/api/groups/group_1/members", Some(json!({"user_ids": []})), 400),
        ("POST", "/api/groups/group_1/members", Some(json!({"user_ids": vec!["u"; 1_001]})), 400),
        ("PATCH", "/api/groups/group_1/members/alice", Some(json!({"role": "king"})), 400),
        ("DELETE", "/api/groups/group_1/members/bob", None, 404),
        ("DELETE", "/api/groups/group_1/members/alice", None, 403),
        ("GET", "/api/groups/group_1/members?limit=0", None, 400),
        ("GET", "/api/conversations?cursor=x", None, 400),
        ("GET", "/api/conversations/room_1/messages", None, 400),
        ("GET", "/api/conversations/group_1/messages?direction=up", None, 400),
        ("GET", "/api/presence", None, 400),
        ("GET", "/api/nothing", None, 404),
    ] {
        let refused = alice.refused(method, path, body).await.unwrap();
        assert_eq!(refused, status, "{method} {path}");
    }
}

/// Walks a group up and down across the limit while its members sync from cursors of any age: whatever was committed
/// after a cursor was handed out is told to a sync from it.
#[tokio::test(flavor = "multi_thread")]
async fn a_group_that_grows_and_shrinks_across_the_limit_hides_nothing_from_any_cursor() {
    const LARGE_ABOVE: usize = 4;
    const MEMBERS: usize = 8;
    const STEPS: usize = 50;
    let builder = Builder::new().unlimited().set("IM__GROUPS__LARGE_ABOVE", LARGE_ABOVE);
    let system = builder.for_test().await.unwrap();
    for seed in [1, 2, 3] {
        eprintln!("seed {seed}");
        let mut random = StdRng::seed_from_u64(seed);
        let group = format!("group_walk{seed}");
        let operator = Http::of_operator(&system.http_urls()[0], system.operator_key());
        let names: Vec<String> = (0..MEMBERS).map(|n| format!("w{seed}_{n}")).collect();
        let new = json!({"conversation_id": group, "members": [names[0]]});
        operator.ok("POST", "/api/groups", Some(new)).await.unwrap();
        let mut clients = Vec::new();
        for (n, name) in names.iter().enumerate() {
            clients.push(connect(&system, n % 2, name).await);
        }
        let mut is_in = [false; MEMBERS];
        is_in[0] = true;
        // For each member: cursors that were handed out, and what had been committed by then.
        let mut cursors: Vec<Vec<(u64, u64)>> = vec![vec![(0, 0)]; MEMBERS];
        let mut last = 0;
        for step in 0..STEPS {
            let who = random.random_range(1..MEMBERS);
            match random.random_range(0..4) {
                0 if is_in[who] => {
                    let path = format!("/api/groups/{group}/members/{}", names[who]);
                    operator.ok("DELETE", &path, None).await.unwrap();
                    is_in[who] = false;
                }
                0 | 1 if !is_in[who] => {
                    let add = json!({"user_ids": [names[who]]});
                    operator.ok("POST", &format!("/api/groups/{group}/members"), Some(add)).await.unwrap();
                    is_in[who] = true;
                }
                1 | 2 => last = say(&mut clients[0], &group, &format!("m{step}")).await,
                _ => {
                    let (cursor, known) = cursors[who][random.random_range(0..cursors[who].len())];
                    if !is_in[who] {
                        continue;
                    }
                    let mut handed = 0;
                    wait_for("the sync", PATIENCE, async || {
                        let synced = clients[who].sync_all(cursor).await?;
                        let told = synced.of(&group).and_then(|entry| entry.last_seq).unwrap_or(known);
                        anyhow::ensure!(
                            told >= last,
                            "step {step}: {} told {told} of {last} from {cursor}",
                            names[who]
                        );
                        handed = synced.cursor;
                        Ok(())
                    })
                    .await
                    .unwrap();
                    cursors[who].push((handed, last));
                }
            }
        }
        // Everyone who is in it, from every cursor that it ever got.
        for who in (0..MEMBERS).filter(|who| is_in[*who]) {
            for (cursor, known) in cursors[who].clone() {
                wait_for("the sync", PATIENCE, async || {
                    let synced = clients[who].sync_all(cursor).await?;
                    let told = synced.of(&group).and_then(|entry| entry.last_seq).unwrap_or(known);
                    anyhow::ensure!(told >= last, "{} told {told} of {last} from {cursor}", names[who]);
                    Ok(())
                })
                .await
                .unwrap();
            }
            let seen: Vec<_> =
                clients[who].pull_all(&group, 0).await.unwrap().iter().map(|m| m.seq).collect();
            assert_eq!(seen, (1..=last).collect::<Vec<_>>(), "read diffusion does not depend on inboxes");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recall_is_a_timeline_entry_and_removes_the_recalled_content() {
    let system =
        Builder::new().unlimited().set("IM__LIMITS__RECALL_WITHIN_MS", 3_000).for_test().await.unwrap();
    let mut alice = connect(&system, 0, "alice").await;
    let mut bob = connect(&system, 1, "bob").await;
    let chat = "private_alice_bob";
    let seq = say(&mut alice, chat, "m1").await;
    bob.wait_for(is_push_of("m1")).await.unwrap();
    let recall = |conversation: &str, id: &str, seq: u64| {
        let payload = json!({"msg_type": 3, "recall_seq": seq, "ack": "stored"});
        json!({"cmd": 2, "msg_id": id, "conversation_id": conversation, "payload": payload}).to_string()
    };
    for (client, id, of, code) in [(&mut bob, "r0", seq, 403), (&mut alice, "r0", 99, 404)] {
        assert_eq!(client.request(2, recall(chat, id, of)).await.unwrap().code, code);
    }
    let recalled = alice.request(2, recall(chat, "r1", seq)).await.unwrap();
    assert_eq!((recalled.code, recalled.seq), (0, Some(2)), "{}", recalled.payload);
    let push = bob.wait_for(is_push_of("r1")).await.unwrap().messages().unwrap();
    assert_eq!((push[0].msg_type, push[0].recall_seq, push[0].content.as_str()), (3, Some(seq), ""));
    let all = bob.pull_all(chat, 0).await.unwrap();
    let seen: Vec<_> = all.iter().map(|m| (m.seq, m.content.as_str(), m.recalled, m.recall_seq)).collect();
    assert_eq!(seen, [(1, "", true, None), (2, "", false, Some(1))]);
    assert_eq!(alice.request(2, recall(chat, "r2", 2)).await.unwrap().code, 400, "a recall is not recalled");
    let again = alice.request(2, recall(chat, "r1", seq)).await.unwrap();
    assert_eq!((again.code, again.seq), (0, Some(2)), "a retry");
    let entry = bob.sync_all(0).await.unwrap();
    assert_eq!(entry.of(chat).unwrap().unread, Some(0), "what was recalled is not unread");

    // Too late for oneself, never too late for an admin.
    let new = json!({"conversation_id": "group_r", "members": ["bob"]});
    system.http(0, "alice").ok("POST", "/api/groups", Some(new)).await.unwrap();
    let seq = say(&mut bob, "group_r", "b1").await;
    let mut attempt = 0;
    wait_for("the time for a recall to be over", PATIENCE, async || {
        attempt += 1;
        let late = bob.request(2, recall("group_r", &format!("r3.{attempt}"), seq)).await?;
        // In time it is recalled; later not even that may be said again, except by a retry.
        anyhow::ensure!(late.code == 403, "{}", late.payload);
        Ok(())
    })
    .await
    .unwrap();
    let seq = say(&mut bob, "group_r", "b2").await;
    assert_eq!(alice.request(2, recall("group_r", "r4", seq)).await.unwrap().code, 0, "the owner");
    let last = bob.pull_all("group_r", 0).await.unwrap();
    assert!(last.iter().any(|m| m.seq == seq && m.recalled && m.content.is_empty()), "{last:?}");
}

/// What a sender was told last about each of its messages is true, whenever it was removed meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_meets_the_removal_of_its_sender_is_stored_or_refused_never_both() {
    let system = system().await;
    let owner = system.http(0, "olga");
    let new = json!({"conversation_id": "group_1", "members": ["sam"]});
    owner.ok("POST", "/api/groups", Some(new)).await.unwrap();
    let mut refused_after_all = 0;
    for round in 0..6 {
        let mut sam = connect(&system, 1, "sam").await;
        for n in 0..150 {
            let (id, payload) = (format!("m{round}.{n}"), json!({"content": "x"}));
            sam.send(
                json!({"cmd": 2, "msg_id": id, "conversation_id": "group_1", "payload": payload}).to_string(),
            )
            .await
            .unwrap();
        }
        owner.ok("DELETE", "/api/groups/group_1/members/sam", None).await.unwrap();
        assert_eq!(code(&mut sam, "group_1", &format!("late{round}")).await, 403);
        owner.ok("POST", "/api/groups/group_1/members", Some(json!({"user_ids": ["sam"]}))).await.unwrap();
        // After this one is committed nothing of the round is on its way any more, and all of it has been told.
        let last = say(&mut sam, "group_1", &format!("last{round}")).await;
        let mut told = std::collections::HashMap::new();
        for packet in until_now(&mut sam).await {
            if let (2, Some(id)) = (packet.cmd, packet.msg_id.clone()) {
                if packet.code == 403 && told.get(&id) == Some(&0) {
                    refused_after_all += 1;
                }
                told.insert(id, packet.code);
            }
        }
        let stored = sam.pull_all("group_1", 0).await.unwrap();
        assert_eq!(stored.last().unwrap().seq, last);
        for n in 0..150 {
            let id = format!("m{round}.{n}");
            let is_stored = stored.iter().any(|message| message.msg_id == id);
            match told.get(&id) {
                Some(0) => assert!(is_stored, "{id} was accepted and is not there"),
                Some(403) => assert!(!is_stored, "{id} was refused and is there"),
                other => panic!("{id}: {other:?}"),
            }
        }
    }
    eprintln!("{refused_after_all} messages were accepted first and refused at the commit");
}

/// Plays the examples of docs/protocol.md. Calls and answers are as docs/api/openapi.yaml describes them: the client checks the
/// answers.
#[tokio::test(flavor = "multi_thread")]
async fn the_documented_calls_are_answered_as_documented() {
    let system = Builder::new()
        .unlimited()
        .set("IM__GROUPS__AUTO_CREATE", "false")
        .set("IM__GROUPS__SYSTEM_MESSAGES", "true")
        .set("IM__AUTH__ACCOUNTS", "true")
        .for_test()
        .await
        .unwrap();
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/protocol.md")).unwrap();
    let examples = page.split("```http\n").nth(1).unwrap().split("```").next().unwrap();
    let lines: Vec<&str> = examples.lines().collect();
    let mut played = 0;
    for (n, pair) in lines.chunks(2).enumerate() {
        let [call, answer] = pair else { panic!("a call without an answer: {pair:?}") };
        let mut words = call.strip_prefix("> ").unwrap().splitn(4, ' ');
        let mut word = || words.next().unwrap();
        let (who, method, path) = (word(), word(), word());
        let body: Option<Value> = words.next().map(|text| serde_json::from_str(text).unwrap());
        // By turns through both gateways: what one has done holds on the other.
        let base = &system.http_urls()[n % 2];
        let caller = match who {
            "operator" => Http::of_operator(base, system.operator_key()),
            "nobody" => Http::of_nobody(base),
            user => Http::of_user(base, user),
        };
        let specified = spec::api().check_request(method, path, body.as_ref(), Strictness::Closed);
        specified.unwrap_or_else(|fault| panic!("{call}: {fault}"));
        let (status, got) = caller.call(method, path, body.as_ref()).await.unwrap();
        let (expected_status, expected) = answer.strip_prefix("< ").unwrap().split_once(' ').unwrap();
        let expected: Value = serde_json::from_str(expected).unwrap();
        assert!(
            status == expected_status.parse::<u16>().unwrap() && is_like(&expected, &got),
            "{call}\nexpected {answer}\ngot      {status} {got}"
        );
        played += 1;
    }
    assert!(played > 20);
}

/// `*` stands for anything; otherwise both have the same fields and values.
fn is_like(expected: &Value, got: &Value) -> bool {
    match (expected, got) {
        (Value::String(pattern), got) if pattern == "*" => !got.is_null(),
        (Value::Object(expected), Value::Object(got)) => {
            expected.len() == got.len()
                && expected.iter().all(|(key, value)| is_like(value, got.get(key).unwrap_or(&Value::Null)))
        }
        (Value::Array(expected), Value::Array(got)) => {
            expected.len() == got.len() && expected.iter().zip(got).all(|(e, g)| is_like(e, g))
        }
        (expected, got) => expected == got,
    }
}
