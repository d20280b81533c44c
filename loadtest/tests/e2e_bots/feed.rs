//! `GET /api/feed`.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use testbed::client::{Caller, Credentials, Http};
use testbed::meter::metric;
use testbed::stack::{Builder, wait_for};

use super::support::{Bot, TIMEOUT, changes, contents, make_group, messages, say, system};

#[tokio::test(flavor = "multi_thread")]
async fn a_user_reads_what_happens_in_its_own_conversations() {
    let system = system().await;
    let (ann, bob) = (system.http(0, "ann"), system.http(1, "bob"));
    let mut bot = Bot::begin(system.http(1, "bot"), "latest").await;
    make_group(&ann, "group_with", &["bot", "bob"], "start").await;
    make_group(&ann, "group_without", &["bob"], "start").await;
    say(&ann, "group_with", "m1", "first").await;
    say(&bob, "group_with", "m2", "to recall").await;
    say(&ann, "group_without", "m1", "secret").await;
    say(&ann, "private_ann_bot", "m1", "to the bot").await;
    say(&ann, "private_ann_bob", "m1", "not to the bot").await;
    say(&bot.http, "private_ann_bot", "m2", "from the bot").await;
    let recall = json!({"msg_id": "r", "payload": {"msg_type": 3, "recall_seq": 2, "ack": "stored"}});
    bob.ok("POST", &messages("group_with"), Some(recall)).await.unwrap();
    for http in [&ann, &bot.http] {
        http.ok("PATCH", "/api/users/me", Some(json!({"nickname": "Named"}))).await.unwrap();
    }

    let begin = bot.cursor.clone();
    let mut events = bot.rest(500).await;
    assert_eq!(contents(&events, "group_with"), ["first", "", ""], "{events:?}");
    assert_eq!(changes(&events, "group_with"), ["create group"]);
    assert_eq!(contents(&events, "private_ann_bot"), ["to the bot", "from the bot"]);
    let private = events.iter().find(|event| event["conversation_id"] == "private_ann_bot").unwrap();
    assert_eq!(private["user_ids"], json!(["ann", "bot"]));
    let profiles: Vec<&Value> = events.iter().filter(|event| event["type"] == "profile").collect();
    assert_eq!(profiles.len(), 1);
    assert_eq!(profiles[0]["user_id"], "bot");
    assert_eq!(events.len(), 3 + 1 + 2 + 1, "{events:?}");
    assert_eq!(bot.rest(500).await, [Value::Null; 0]);

    // As the operator sees the same events, but for their cursors.
    let mut one_by_one = Bot { http: system.http(0, "bot"), cursor: begin }.rest(1).await;
    let without_cursor = |event: &mut Value| _ = event.as_object_mut().unwrap().remove("cursor");
    let mut all = Vec::new();
    let operator = Http::of_operator(&system.http_urls()[0], system.operator_key());
    let shards = operator.ok("GET", "/api/admin/feed/shards", None).await.unwrap();
    for shard in shards["shards"].as_array().unwrap() {
        let path = format!("/api/admin/feed?shard={}&limit=500", shard["shard"]);
        all.extend(operator.ok("GET", &path, None).await.unwrap()["events"].as_array().unwrap().clone());
    }
    for list in [&mut events, &mut one_by_one, &mut all] {
        list.iter_mut().for_each(without_cursor);
        list.sort_by_key(ToString::to_string);
    }
    assert_eq!(events, one_by_one);
    assert!(events.iter().all(|event| all.contains(event)), "{events:?} {all:?}");

    // The operator may read for a user.
    let operator = operator.with_caller(Caller::Operator {
        key: system.operator_key().to_owned(),
        user: Some("bot".to_owned()),
    });
    assert_eq!(Bot::begin(operator, "oldest").await.rest(500).await.len(), events.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_sees_what_a_pull_shows_it() {
    let system = system().await;
    let (ann, http) = (system.http(0, "ann"), system.http(1, "bot"));
    for (group, history) in [("group_start", "start"), ("group_joining", "joining")] {
        make_group(&ann, group, &["bob"], history).await;
        say(&ann, group, "m1", "before").await;
        let members = format!("/api/groups/{group}/members");
        ann.ok("POST", &members, Some(json!({"user_ids": ["bot"]}))).await.unwrap();
        say(&ann, group, "m2", "after").await;
    }
    say(&ann, "private_ann_bot", "m1", "cleared").await;
    let events = Bot::begin(http.clone(), "oldest").await.rest(2).await;
    assert_eq!(contents(&events, "group_start"), ["before", "after"]);
    assert_eq!(changes(&events, "group_start"), ["create group", "add members"]);
    assert_eq!(contents(&events, "group_joining"), ["after"]);
    assert_eq!(changes(&events, "group_joining"), ["add members"]);
    assert_eq!(contents(&events, "private_ann_bot"), ["cleared"]);

    // What it clears is hidden, too.
    http.ok("DELETE", "/api/conversations/private_ann_bot", None).await.unwrap();
    say(&ann, "private_ann_bot", "m2", "new").await;
    let mut bot = Bot::begin(http.clone(), "oldest").await;
    assert_eq!(contents(&bot.rest(3).await, "private_ann_bot"), ["new"]);

    // The event that removes it is the last of the group, and a later reading shows nothing of it.
    ann.ok("DELETE", "/api/groups/group_start/members/bot", None).await.unwrap();
    say(&ann, "group_start", "m3", "without it").await;
    let events = bot.rest(500).await;
    assert_eq!(changes(&events, "group_start"), ["remove member"]);
    assert_eq!(events.last().unwrap()["left"], json!(["bot"]));
    assert_eq!(events.len(), 1, "{events:?}");
    let events = Bot::begin(http.clone(), "oldest").await.rest(500).await;
    assert_eq!(contents(&events, "group_start"), [""; 0]);
    assert_eq!(changes(&events, "group_start"), ["add members", "remove member"]);

    // It comes back, and a dismissal is told.
    let members = "/api/groups/group_start/members";
    ann.ok("POST", members, Some(json!({"user_ids": ["bot"]}))).await.unwrap();
    say(&ann, "group_start", "m4", "with it").await;
    ann.ok("DELETE", "/api/groups/group_joining", None).await.unwrap();
    let events = bot.rest(500).await;
    assert_eq!(contents(&events, "group_start"), ["with it"]);
    assert_eq!(changes(&events, "group_joining"), ["dismiss group"]);
}

/// What a reader has seen: for each conversation its numbers in the order in which they came.
#[derive(Default)]
struct Seen(BTreeMap<String, Vec<u64>>);

impl Seen {
    fn see(&mut self, event: &Value) {
        let numbers = match event["type"].as_str().unwrap() {
            "message" => vec![event["message"]["seq"].as_u64().unwrap()],
            "voided" => {
                (event["first_seq"].as_u64().unwrap()..=event["last_seq"].as_u64().unwrap()).collect()
            }
            _ => return,
        };
        let conversation = event["conversation_id"].as_str().unwrap().to_owned();
        self.0.entry(conversation).or_default().extend(numbers);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_stores_cursors_sees_every_number_of_all_shards_once_in_order() {
    const MESSAGES: u64 = 40;
    let system = system().await;
    let ann = system.http(0, "ann");
    let mut conversations = vec!["private_ann_bot".to_owned()];
    for n in 0..10 {
        let group = format!("group_once{n}");
        make_group(&ann, &group, &["bot"], "start").await;
        make_group(&ann, &format!("group_other{n}"), &["bob"], "start").await;
        conversations.extend([group, format!("group_other{n}")]);
    }
    let mut bot = Bot::begin(system.http(1, "bot"), "latest").await;
    let mut sending = tokio::task::JoinSet::new();
    for conversation in conversations.clone() {
        let ann = system.http(sending.len() % 2, "ann");
        sending.spawn(async move {
            for n in 0..MESSAGES {
                say(&ann, &conversation, &format!("m{n}"), "x").await;
            }
        });
    }
    let (mut seen, until) = (Seen::default(), Instant::now() + TIMEOUT);
    let own = |conversation: &&String| !conversation.starts_with("group_other");
    let expected: BTreeMap<String, Vec<u64>> =
        conversations.iter().filter(own).map(|own| (own.clone(), (1..=MESSAGES).collect())).collect();
    let is_complete = |seen: &Seen| seen.0.values().map(Vec::len).sum::<usize>() >= 11 * 40;
    while !is_complete(&seen) && Instant::now() < until {
        let before = bot.cursor.clone();
        let limit = rand::random_range(1..=12);
        let mut events = bot.page(&format!("&limit={limit}&wait_s=1")).await;
        assert!(events.len() <= limit);
        if !events.is_empty() && rand::random_range(0..3) == 0 {
            // It dies after one of them, whose cursor it has stored, or before the first one.
            events.truncate(rand::random_range(0..events.len()));
            let cursor = events.last().map_or(before, |last| last["cursor"].as_str().unwrap().to_owned());
            bot.cursor = cursor;
        }
        events.iter().for_each(|event| seen.see(event));
    }
    while let Some(sent) = sending.join_next().await {
        sent.unwrap();
    }
    assert_eq!(seen.0, expected);
    assert_eq!(bot.rest(500).await, [Value::Null; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_waits_until_something_concerns_its_user() {
    let system = system().await;
    let (ann, bob) = (system.http(0, "ann"), system.http(0, "bob"));
    let mut bot = Bot::begin(system.http(1, "bot"), "latest").await;

    // Others chat: the call lasts its time, and its cursor moves on.
    let before = bot.cursor.clone();
    let begun = Instant::now();
    let chatting = tokio::spawn(async move {
        for n in 0..20 {
            say(&ann, "private_ann_bob", &format!("m{n}"), "x").await;
        }
        ann
    });
    assert_eq!(bot.page("&wait_s=3").await, [Value::Null; 0]);
    assert!((3.0..6.0).contains(&begun.elapsed().as_secs_f64()), "{:?}", begun.elapsed());
    assert_ne!(bot.cursor, before);
    let ann = chatting.await.unwrap();

    // A message wakes it, and so does a group of which it was not a member when it began to wait.
    let waiting = |bot: &Bot| {
        let (http, path) = (bot.http.clone(), bot.path("&wait_s=30"));
        tokio::spawn(async move {
            let page = http.ok("GET", &path, None).await.unwrap();
            (page, Instant::now())
        })
    };
    let first = waiting(&bot);
    say(&bob, "private_bob_bot", "m1", "wake up").await;
    let sent = Instant::now();
    let (page, woken) = first.await.unwrap();
    assert_eq!(contents(page["events"].as_array().unwrap(), "private_bob_bot"), ["wake up"]);
    assert!(woken.saturating_duration_since(sent) < Duration::from_secs(2));
    page["next_cursor"].as_str().unwrap().clone_into(&mut bot.cursor);
    let second = waiting(&bot);
    make_group(&ann, "group_new", &["bot"], "start").await;
    let (page, _) = second.await.unwrap();
    assert_eq!(changes(page["events"].as_array().unwrap(), "group_new"), ["create group"]);
    page["next_cursor"].as_str().unwrap().clone_into(&mut bot.cursor);
    let third = waiting(&bot);
    say(&ann, "group_new", "m1", "hello").await;
    let (page, _) = third.await.unwrap();
    assert_eq!(contents(page["events"].as_array().unwrap(), "group_new"), ["hello"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_calls_that_wait_read_each_row_once() {
    const BOTS: f64 = 60.0;
    let system = Builder::new().gateways(1).workers(1).unlimited().feed();
    let system = system.set("IM__LIMITS__ADDRESS_CALLS_AT_ONCE", 0).for_test().await.unwrap();
    let ann = system.http(0, "ann");
    let read = async |name: &str| metric(&system.ops_urls()[0], name).await.unwrap_or_default();
    let rows_read = || read("im_gateway_feed_rows_read_total");
    let start = rows_read().await;
    let bots: Vec<String> = (0..60).map(|n| format!("bot{n}")).collect();
    let mut waiting = tokio::task::JoinSet::new();
    for bot in &bots {
        let http = system.http(0, bot);
        waiting.spawn(async move {
            let mut bot = Bot::begin(http, "latest").await;
            bot.page("&wait_s=30").await
        });
    }
    wait_for("the bots", TIMEOUT, async || {
        let waiting = read("im_gateway_feed_waiting").await;
        anyhow::ensure!(waiting >= BOTS, "{waiting} wait");
        Ok(())
    })
    .await
    .unwrap();
    for n in 0..100 {
        say(&ann, "private_ann_bob", &format!("m{n}"), "x").await;
    }
    make_group(&ann, "group_all", &bots.iter().map(String::as_str).collect::<Vec<_>>(), "start").await;
    while let Some(events) = waiting.join_next().await {
        assert_eq!(changes(&events.unwrap(), "group_all"), ["create group"]);
    }
    // Some at the end of a statement are read twice; each by each bot would be 6,000.
    let rows = rows_read().await - start;
    assert!((50.0..400.0).contains(&rows), "{rows}");
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_say_how_to_go_on() {
    let system = system().await;
    let (ann, http) = (system.http(0, "ann"), system.http(1, "bot"));
    let latest = Bot::begin(http.clone(), "latest").await.cursor;
    for cursor in ["0", "x", "%20", "17.3", &latest[1..], &format!("{latest}A")] {
        let refused = http.refused("GET", &format!("/api/feed?cursor={cursor}"), None).await.unwrap();
        assert_eq!(refused, 400, "{cursor}");
    }
    for (query, status) in [("?limit=0", 400), ("?limit=501", 400), ("?wait_s=31", 400), ("?wait_s=x", 400)] {
        assert_eq!(http.refused("GET", &format!("/api/feed{query}"), None).await.unwrap(), status, "{query}");
    }
    assert_eq!(http.refused("POST", "/api/feed", None).await.unwrap(), 405);
    assert_eq!(http.refused("GET", "/api/feed/shards", None).await.unwrap(), 404);
    let nobody = http.with_caller(Caller::Nobody);
    assert_eq!(nobody.refused("GET", "/api/feed", None).await.unwrap(), 401);

    // Rows are removed behind a reader.
    say(&ann, "private_ann_bot", "m1", "removed").await;
    let pool = sqlx::MySqlPool::connect(&system.urls.mysql).await.unwrap();
    sqlx::query("DELETE FROM feed_change").execute(&pool).await.unwrap();
    let path = format!("/api/feed?cursor={latest}&wait_s=1");
    let (status, gone) = http.call("GET", &path, None).await.unwrap();
    assert_eq!(status, 410, "{gone}");
    let mut bot = Bot { http: http.clone(), cursor: gone["next_cursor"].as_str().unwrap().to_owned() };
    assert!(gone["message"].as_str().unwrap().contains(&bot.cursor), "{gone}");
    say(&ann, "private_ann_bot", "m2", "kept").await;
    assert_eq!(contents(&bot.page("&wait_s=10").await, "private_ann_bot"), ["kept"]);
    assert_eq!(
        contents(&Bot::begin(http.clone(), "oldest").await.rest(9).await, "private_ann_bot"),
        ["kept"]
    );

    // The database is restored from an earlier time.
    sqlx::query("UPDATE feed_shard SET head = 0").execute(&pool).await.unwrap();
    sqlx::query("DELETE FROM feed_change").execute(&pool).await.unwrap();
    let (status, gone) = http.call("GET", &bot.path(""), None).await.unwrap();
    assert_eq!((status, gone["next_cursor"].as_str()), (410, Some(latest.as_str())), "{gone}");
}

#[tokio::test(flavor = "multi_thread")]
async fn few_calls_of_a_user_wait_and_a_revoked_token_ends_them() {
    let system = system().await;
    let (ann, base) = (system.http(1, "ann"), system.http_urls()[0].clone());
    let token = Credentials::operator(&base, system.operator_key()).token("bot").await.unwrap().unwrap();
    let http = Http::new(&base, Caller::Token(token));
    let bot = Bot::begin(http, "latest").await;
    let mut waiting = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let (http, path) = (bot.http.clone(), bot.path("&wait_s=30"));
        waiting.spawn(async move { http.call("GET", &path, None).await.unwrap() });
    }
    wait_for("the calls", TIMEOUT, async || {
        let waiting = metric(&system.ops_urls()[0], "im_gateway_feed_waiting").await?;
        anyhow::ensure!(waiting >= 4.0, "{waiting} wait");
        Ok(())
    })
    .await
    .unwrap();
    let (status, answer) = bot.http.call("GET", &bot.path("&wait_s=1"), None).await.unwrap();
    assert_eq!(status, 429, "{answer}");
    let (status, page) = bot.http.call("GET", &bot.path(""), None).await.unwrap();
    assert_eq!(status, 200, "a call that does not wait: {page}");
    let operator = Http::of_operator(&base, system.operator_key());
    operator.ok("POST", "/api/admin/users/bot/revoke", None).await.unwrap();
    say(&ann, "private_ann_bot", "m1", "not for this token").await;
    while let Some(answer) = waiting.join_next().await {
        let (status, answer) = answer.unwrap();
        assert_eq!(status, 401, "{answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_feed_there_is_none() {
    let system = Builder::new().for_test().await.unwrap();
    let (status, answer) = system.http(0, "bot").call("GET", "/api/feed", None).await.unwrap();
    assert_eq!(status, 404);
    assert!(answer["message"].as_str().unwrap().contains("feed.enabled"), "{answer}");
}
