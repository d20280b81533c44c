//! The change feed over HTTP: two gateways and two workers on real stores.

#![expect(clippy::unwrap_used, reason = "a failed helper is a failed test")]

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use testbed::client::{Caller, Chat, Client, FeedReader, Http, chat_frame};
use testbed::judge::{Lists, Verdict, judge_feed};
use testbed::stack::{Builder, System, wait_for};

const TIMEOUT: Duration = Duration::from_secs(30);
const GROUP: &str = "group_feed";

fn builder() -> Builder {
    Builder::new().gateways(2).workers(2).unlimited().feed()
}

fn operator(system: &System, gateway: usize) -> Http {
    Http::of_operator(&system.http_urls()[gateway], system.operator_key())
}

/// All events of all shards from the beginning, with pages of `limit`.
async fn all_events(http: &Http, limit: usize) -> Vec<Value> {
    let mut all = Vec::new();
    let shards = http.ok("GET", "/api/admin/feed/shards", None).await.unwrap();
    for shard in shards["shards"].as_array().unwrap() {
        let (shard, mut cursor) = (&shard["shard"], String::new());
        loop {
            let path = format!("/api/admin/feed?shard={shard}&cursor={cursor}&limit={limit}");
            let page = http.ok("GET", &path, None).await.unwrap();
            let events = page["events"].as_array().unwrap().clone();
            assert!(events.len() <= limit, "{page}");
            page["next_cursor"].as_str().unwrap().clone_into(&mut cursor);
            all.extend(events);
            if page["has_more"] == false {
                break;
            }
        }
    }
    all
}

