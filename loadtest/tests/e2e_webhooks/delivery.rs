//! What endpoints get, and what happens when they fail.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;
use testbed::client::{Behavior, Client, WebhookReceiver};
use testbed::meter::metric;
use testbed::stack::wait_for;

use crate::{TIMEOUT, act, add, any_shard, builder, ids, operator, receives, recorded, say, show, state_is};

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_gets_the_events_of_its_filter_in_signed_batches_as_the_feed_has_them() {
    let system = builder().for_test().await.unwrap();
    let http = operator(&system, 0);
    let all = WebhookReceiver::start().await.unwrap();
    let (support, people) =
        (WebhookReceiver::start().await.unwrap(), WebhookReceiver::start().await.unwrap());
    let before = add(&http, &all, json!({})).await;
    add(&http, &support, json!({"event_types": ["message"], "conversations": ["group_support_"]})).await;
    add(&http, &people, json!({"event_types": ["group", "profile"]})).await;

    let mut ann = Client::connect(&system.ws_urls()[1], "ann").await.unwrap();
    say(&mut ann, "group_support_1", "s", 5).await;
    say(&mut ann, "group_other", "o", 5).await;
    say(&mut ann, "private_ann_bob", "p", 5).await;
    system.http(0, "ann").ok("PATCH", "/api/users/me", Some(json!({"nickname": "Ann"}))).await.unwrap();

    receives(&all, "private_ann_bob", &ids("p", 5)).await;
    receives(&all, "group_other", &ids("o", 5)).await;
    receives(&support, "group_support_1", &ids("s", 5)).await;
    wait_for("the profile", TIMEOUT, async || {
        let calls = people.calls();
        let events = calls.iter().flat_map(|call| call.events().1);
        let profiles = events.filter(|event| event["type"] == "profile").count();
        anyhow::ensure!(profiles == 1, "{profiles}");
        Ok(())
    })
    .await
    .unwrap();
    for call in support.calls().iter().chain(&all.calls()).chain(&people.calls()) {
        assert_eq!(call.signatures, 1, "{call:?}");
        assert!(call.id.starts_with("msg_") && !call.id.contains('.'), "{call:?}");
        assert_eq!(call.body["type"], "events", "{call:?}");
    }
    assert!(support.calls().iter().all(|call| {
        call.events()
            .1
            .iter()
            .all(|event| event["type"] == "message" && event["conversation_id"] == "group_support_1")
    }));

    // The events are those of the feed, one for one.
    state_is(&http, &before, "the end of the feed", |shown| shown["lag_rows"] == 0).await;
    for shard in show(&http, &before).await["shards"].as_array().unwrap() {
        let shard = shard["shard"].as_u64().unwrap();
        let page = http.ok("GET", &format!("/api/admin/feed?shard={shard}&limit=500"), None).await.unwrap();
        let calls = all.calls();
        let delivered: Vec<_> = calls
            .iter()
            .filter(|call| call.events().0 == shard)
            .flat_map(|call| call.events().1.to_vec())
            .collect();
        assert_eq!(page["events"].as_array().unwrap(), &delivered);
    }
    let calls = metric_sum(&system.ops_urls(), "im_gateway_webhook_calls_total{outcome=\"delivered\"}").await;
    assert!(calls >= 6.0, "{calls}");
}

