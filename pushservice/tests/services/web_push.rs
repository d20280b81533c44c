//! Web Push.

use std::time::Duration;

use pushservice::{
    Notification, Outcome, P256PublicKey, PushConfig, PushService, Senders, Subscription, VapidKeyPair,
};
use serde_json::json;
use testbed::push::{Answer, PushDevice, WebPushService};

use super::support::{assert_rejected, clients, file, notification, retry, show, withdraw};

fn config(keys: &[&VapidKeyPair]) -> PushConfig {
    let keys: Vec<&str> = keys.iter().map(|pair| pair.private.as_str()).collect();
    PushConfig {
        vapid_keys: keys.join(" ").as_str().into(),
        vapid_subject: "mailto:push@example.com".to_owned(),
        ..PushConfig::default()
    }
}

fn senders(config: PushConfig) -> Senders {
    Senders::new(&config.validated().unwrap(), clients(|builder| builder)).unwrap()
}

fn subscription(device: &PushDevice, vapid_key: Option<&P256PublicKey>) -> Subscription {
    let key = vapid_key.map(ToString::to_string);
    Subscription::web_push(&device.endpoint, &device.p256dh, &device.auth, key.as_deref()).unwrap()
}

#[tokio::test]
async fn a_device_receives_what_it_shows_and_withdraws() {
    let service = WebPushService::start().await.unwrap();
    let pair = VapidKeyPair::generate().unwrap();
    let senders = senders(config(&[&pair]));
    assert!(senders.has(PushService::WebPush) && !senders.has(PushService::Fcm));
    let device = service.subscribe(Some(&senders.vapid_public_keys()[0].to_string()));
    let subscription = subscription(&device, Some(&pair.public));
    assert_eq!(senders.send(&subscription, &show("Hello \u{1f600}")).await, Outcome::Accepted);
    assert_eq!(senders.send(&subscription, &withdraw()).await, Outcome::Accepted);

    let received = device.wait_for(2).await;
    let tag = show("").collapse_key().as_str().to_owned();
    let expected = json!({"seq": 7, "title": "Alice", "body": "Hello \u{1f600}", "tag": tag, "badge": 2});
    assert_eq!(received[0].json(), expected);
    assert_eq!(received[1].json(), json!({ "tag": tag }));
    assert_eq!((received[0].ttl_s, received[0].urgency.as_deref()), (3_600, Some("high")));
    assert_eq!(received[1].urgency.as_deref(), Some("normal"));
    assert!(received.iter().all(|message| message.topic.as_deref() == Some(tag.as_str())));
    assert_eq!(received[0].authorization, received[1].authorization, "one token for both");
    assert_eq!(service.violations(), [""; 0]);
}

#[tokio::test]
async fn a_waiting_message_is_replaced_by_the_next_with_its_key() {
    let service = WebPushService::start().await.unwrap();
    let pair = VapidKeyPair::generate().unwrap();
    let senders = senders(config(&[&pair]));
    let device = service.subscribe(None);
    let subscription = subscription(&device, None);
    device.disconnect();
    let at_once = Notification { ttl: Duration::ZERO, ..notification("dropped") };
    for message in [show("one"), show("two"), withdraw()] {
        assert_eq!(senders.send(&subscription, &message).await, Outcome::Accepted);
    }
    device.connect();
    let received = device.received();
    assert_eq!(received.len(), 1);
    assert!(received[0].json()["title"].is_null());
    device.disconnect();
    senders.send(&subscription, &pushservice::PushMessage::Show(at_once)).await;
    device.connect();
    assert_eq!(device.received().len(), 1, "without TTL nothing waits");
    assert_eq!(service.violations(), [""; 0]);
}

#[tokio::test]
async fn a_long_text_arrives_shortened() {
    let service = WebPushService::start().await.unwrap();
    let pair = VapidKeyPair::generate().unwrap();
    let senders = senders(config(&[&pair]));
    let device = service.subscribe(None);
    let text = "\u{4f60}\u{597d}".repeat(2_000);
    assert_eq!(senders.send(&subscription(&device, None), &show(&text)).await, Outcome::Accepted);
    let received = &device.wait_for(1).await[0];
    assert!((3_988..=3_993).contains(&received.payload.len()), "{}", received.payload.len());
    let body = received.json()["body"].as_str().unwrap().to_owned();
    assert!(text.starts_with(body.strip_suffix('\u{2026}').unwrap()));

    let mut large = notification("");
    large.data.insert("x".to_owned(), "y".repeat(4_000).into());
    let outcome = senders.send(&subscription(&device, None), &pushservice::PushMessage::Show(large)).await;
    assert_rejected(&outcome, "3993 bytes");
}

