//! Apple Push Notification service.

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use pushservice::{Clients, Outcome, PushConfig, PushMessage, Senders, Subscription, Withdrawal};
use serde_json::json;
use testbed::certificates::Authority;
use testbed::push::ApnsService;

use super::support::{assert_rejected, clients, file, notification, retry, show, withdraw};

fn config(service: &ApnsService, folder: &Path) -> PushConfig {
    PushConfig {
        apns_key_file: file(folder, "key.p8", service.key()),
        apns_key_id: ApnsService::KEY_ID.to_owned(),
        apns_team_id: ApnsService::TEAM_ID.to_owned(),
        apns_topic: ApnsService::TOPIC.to_owned(),
        apns_url: service.url(),
        ..PushConfig::default()
    }
}

/// Without TLS, HTTP/2 must be agreed on beforehand.
fn senders(config: PushConfig) -> Senders {
    let clients = clients(reqwest::ClientBuilder::http2_prior_knowledge);
    Senders::new(&config.validated().unwrap(), clients).unwrap()
}

fn subscription(token: &str) -> Subscription {
    Subscription::apns(token, None, None).unwrap()
}

#[tokio::test]
async fn a_device_receives_what_it_shows_and_withdraws_with_one_provider_token() {
    let service = ApnsService::start(None).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let config = config(&service, folder.path());
    let senders = senders(config.clone());
    let token = service.register();
    assert_eq!(senders.send(&subscription(&token), &show("Hi")).await, Outcome::Accepted);
    senders.replace(&config).unwrap();
    assert_eq!(senders.send(&subscription(&token), &withdraw()).await, Outcome::Accepted);
    let PushMessage::Withdraw(with_badge) = withdraw() else { unreachable!() };
    let with_badge = PushMessage::Withdraw(Withdrawal { badge: Some(0), ttl: Duration::ZERO, ..with_badge });
    assert_eq!(senders.send(&subscription(&token), &with_badge).await, Outcome::Accepted);

    let received = service.wait_for(&token, 3).await;
    let key = show("").collapse_key().as_str().to_owned();
    let alert = json!({"title": "Alice", "body": "Hi"});
    assert_eq!(received[0].payload["aps"]["alert"], alert);
    assert_eq!(received[0].payload["data"], json!({"seq": 7}));
    assert_eq!(received[1].payload, json!({"aps": {"content-available": 1}, "withdraw": key}));
    assert_eq!(received[2].payload["aps"], json!({"content-available": 1, "badge": 0}));
    let header = |index: usize, name: &str| received[index].headers[name].clone();
    assert_eq!(header(0, "apns-topic"), ApnsService::TOPIC);
    assert_eq!((header(0, "apns-push-type"), header(0, "apns-priority")), ("alert".into(), "10".into()));
    assert_eq!((header(1, "apns-push-type"), header(1, "apns-priority")), ("background".into(), "5".into()));
    assert_eq!(header(2, "apns-push-type"), "alert");
    assert!((0..3).all(|index| header(index, "apns-collapse-id") == key));
    assert_ne!(header(0, "apns-id"), header(1, "apns-id"));
    let now_s = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let expiration: u64 = header(0, "apns-expiration").parse().unwrap();
    assert!((now_s + 3_500..=now_s + 3_600).contains(&expiration), "{expiration}");
    assert_eq!(header(2, "apns-expiration"), "0");
    assert_eq!(service.provider_tokens(), 1);
}

#[tokio::test]
async fn http2_is_agreed_on_by_tls() {
    let authority = Authority::new("test").unwrap();
    let service = ApnsService::start(Some(&authority)).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let config = config(&service, folder.path()).validated().unwrap();
    let authorities = reqwest::Certificate::from_pem_bundle(authority.pem().as_bytes()).unwrap();
    let client = |builder: reqwest::ClientBuilder| {
        builder.no_proxy().tls_certs_merge(authorities.clone()).build().unwrap()
    };
    let configured = client(reqwest::Client::builder());
    let senders = Senders::new(&config, Clients { web_push: configured.clone(), configured }).unwrap();
    let token = service.register();
    assert_eq!(senders.send(&subscription(&token), &show("x")).await, Outcome::Accepted);
    assert_eq!(service.received(&token).len(), 1);
    // A client without HTTP/2 is noticed.
    let configured = client(reqwest::Client::builder().http1_only());
    let senders = Senders::new(&config, Clients { web_push: configured.clone(), configured }).unwrap();
    assert_eq!(retry(senders.send(&subscription(&token), &show("x")).await).0, None);
}

#[tokio::test]
async fn an_expired_provider_token_is_replaced_once() {
    let service = ApnsService::start(None).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let senders = senders(config(&service, folder.path()));
    let token = service.register();
    let send = || async { senders.send(&subscription(&token), &show("x")).await };
    assert_eq!(send().await, Outcome::Accepted);
    service.expire_provider_tokens();
    assert_eq!(send().await, Outcome::Accepted);
    assert_eq!(service.provider_tokens(), 2);
    service.answer_always(Some(ApnsService::error(403, "ExpiredProviderToken")));
    assert_rejected(&send().await, "clock");
    assert_eq!(service.provider_tokens(), 3);
}

#[tokio::test]
async fn each_error_has_its_outcome() {
    let service = ApnsService::start(None).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let senders = senders(config(&service, folder.path()));
    let token = service.register();
    let send = || async { senders.send(&subscription(&token), &show("x")).await };
    service.answer_next(ApnsService::error(429, "TooManyRequests").retry_after("9"));
    assert_eq!(retry(send().await).0, Some(Duration::from_secs(9)));
    service.answer_next(ApnsService::error(503, "ServiceUnavailable"));
    assert!(retry(send().await).1.contains("ServiceUnavailable"));
    let unknown = senders.send(&subscription(&"ab".repeat(32)), &show("x")).await;
    assert!(matches!(unknown, Outcome::Gone(reason) if reason.contains("BadDeviceToken")));
    let other_app = Subscription::apns(&token, Some("com.example.other"), None).unwrap();
    let outcome = senders.send(&other_app, &show("x")).await;
    assert!(matches!(outcome, Outcome::Gone(reason) if reason.contains("push.apns_topic")));
    let long = senders.send(&subscription(&token), &show(&"\u{20ac}".repeat(4_000))).await;
    assert_eq!(long, Outcome::Accepted);
    let mut large = notification("x");
    large.data.insert("x".to_owned(), "y".repeat(4_100).into());
    assert_rejected(&senders.send(&subscription(&token), &PushMessage::Show(large)).await, "4096");
    service.unregister(&token);
    assert!(matches!(send().await, Outcome::Gone(reason) if reason.contains("Unregistered")));
    service.stop().await;
    retry(send().await);
}

#[tokio::test]
async fn another_key_is_used_after_it_was_replaced() {
    let (service, other) = (ApnsService::start(None).await.unwrap(), ApnsService::start(None).await.unwrap());
    let folder = tempfile::tempdir().unwrap();
    let config = config(&service, folder.path());
    file(folder.path(), "key.p8", other.key());
    let senders = senders(config.clone());
    let token = service.register();
    assert_rejected(&senders.send(&subscription(&token), &show("x")).await, "push.apns_key_file");
    file(folder.path(), "key.p8", "no key");
    assert!(senders.replace(&config).unwrap_err().to_string().contains("push.apns_key_file"));
    file(folder.path(), "key.p8", service.key());
    senders.replace(&config).unwrap();
    assert_eq!(senders.send(&subscription(&token), &show("x")).await, Outcome::Accepted);
}