fn of_type<'v>(events: &'v [Value], kind: &str) -> Vec<&'v Value> {
    events.iter().filter(|event| event["type"] == kind).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_happens_is_in_the_feed_in_its_present_state() {
    let system = builder().for_test().await.unwrap();
    let urls = system.ws_urls();
    let ann = system.http(0, "ann");
    let group = json!({"conversation_id": GROUP, "members": ["bob"]});
    ann.ok("POST", "/api/groups", Some(group)).await.unwrap();
    let member = format!("/api/groups/{GROUP}/members/bob");
    let muted = json!({"muted_until": 4_000_000_000_000_u64});
    ann.ok("PATCH", &member, Some(muted)).await.unwrap();
    ann.ok("PATCH", "/api/users/me", Some(json!({"nickname": "Ann"}))).await.unwrap();
    let mut client = Client::connect(&urls[1], "ann").await.unwrap();
    for n in 0..5 {
        let sent = client.say(GROUP, &format!("m{n}"), "first").await.unwrap();
        assert_eq!(sent, n + 1);
    }
    client.say("private_ann_b_c", "p1", "to b_c").await.unwrap();
    let messages = format!("/api/conversations/{GROUP}/messages");
    let edit = json!({"msg_id": "e1", "payload": {"edit_seq": 1, "content": "second", "msg_type": 4}});
    ann.ok("POST", &messages, Some(edit)).await.unwrap();

    let http = operator(&system, 0);
    let mut events = Vec::new();
    wait_for("the edit", TIMEOUT, async || {
        events = all_events(&http, 500).await;
        anyhow::ensure!(of_type(&events, "message").len() == 7, "{events:?}");
        Ok(())
    })
    .await
    .unwrap();
    assert_eq!(events, all_events(&http, 1).await, "pages of one event");
    assert_eq!(events, all_events(&operator(&system, 1), 3).await, "the other gateway");
    let in_group: Vec<&Value> =
        of_type(&events, "message").into_iter().filter(|event| event["conversation_id"] == GROUP).collect();
    let seqs: Vec<u64> = in_group.iter().map(|event| event["message"]["seq"].as_u64().unwrap()).collect();
    assert_eq!(seqs, [1, 2, 3, 4, 5, 6]);
    assert_eq!(in_group[0]["message"]["content"], "second", "the present state");
    let private = of_type(&events, "message").into_iter().find(|event| event["conversation_id"] != GROUP);
    assert_eq!(private.unwrap()["user_ids"], json!(["ann", "b_c"]));
    let changes = of_type(&events, "group");
    let changes: Vec<_> = changes.iter().map(|event| event["change"].as_str().unwrap()).collect();
    assert_eq!(changes, ["create group", "update member"]);
    assert_eq!(of_type(&events, "group")[0]["joined"], json!(["ann", "bob"]));
    assert_eq!(of_type(&events, "group")[1]["user_id"], "bob");
    assert_eq!(of_type(&events, "profile")[0]["user_id"], "ann");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_waits_for_the_next_event_until_its_time_or_the_end_of_the_gateway() {
    let mut system = builder().set("IM__SHARDS__COUNT", 1).for_test().await.unwrap();
    let (http, urls) = (operator(&system, 0), system.ws_urls());
    let mut client = Client::connect(&urls[1], "ann").await.unwrap();
    client.say("private_ann_bob", "m0", "x").await.unwrap();
    wait_for("the first event", TIMEOUT, async || {
        let page = http.ok("GET", "/api/admin/feed?shard=0", None).await?;
        anyhow::ensure!(page["events"].as_array().is_some_and(|events| !events.is_empty()), "{page}");
        Ok(())
    })
    .await
    .unwrap();
    let latest = http.ok("GET", "/api/admin/feed?shard=0&cursor=latest&wait_s=20", None).await.unwrap();
    assert_eq!((&latest["events"], &latest["has_more"]), (&json!([]), &json!(false)));
    let cursor = latest["next_cursor"].as_str().unwrap();
    let path = |wait_s: u64| format!("/api/admin/feed?shard=0&cursor={cursor}&wait_s={wait_s}");

    let begun = Instant::now();
    let page = http.ok("GET", &path(1), None).await.unwrap();
    assert_eq!((&page["events"], page["next_cursor"].as_str()), (&json!([]), Some(cursor)));
    assert!((1.0..4.0).contains(&begun.elapsed().as_secs_f64()), "{:?}", begun.elapsed());

    // Longer than the deadline of calls.
    let waiting = tokio::spawn({
        let (http, path) = (http.clone(), path(30));
        async move { http.ok("GET", &path, None).await.unwrap() }
    });
    tokio::time::sleep(Duration::from_secs(6)).await;
    let sent = Instant::now();
    client.say("private_ann_bob", "m1", "y").await.unwrap();
    let page = waiting.await.unwrap();
    assert_eq!(page["events"][0]["message"]["msg_id"], "m1", "{page}");
    assert!(sent.elapsed() < Duration::from_secs(2), "{:?}", sent.elapsed());

    let cursor = page["next_cursor"].as_str().unwrap().to_owned();
    let waiting = tokio::spawn({
        let path = format!("/api/admin/feed?shard=0&cursor={cursor}&wait_s=30");
        async move { http.call("GET", &path, None).await }
    });
    tokio::time::sleep(Duration::from_millis(500)).await;
    let begun = Instant::now();
    system.gateway(0).terminate().await.unwrap();
    let (status, page) = waiting.await.unwrap().unwrap();
    assert_eq!((status, &page["events"]), (200, &json!([])));
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_say_how_to_go_on() {
    let system = builder().for_test().await.unwrap();
    let http = operator(&system, 0);
    for (query, status) in [
        ("", 400),
        ("?shard=100", 400),
        ("?shard=x", 400),
        ("?shard=0&cursor=x", 400),
        ("?shard=0&limit=0", 400),
        ("?shard=0&limit=501", 400),
        ("?shard=0&wait_s=31", 400),
        ("?shard=0&cursor=99", 410),
        ("?shard=0&cursor=0.3", 410),
    ] {
        let refused = http.refused("GET", &format!("/api/admin/feed{query}"), None).await.unwrap();
        assert_eq!(refused, status, "{query}");
    }
    let (_, gone) = http.call("GET", "/api/admin/feed?shard=0&cursor=99", None).await.unwrap();
    assert!(gone["message"].as_str().unwrap().contains("cursor=0"), "{gone}");
    assert_eq!(http.refused("POST", "/api/admin/feed", None).await.unwrap(), 405);
    assert_eq!(http.refused("GET", "/api/admin/feed/other", None).await.unwrap(), 404);
    let nobody = http.with_caller(Caller::Nobody);
    assert_eq!(nobody.refused("GET", "/api/admin/feed?shard=0", None).await.unwrap(), 401);
    let user = system.http(0, "ann");
    assert_eq!(user.refused("GET", "/api/admin/feed?shard=0", None).await.unwrap(), 403);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_feed_there_is_none() {
    let system = Builder::new().for_test().await.unwrap();
    let http = operator(&system, 0);
    assert_eq!(http.refused("GET", "/api/admin/feed?shard=0", None).await.unwrap(), 404);
    assert_eq!(http.refused("GET", "/api/admin/feed/shards", None).await.unwrap(), 404);
}

/// Kills gateways and workers in turn while messages are sent and the feed is followed.
#[tokio::test(flavor = "multi_thread")]
async fn a_reader_sees_every_entry_once_while_processes_are_killed() {
    let mut system = builder().for_test().await.unwrap();
    let (https, key) = (system.http_urls(), system.operator_key().to_owned());
    let reader = FeedReader::start(&https, &key).await.unwrap().unwrap();
    let urls = system.ws_urls();
    let conversations: Vec<String> = (0..4).map(|n| format!("group_kill{n}")).collect();
    for round in 0..6 {
        let mut sending = tokio::task::JoinSet::new();
        for (n, conversation) in conversations.iter().enumerate() {
            // Gateway 0 is never killed, so that all answers are known.
            let (url, conversation) = (urls[0].clone(), conversation.clone());
            sending.spawn(async move {
                let mut client = Client::connect(&url, &format!("user{n}")).await.unwrap();
                for m in 0..40 {
                    let (msg_id, content) = (format!("r{round}.{m}"), "x".to_owned());
                    let conversation = conversation.clone();
                    let chat = Chat { conversation, msg_id: msg_id.clone(), content, stored: false };
                    client.send_until_taken(&msg_id, &chat_frame(&chat)).await.unwrap();
                }
            });
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
        match round % 3 {
            0 => system.worker(round % 2).kill(),
            1 => system.gateway(1).kill(),
            _ => {}
        }
        while let Some(sent) = sending.join_next().await {
            sent.unwrap();
        }
        match round % 3 {
            0 => system.worker(round % 2).start_again().await.unwrap(),
            1 => system.gateway(1).start_again().await.unwrap(),
            _ => {}
        }
    }
    let mut lists = Lists::new();
    for (n, conversation) in conversations.iter().enumerate() {
        let mut client = Client::connect(&urls[0], &format!("user{n}")).await.unwrap();
        let mut list = Vec::new();
        // Accepted messages are stored when a worker has the shard again.
        wait_for("the messages", TIMEOUT, async || {
            list = client.pull_all(conversation, 0).await?;
            anyhow::ensure!(list.len() == 6 * 40, "{} in {conversation}", list.len());
            Ok(())
        })
        .await
        .unwrap();
        lists.insert(conversation.clone(), list);
    }
    wait_for("the reader", TIMEOUT, async || reader.has_all().await).await.unwrap();
    let (shards, complaints) = reader.finish().await.unwrap();
    assert_eq!(complaints, [""; 0]);
    let mut verdict = Verdict::default();
    judge_feed(&shards, &lists, &mut verdict);
    assert!(verdict.is_good(), "{verdict}");
}