async fn metric_sum(urls: &[String], name: &str) -> f64 {
    let mut sum = 0.0;
    for url in urls {
        sum += metric(url, name).await.unwrap_or_default();
    }
    sum
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_that_was_down_catches_up_in_order_and_a_changed_webhook_is_tried_at_once() {
    let system = builder().for_test().await.unwrap();
    let http = operator(&system, 0);
    let mut receiver = WebhookReceiver::start().await.unwrap();
    let id = add(&http, &receiver, json!({"batch_events": 7})).await;
    let mut ann = Client::connect(&system.ws_urls()[0], "ann").await.unwrap();
    say(&mut ann, "group_down", "a", 3).await;
    receives(&receiver, "group_down", &ids("a", 3)).await;

    receiver.kill().await;
    say(&mut ann, "group_down", "b", 30).await;
    let failing = state_is(&http, &id, "a failure", |shown| shown["state"] == "failing").await;
    assert!(any_shard(&failing, "next_attempt_at").is_some(), "{failing}");
    assert!(failing["lag_rows"].as_u64().unwrap() > 0, "{failing}");
    wait_for("the gauge", TIMEOUT, async || {
        let failing = metric_sum(&system.ops_urls(), "im_gateway_webhook_failing").await;
        anyhow::ensure!(failing > 0.5, "{failing}");
        Ok(())
    })
    .await
    .unwrap();
    receiver.revive().await.unwrap();
    let expected = [ids("a", 3), ids("b", 30)].concat();
    receives(&receiver, "group_down", &expected).await;
    let well = state_is(&http, &id, "no failure", |shown| shown["state"] == "delivering").await;
    assert!(any_shard(&well, "last_error").is_some(), "the last error stays: {well}");
    assert!(any_shard(&well, "last_success_at").is_some(), "{well}");

    // An answer that asks for an hour: a changed webhook is tried at once nevertheless.
    receiver.set(|_| {
        Behavior::Raw("HTTP/1.1 503 Busy\r\nretry-after: 3600\r\ncontent-length: 0\r\n\r\n".to_owned())
    });
    say(&mut ann, "group_down", "c", 2).await;
    let failing = state_is(&http, &id, "the failure", |shown| shown["state"] == "failing").await;
    let error = any_shard(&failing, "last_error").unwrap().as_str().unwrap();
    assert!(error.contains("status 503"), "{error}");
    let next = any_shard(&failing, "next_attempt_at").unwrap().as_i64().unwrap();
    let failed = any_shard(&failing, "last_error_at").unwrap().as_i64().unwrap();
    assert!(next - failed > 3_500_000, "{failing}");
    let other = WebhookReceiver::start().await.unwrap();
    let begun = Instant::now();
    let changed = json!({"url": other.url()});
    http.ok("PATCH", &format!("/api/admin/webhooks/{id}"), Some(changed)).await.unwrap();
    receives(&other, "group_down", &ids("c", 2)).await;
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_batch_has_the_same_id_and_the_same_events() {
    let system = builder().set("IM__SHARDS__COUNT", 1).for_test().await.unwrap();
    let http = operator(&system, 0);
    let receiver = WebhookReceiver::start().await.unwrap();
    let failures = Arc::new(AtomicUsize::new(2));
    receiver.set(move |_| {
        let fails = failures.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
        Behavior::Status(Duration::ZERO, if fails.is_ok() { 500 } else { 200 })
    });
    add(&http, &receiver, json!({})).await;
    let mut ann = Client::connect(&system.ws_urls()[0], "ann").await.unwrap();
    say(&mut ann, "group_again", "a", 1).await;
    wait_for("a failed call", TIMEOUT, async || {
        anyhow::ensure!(!receiver.calls().is_empty(), "no call");
        Ok(())
    })
    .await
    .unwrap();
    // What comes meanwhile is not in the repetition.
    say(&mut ann, "group_again", "b", 5).await;
    receives(&receiver, "group_again", &[ids("a", 1), ids("b", 5)].concat()).await;
    let calls = receiver.calls();
    assert!(calls.len() >= 4, "{}", calls.len());
    for repeated in &calls[1..3] {
        assert_eq!((&repeated.id, repeated.events()), (&calls[0].id, calls[0].events()));
    }
    assert_ne!(calls[3].id, calls[0].id);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_endpoint_does_not_delay_another_one() {
    let system = builder().set("IM__WEBHOOKS__TIMEOUT_MS", 30_000).for_test().await.unwrap();
    let http = operator(&system, 0);
    let (slow, fast) = (WebhookReceiver::start().await.unwrap(), WebhookReceiver::start().await.unwrap());
    slow.set(|_| Behavior::Never);
    for _ in 0..4 {
        add(&http, &slow, json!({})).await;
    }
    add(&http, &fast, json!({})).await;
    let mut ann = Client::connect(&system.ws_urls()[0], "ann").await.unwrap();
    say(&mut ann, "group_slow", "a", 1).await;
    wait_for("the slow calls", TIMEOUT, async || {
        anyhow::ensure!(slow.calls().len() >= 4, "{}", slow.calls().len());
        Ok(())
    })
    .await
    .unwrap();
    receives(&fast, "group_slow", &ids("a", 1)).await;
    for n in 0..10 {
        let sent = Instant::now();
        say(&mut ann, "group_slow", &format!("b{n}."), 1).await;
        wait_for("the message", TIMEOUT, async || {
            anyhow::ensure!(recorded(&fast, "group_slow").len() == n + 2, "{n}");
            Ok(())
        })
        .await
        .unwrap();
        assert!(sent.elapsed() < Duration::from_secs(2), "{n}: {:?}", sent.elapsed());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn redirects_late_answers_and_private_addresses_are_failures_that_say_so() {
    let system = builder().set("IM__WEBHOOKS__TIMEOUT_MS", 300).for_test().await.unwrap();
    let http = operator(&system, 0);
    let (receiver, elsewhere) =
        (WebhookReceiver::start().await.unwrap(), WebhookReceiver::start().await.unwrap());
    let location = elsewhere.url();
    receiver.set(move |_| {
        Behavior::Raw(format!("HTTP/1.1 307 Other\r\nlocation: {location}\r\ncontent-length: 0\r\n\r\n"))
    });
    let id = add(&http, &receiver, json!({})).await;
    let mut ann = Client::connect(&system.ws_urls()[0], "ann").await.unwrap();
    say(&mut ann, "group_wrong", "a", 1).await;
    let error_is = async |part: &str| {
        let has_it = |shown: &serde_json::Value| {
            any_shard(shown, "last_error").is_some_and(|error| error.as_str().unwrap().contains(part))
        };
        state_is(&http, &id, part, has_it).await;
    };
    error_is("redirects are not followed").await;
    assert!(elsewhere.calls().is_empty());
    receiver.set(|_| Behavior::Never);
    error_is("did not answer within 300 ms").await;
    // A long answer, and one that never ends, are answers nevertheless.
    let endless = "HTTP/1.1 200 OK\r\ncontent-length: 10000000\r\n\r\n{".to_owned();
    receiver.set(move |_| Behavior::Raw(endless.clone()));
    state_is(&http, &id, "a success", |shown| shown["lag_rows"] == 0).await;
    let tested = act(&http, &id, "test", json!({})).await;
    assert_eq!((&tested["is_delivered"], &tested["status"]), (&json!(true), &json!(200)), "{tested}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_of_a_private_address_is_refused_when_it_is_called() {
    // 127.0.0.0/8 is not allowed here, so localhost is not, although no one could know that from the URL.
    let system = builder().set("IM__OUTGOING__ALLOWED_NETWORKS", "10.9.0.0/16").for_test().await.unwrap();
    let http = operator(&system, 0);
    let receiver = WebhookReceiver::start().await.unwrap();
    for url in [receiver.url(), "https://169.254.169.254/".to_owned(), "https://[::1]/".to_owned()] {
        let body = json!({"name": "inside", "url": url});
        let (status, answer) = http.call("POST", "/api/admin/webhooks", Some(&body)).await.unwrap();
        assert_eq!(status, 400, "{answer}");
        assert!(answer["message"].as_str().unwrap().contains("outgoing.allowed_networks"), "{answer}");
    }
    let url = format!("https://localhost:{}/", receiver.port());
    let added =
        http.ok("POST", "/api/admin/webhooks", Some(json!({"name": "inside", "url": url}))).await.unwrap();
    let tested = act(&http, added["id"].as_str().unwrap(), "test", json!({})).await;
    assert_eq!(tested["is_delivered"], false);
    let error = tested["error"].as_str().unwrap();
    assert!(error.contains("127.0.0.1") && error.contains("outgoing.allowed_networks"), "{error}");
    assert!(receiver.calls().is_empty());
}
