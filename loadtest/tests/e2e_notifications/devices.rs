//! Registering devices, and what push services say about them.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use testbed::push::{Answer, Delivered, WebPushService};
use testbed::stack::{Builder, wait_for};

use super::support::{
    CHAT, KEY, OTHER_KEY, PUBLIC_KEY, TIMEOUT, builder, received, received_until_now, register, registration,
    say,
};

const PATH: &str = "/api/push/subscriptions";

fn listed(answer: &Value) -> &[Value] {
    answer["subscriptions"].as_array().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn devices_register_once_move_with_their_users_and_go_at_a_logout() {
    let push = WebPushService::start().await.unwrap();
    let system = builder().for_test().await.unwrap();
    let (bob, eve) = (system.http(0, "bob"), system.http(1, "eve"));
    let config = bob.ok("GET", "/api/push/config", None).await.unwrap();
    assert_eq!(config, json!({"enabled": true, "services": ["webpush"], "vapid_public_key": PUBLIC_KEY}));
    let (device, id) = register(&bob, &push).await;
    let mut again = registration(&device);
    again["device_id"] = "laptop".into();
    let answer = bob.ok("POST", PATH, Some(again.clone())).await.unwrap();
    assert_eq!(answer, json!({ "id": id }));
    let list = bob.ok("GET", PATH, None).await.unwrap();
    let [entry] = listed(&list) else { panic!("{list}") };
    assert_eq!((&entry["endpoint_host"], &entry["device_id"]), (&json!("127.0.0.1"), &json!("laptop")));
    assert!(!list.to_string().contains(&device.auth) && !list.to_string().contains("/push/"), "{list}");

    let other = push.subscribe(Some(PUBLIC_KEY));
    let mut second = registration(&other);
    second["device_id"] = "laptop".into();
    bob.ok("POST", PATH, Some(second)).await.unwrap();
    let list = bob.ok("GET", PATH, None).await.unwrap();
    assert_eq!(listed(&list).len(), 1, "the device has another endpoint now: {list}");

    assert_eq!(bob.refused("DELETE", &format!("{PATH}/nothing"), None).await.unwrap(), 404);
    eve.ok("POST", PATH, Some(registration(&other))).await.unwrap();
    assert_eq!(listed(&bob.ok("GET", PATH, None).await.unwrap()), [json!(null); 0], "it is eve's");
    let list = eve.ok("GET", PATH, None).await.unwrap();
    let id = listed(&list)[0]["id"].as_str().unwrap().to_owned();
    assert_eq!(bob.refused("DELETE", &format!("{PATH}/{id}"), None).await.unwrap(), 404);
    eve.ok("DELETE", &format!("{PATH}/{id}"), None).await.unwrap();
    assert_eq!(listed(&eve.ok("GET", PATH, None).await.unwrap()), [json!(null); 0]);

    for _ in 0..22 {
        register(&bob, &push).await;
    }
    assert_eq!(listed(&bob.ok("GET", PATH, None).await.unwrap()).len(), 20);
    bob.ok("POST", "/api/logout", None).await.unwrap();
    assert_eq!(listed(&bob.ok("GET", PATH, None).await.unwrap()), [json!(null); 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn private_addresses_and_malformed_subscriptions_are_refused() {
    let push = WebPushService::start().await.unwrap();
    let system = builder().set("IM__OUTGOING__ALLOWED_NETWORKS", "192.0.2.0/24").for_test().await.unwrap();
    let bob = system.http(0, "bob");
    let device = push.subscribe(None);
    for endpoint in
        [device.endpoint.as_str(), "https://10.0.0.1/push", "https://[::1]/", "http://push.example/"]
    {
        let mut body = registration(&device);
        body["endpoint"] = endpoint.into();
        assert_eq!(bob.refused("POST", PATH, Some(body)).await.unwrap(), 400, "{endpoint}");
    }
    for body in [json!({}), json!({"kind": "sms"}), json!({"kind": "fcm", "token": "x"})] {
        assert_eq!(bob.refused("POST", PATH, Some(body.clone())).await.unwrap(), 400, "{body}");
    }
    assert_eq!(push.requests(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_notifications_the_calls_do_not_exist() {
    let system = Builder::new().gateways(1).workers(1).for_test().await.unwrap();
    let bob = system.http(0, "bob");
    for (method, path) in
        [("GET", "/api/push/config"), ("GET", PATH), ("DELETE", "/api/push/subscriptions/x")]
    {
        let (status, answer) = bob.call(method, path, None).await.unwrap();
        assert_eq!(status, 404);
        assert!(answer["message"].as_str().unwrap().contains("push.enabled"), "{answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscription_that_has_ended_is_removed() {
    let push = WebPushService::start().await.unwrap();
    let system = builder().for_test().await.unwrap();
    let bob = system.http(0, "bob");
    let (gone, _) = register(&bob, &push).await;
    let (device, id) = register(&bob, &push).await;
    gone.unsubscribe();
    say(&system, "ann", CHAT, "m1", "hello").await;
    received(&device, "the notification", |all| !all.is_empty()).await;
    wait_for("the end of the subscription", TIMEOUT, async || {
        let list = bob.ok("GET", PATH, None).await?;
        let ids: Vec<&Value> = listed(&list).iter().map(|entry| &entry["id"]).collect();
        anyhow::ensure!(ids == [&json!(id)] && listed(&list)[0]["accepted_at"].is_i64(), "{list}");
        Ok(())
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_service_that_asks_to_wait_is_obeyed_and_the_notification_comes_once() {
    let push = WebPushService::start().await.unwrap();
    let system = builder().for_test().await.unwrap();
    let (device, _) = register(&system.http(0, "bob"), &push).await;
    push.answer_next(Answer::status(429).retry_after("4"));
    let seq = say(&system, "ann", CHAT, "m1", "hello").await;
    push.wait_for_requests(1).await;
    let begun = Instant::now();
    received(&device, "the notification", |all| !all.is_empty()).await;
    // The time is counted from the answer, which comes a moment after the request.
    assert!(begun.elapsed() >= Duration::from_millis(3_900), "{:?}", begun.elapsed());
    let all = received_until_now(&system, &device, "z1").await;
    assert_eq!(all.iter().map(|one| &one["seq"]).collect::<Vec<_>>(), [seq]);
    assert_eq!(push.requests(), 3);

    // Of two devices, one has to wait.
    let (second, _) = register(&system.http(0, "bob"), &push).await;
    push.answer_next(Answer::status(503).retry_after("1"));
    let seq = say(&system, "ann", CHAT, "m2", "hello").await;
    for device in [&device, &second] {
        received(device, "the second", |all| all.iter().any(|one| one["seq"] == seq)).await;
    }
    let of_both = [&device, &second].map(|device| {
        let all = device.received();
        all.iter().map(Delivered::json).filter(|one| one["seq"] == seq).count()
    });
    assert_eq!(of_both, [1, 1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_replaced_without_a_restart_and_old_subscriptions_go_on() {
    let push = WebPushService::start().await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("keys");
    std::fs::write(&file, KEY).unwrap();
    let system = builder()
        .gateways(1)
        .set("IM__PUSH__VAPID_KEYS", "")
        .set("IM__PUSH__VAPID_KEYS_FILE", file.display());
    let mut system = system.for_test().await.unwrap();
    let bob = system.http(0, "bob");
    let (device, _) = register(&bob, &push).await;
    std::fs::write(&file, format!("{OTHER_KEY}\n{KEY}\n")).unwrap();
    system.gateway(0).process().unwrap().signal(Signal::SIGHUP);
    let mut new_key = String::new();
    wait_for("the new key", TIMEOUT, async || {
        let config = bob.ok("GET", "/api/push/config", None).await?;
        config["vapid_public_key"].as_str().unwrap_or_default().clone_into(&mut new_key);
        anyhow::ensure!(new_key != PUBLIC_KEY, "{config}");
        Ok(())
    })
    .await
    .unwrap();
    let second = push.subscribe(Some(&new_key));
    bob.ok("POST", PATH, Some(registration(&second))).await.unwrap();
    let mut ann = testbed::client::Client::connect(&system.ws_urls()[0], "ann").await.unwrap();
    ann.say(CHAT, "m1", "hello").await.unwrap();
    for (device, key) in [(&device, PUBLIC_KEY), (&second, new_key.as_str())] {
        assert_eq!(device.wait_for(1).await[0].vapid_key, key);
    }
    assert_eq!(push.violations(), [""; 0]);
}