#[tokio::test]
async fn each_answer_of_a_push_service_has_its_outcome() {
    let service = WebPushService::start().await.unwrap();
    let pair = VapidKeyPair::generate().unwrap();
    let senders = senders(config(&[&pair]));
    let device = service.subscribe(None);
    let subscription = subscription(&device, None);
    let send = || async { senders.send(&subscription, &show("x")).await };

    service.answer_next(Answer::status(429).retry_after("17"));
    assert_eq!(retry(send().await).0, Some(Duration::from_secs(17)));
    let date = httpdate::fmt_http_date(std::time::SystemTime::now() + Duration::from_secs(60));
    service.answer_next(Answer::status(503).retry_after(&date));
    let after = retry(send().await).0.unwrap();
    assert!((50..=60).contains(&after.as_secs()), "{after:?}");
    service.answer_next(Answer::json(500, &json!({"message": "out of\norder"})));
    let (after, reason) = retry(send().await);
    assert_eq!(after, None);
    assert!(reason.contains("500") && reason.contains("out of"), "{reason}");
    service.answer_next(Answer::status(413));
    assert_rejected(&send().await, "too long");
    service.answer_next(Answer::status(403));
    assert_rejected(&send().await, "push.vapid_keys");
    service.answer_next(Answer::status(404));
    assert!(matches!(send().await, Outcome::Gone(_)));
    assert_eq!(send().await, Outcome::Accepted);
    device.unsubscribe();
    assert!(matches!(send().await, Outcome::Gone(_)));
    assert_eq!(service.violations(), [""; 0]);
}

#[tokio::test]
async fn a_push_service_that_is_slow_or_stopped_is_tried_again() {
    let service = WebPushService::start().await.unwrap();
    let pair = VapidKeyPair::generate().unwrap();
    let senders = senders(PushConfig { timeout_ms: 200, ..config(&[&pair]) });
    let device = service.subscribe(None);
    let subscription = subscription(&device, None);
    service.answer_next(Answer::status(201).after(Duration::from_secs(60)));
    let (_, reason) = retry(senders.send(&subscription, &show("x")).await);
    assert_eq!(reason, "no answer within 200 ms");
    service.stop().await;
    let (_, reason) = retry(senders.send(&subscription, &show("x")).await);
    assert!(!reason.contains("/push/"), "an endpoint is a secret: {reason}");
    service.restart().await.unwrap();
    let senders = self::senders(config(&[&pair]));
    assert_eq!(senders.send(&subscription, &show("x")).await, Outcome::Accepted);
}

#[tokio::test]
async fn a_device_is_served_with_the_key_with_which_it_subscribed() {
    let service = WebPushService::start().await.unwrap();
    let (old, new) = (VapidKeyPair::generate().unwrap(), VapidKeyPair::generate().unwrap());
    let senders = senders(config(&[&old]));
    let device = service.subscribe(Some(&old.public.to_string()));
    let of_old = subscription(&device, Some(&old.public));
    assert_eq!(senders.send(&of_old, &show("1")).await, Outcome::Accepted);

    senders.replace(&config(&[&new, &old])).unwrap();
    assert_eq!(senders.vapid_public_keys(), [new.public, old.public]);
    assert_eq!(senders.send(&of_old, &show("2")).await, Outcome::Accepted);
    let newer = service.subscribe(Some(&new.public.to_string()));
    assert_eq!(senders.send(&subscription(&newer, None), &show("3")).await, Outcome::Accepted);
    assert_eq!(newer.received()[0].vapid_key, new.public.to_string());
    assert_eq!(service.violations(), [""; 0]);

    // The wrong key, and one that was removed.
    assert_rejected(&senders.send(&subscription(&device, Some(&new.public)), &show("4")).await, "403");
    senders.replace(&config(&[&new])).unwrap();
    assert_rejected(&senders.send(&of_old, &show("5")).await, "subscribe again");
    senders.replace(&PushConfig::default()).unwrap();
    assert_rejected(&senders.send(&of_old, &show("6")).await, "set push.vapid_keys");
}

#[tokio::test]
async fn keys_are_read_from_a_file_and_an_unusable_file_changes_nothing() {
    let service = WebPushService::start().await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (old, new) = (VapidKeyPair::generate().unwrap(), VapidKeyPair::generate().unwrap());
    let path = file(folder.path(), "vapid", &format!("{}\n", old.private));
    let config = PushConfig { vapid_keys: "".into(), vapid_keys_file: path, ..config(&[]) };
    let senders = senders(config.clone());
    let device = service.subscribe(None);
    let subscription = subscription(&device, None);
    assert_eq!(senders.send(&subscription, &show("1")).await, Outcome::Accepted);
    // Nothing has changed: the token is kept.
    senders.replace(&config).unwrap();
    assert_eq!(senders.send(&subscription, &show("2")).await, Outcome::Accepted);
    let received = device.wait_for(2).await;
    assert_eq!(received[0].authorization, received[1].authorization);

    file(folder.path(), "vapid", "no key\n");
    let error = senders.replace(&config).unwrap_err().to_string();
    assert!(error.contains("push.vapid_keys_file") && !error.contains("no key"), "{error}");
    assert_eq!(senders.vapid_public_keys(), [old.public]);
    file(folder.path(), "vapid", &format!("{}\n{}\n", new.private, old.private));
    senders.replace(&config).unwrap();
    assert_eq!(senders.vapid_public_keys(), [new.public, old.public]);
}
