//! What an operator does with webhooks.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use testbed::client::{Behavior, Caller, Client, WebhookReceiver};
use testbed::stack::{Builder, wait_for};

use crate::{
    PATH, TIMEOUT, act, add, any_shard, builder, ids, operator, receives, recorded, say, show, state_is,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_webhook_gets_nothing_and_goes_on_where_it_stopped() {
    let system = builder().for_test().await.unwrap();
    let http = operator(&system, 0);
    let (paused, other) = (WebhookReceiver::start().await.unwrap(), WebhookReceiver::start().await.unwrap());
    let id = add(&http, &paused, json!({})).await;
    add(&http, &other, json!({})).await;
    let mut ann = Client::connect(&system.ws_urls()[0], "ann").await.unwrap();
    say(&mut ann, "group_pause", "a", 3).await;
    receives(&paused, "group_pause", &ids("a", 3)).await;
    assert_eq!(act(&http, &id, "pause", json!({})).await["state"], "paused");
    state_is(&http, &id, "no owner", |shown| any_shard(shown, "gateway").is_none()).await;
    // The gateways notice it within a second: then they run the other one only, in 8 shards.
    wait_for("the pause", TIMEOUT, async || {
        let mut readers = 0.0;
        for url in system.ops_urls() {
            readers += testbed::meter::metric(&url, "im_gateway_feed_readers").await?;
        }
        anyhow::ensure!(readers == 8.0, "{readers}");
        Ok(())
    })
    .await
    .unwrap();
    say(&mut ann, "group_pause", "b", 3).await;
    let all = [ids("a", 3), ids("b", 3)].concat();
    receives(&other, "group_pause", &all).await;
    assert_eq!(recorded(&paused, "group_pause"), ids("a", 3));
    assert_eq!(act(&http, &id, "resume", json!({})).await["state"], "delivering");
    receives(&paused, "group_pause", &all).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_begins_at_a_cursor_a_time_the_oldest_or_the_latest_event() {
    let system = builder().set("IM__SHARDS__COUNT", 1).for_test().await.unwrap();
    let http = operator(&system, 1);
    let receiver = WebhookReceiver::start().await.unwrap();
    let id = add(&http, &receiver, json!({})).await;
    let mut ann = Client::connect(&system.ws_urls()[0], "ann").await.unwrap();
    say(&mut ann, "group_replay", "a", 5).await;
    receives(&receiver, "group_replay", &ids("a", 5)).await;
    let middle = state_is(&http, &id, "the end", |shown| shown["lag_rows"] == 0).await;
    let middle = middle["shards"][0]["cursor"].as_str().unwrap().to_owned();
    let page = http.ok("GET", "/api/admin/feed?shard=0", None).await.unwrap();
    let last = page["events"].as_array().unwrap().last().unwrap()["time_ms"].as_i64().unwrap();
    // So that the next rows are written at a later millisecond.
    wait_for("a later time", TIMEOUT, async || {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_millis();
        anyhow::ensure!(now > u128::try_from(last)?, "the same");
        Ok(())
    })
    .await
    .unwrap();
    say(&mut ann, "group_replay", "b", 5).await;
    receives(&receiver, "group_replay", &[ids("a", 5), ids("b", 5)].concat()).await;

    for (body, expected) in [
        (json!({"cursor": "oldest"}), [ids("a", 5), ids("b", 5)].concat()),
        (json!({"shard": 0, "cursor": middle}), ids("b", 5)),
        (json!({"since_ms": last + 1}), ids("b", 5)),
        (json!({"since_ms": 0, "shard": 0}), [ids("a", 5), ids("b", 5)].concat()),
    ] {
        state_is(&http, &id, "the end", |shown| shown["lag_rows"] == 0).await;
        let before = receiver.calls().len();
        act(&http, &id, "replay", body.clone()).await;
        wait_for("the replay", TIMEOUT, async || {
            let calls = receiver.calls();
            let events = calls[before..].iter().flat_map(|call| call.events().1);
            let found: Vec<&Value> = events
                .filter(|event| event["type"] == "message")
                .map(|event| &event["message"]["msg_id"])
                .collect();
            anyhow::ensure!(found.iter().map(|id| id.as_str().unwrap()).eq(&expected), "{body}: {found:?}");
            Ok(())
        })
        .await
        .unwrap();
    }

    // Past the events that an endpoint does not take.
    receiver.set(|_| Behavior::Status(Duration::ZERO, 400));
    say(&mut ann, "group_replay", "c", 5).await;
    state_is(&http, &id, "a failure", |shown| shown["state"] == "failing").await;
    let skipped = act(&http, &id, "replay", json!({"cursor": "latest"})).await;
    assert_eq!((&skipped["lag_rows"], &skipped["state"]), (&json!(0), &json!("delivering")), "{skipped}");

    for (body, part) in [
        (json!({}), "send either cursor"),
        (json!({"cursor": "oldest", "since_ms": 1}), "send either cursor"),
        (json!({"cursor": "1"}), "shard: is missing"),
        (json!({"cursor": "x", "shard": 0}), "cursor must be"),
        (json!({"cursor": "1000000", "shard": 0}), "cursor: must be 0 to"),
        (json!({"cursor": "oldest", "shard": 9}), "shard: must be 0 to 0"),
    ] {
        let (status, answer) = http.call("POST", &format!("{PATH}/{id}/replay"), Some(&body)).await.unwrap();
        assert_eq!(status, 400, "{answer}");
        assert!(answer["message"].as_str().unwrap().contains(part), "{body}: {answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotated_secret_signs_beside_the_old_one_until_its_time() {
    let system = builder().for_test().await.unwrap();
    let http = operator(&system, 0);
    let receiver = WebhookReceiver::start().await.unwrap();
    let old = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    let id = add(&http, &receiver, json!({"secret": old})).await;
    assert!(show(&http, &id).await["secret"].is_null(), "a secret is shown once");
    let rotated = act(&http, &id, "rotate", json!({"keep_old_s": 3_600})).await;
    let new = rotated["secret"].as_str().unwrap();
    assert!(new.starts_with("whsec_") && new != old && rotated["old_secret_until"].is_i64(), "{rotated}");
    let signed_by = async |secrets: &[&str], expected: usize| {
        receiver.set_secrets(secrets);
        wait_for("the signatures", TIMEOUT, async || {
            let tested = act(&http, &id, "test", json!({})).await;
            anyhow::ensure!(tested["is_delivered"] == true, "{tested}");
            let call = receiver.calls().pop().unwrap();
            assert_eq!(call.body["type"], "test");
            anyhow::ensure!(call.signatures == expected, "{call:?}");
            Ok(())
        })
        .await
        .unwrap();
    };
    signed_by(&[old, new], 2).await;
    // Deliveries follow the change within a second.
    let mut ann = Client::connect(&system.ws_urls()[0], "ann").await.unwrap();
    let mut n = 0;
    wait_for("both signatures", TIMEOUT, async || {
        n += 1;
        say(&mut ann, "group_rotate", &format!("m{n}."), 1).await;
        let calls = receiver.calls();
        let last = calls.iter().rev().find(|call| call.body["type"] == "events");
        anyhow::ensure!(last.is_some_and(|call| call.signatures == 2), "{last:?}");
        Ok(())
    })
    .await
    .unwrap();
    let rotated = act(&http, &id, "rotate", json!({"keep_old_s": 0})).await;
    let newest = rotated["secret"].as_str().unwrap();
    assert!(rotated["old_secret_until"].is_null(), "{rotated}");
    signed_by(&[newest], 1).await;
    signed_by(&[new, old], 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn webhooks_are_added_listed_changed_and_removed_and_errors_say_what_to_write() {
    let system = builder().for_test().await.unwrap();
    let http = operator(&system, 0);
    let receiver = WebhookReceiver::start().await.unwrap();
    let url = receiver.url();
    for (body, part) in [
        (json!({"name": "x"}), "name and url are required"),
        (json!({"name": "x", "url": "ftp://a"}), "url: "),
        (json!({"name": "", "url": url}), "name: "),
        (json!({"name": "x", "url": url, "event_types": ["messages"]}), "event_types: "),
        (json!({"name": "x", "url": url, "conversations": ["private_a_b"]}), "conversations: "),
        (json!({"name": "x", "url": url, "batch_events": 501}), "batch_events: "),
        (json!({"name": "x", "url": url, "secret": "short"}), "secret: "),
    ] {
        let (status, answer) = http.call("POST", PATH, Some(&body)).await.unwrap();
        assert_eq!(status, 400, "{answer}");
        assert!(answer["message"].as_str().unwrap().contains(part), "{body}: {answer}");
    }
    let id = add(&http, &receiver, json!({"event_types": ["message"], "conversations": ["group"]})).await;
    let path = format!("{PATH}/{id}");
    let change = json!({"name": "another", "event_types": [], "batch_bytes": 2_048});
    let changed = http.ok("PATCH", &path, Some(change)).await.unwrap();
    assert_eq!((&changed["name"], &changed["event_types"]), (&json!("another"), &json!([])), "{changed}");
    assert_eq!(changed["conversations"], json!(["group"]));
    for (body, part) in [
        (json!({}), "nothing to change"),
        (json!({"secret": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"}), "rotate"),
        (json!({"url": "http://1.1.1.1/"}), "url: "),
    ] {
        let (status, answer) = http.call("PATCH", &path, Some(&body)).await.unwrap();
        assert_eq!(status, 400, "{answer}");
        assert!(answer["message"].as_str().unwrap().contains(part), "{body}: {answer}");
    }
    let list = operator(&system, 1).ok("GET", PATH, None).await.unwrap();
    assert_eq!(list["webhooks"].as_array().unwrap().len(), 1, "{list}");
    assert_eq!(list["webhooks"][0]["shards"].as_array().unwrap().len(), 8);

    assert_eq!(http.refused("PUT", &path, None).await.unwrap(), 405);
    assert_eq!(http.refused("DELETE", PATH, None).await.unwrap(), 405);
    assert_eq!(http.refused("GET", &format!("{path}/pause"), None).await.unwrap(), 405);
    assert_eq!(http.refused("POST", &format!("{path}/other"), None).await.unwrap(), 404);
    assert_eq!(http.refused("GET", &format!("{PATH}/0123456789abcdef"), None).await.unwrap(), 404);
    assert_eq!(system.http(0, "ann").refused("GET", PATH, None).await.unwrap(), 403);
    assert_eq!(http.with_caller(Caller::Nobody).refused("GET", PATH, None).await.unwrap(), 401);

    http.ok("DELETE", &path, None).await.unwrap();
    assert_eq!(http.refused("GET", &path, None).await.unwrap(), 404);
    let begun = Instant::now();
    wait_for("no reader", TIMEOUT, async || {
        for url in system.ops_urls() {
            let found = testbed::meter::metric(&url, "im_gateway_feed_readers").await?;
            anyhow::ensure!(found == 0.0, "{found}");
        }
        Ok(())
    })
    .await
    .unwrap();
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());

    for n in 0..64 {
        let body = json!({"name": format!("w{n}"), "url": url, "event_types": ["profile"]});
        http.ok("POST", PATH, Some(body)).await.unwrap();
    }
    let body = json!({"name": "one more", "url": url});
    let (status, answer) = http.call("POST", PATH, Some(&body)).await.unwrap();
    assert_eq!(status, 409, "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn removed_rows_are_told_as_skipped() {
    let system = builder().set("IM__SHARDS__COUNT", 1).set("IM__FEED__KEEP_S", 60).for_test().await.unwrap();
    let http = operator(&system, 0);
    let receiver = WebhookReceiver::start().await.unwrap();
    let id = add(&http, &receiver, json!({})).await;
    act(&http, &id, "pause", json!({})).await;
    let mut ann = Client::connect(&system.ws_urls()[0], "ann").await.unwrap();
    say(&mut ann, "group_skip", "a", 5).await;
    // A minute is the least that can be configured.
    wait_for("the removal of the rows", Duration::from_secs(100), async || {
        let shards = http.ok("GET", "/api/admin/feed/shards", None).await?;
        let oldest = &shards["shards"][0]["oldest_cursor"];
        anyhow::ensure!(oldest != "0", "{shards}");
        Ok(())
    })
    .await
    .unwrap();
    say(&mut ann, "group_skip", "b", 1).await;
    act(&http, &id, "resume", json!({})).await;
    wait_for("the message after the gap", TIMEOUT, async || {
        let calls = receiver.calls();
        let events: Vec<&Value> = calls.iter().flat_map(|call| call.events().1).collect();
        let last = events.iter().rev().find(|event| event["type"] == "message");
        anyhow::ensure!(last.is_some_and(|event| event["message"]["msg_id"] == "b0"), "{events:?}");
        let skipped = &events[0];
        anyhow::ensure!(skipped["type"] == "skipped" && skipped["from_cursor"] == "0", "{skipped}");
        anyhow::ensure!(skipped["cursor"] == skipped["to_cursor"], "{skipped}");
        Ok(())
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_feed_there_are_no_webhooks() {
    let system = Builder::new().for_test().await.unwrap();
    let http = operator(&system, 0);
    for (method, path) in [("GET", ""), ("POST", ""), ("GET", "/0123456789abcdef"), ("DELETE", "/x")] {
        let (status, answer) = http.call(method, &format!("{PATH}{path}"), None).await.unwrap();
        assert_eq!(status, 404, "{answer}");
        assert!(answer["message"].as_str().unwrap().starts_with("the change feed is off"), "{answer}");
    }
}
