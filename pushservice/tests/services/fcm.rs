//! Firebase Cloud Messaging.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use pushservice::{Outcome, PushConfig, PushMessage, Senders, Subscription};
use serde_json::json;
use testbed::push::{Answer, FcmService};

use super::support::{assert_rejected, clients, file, notification, retry, show, withdraw};

fn config(service: &FcmService, folder: &Path) -> PushConfig {
    PushConfig {
        fcm_service_account_file: file(folder, "account.json", &service.service_account()),
        fcm_url: service.url(),
        ..PushConfig::default()
    }
}

fn senders(config: PushConfig) -> Senders {
    Senders::new(&config.validated().unwrap(), clients(|builder| builder)).unwrap()
}

#[tokio::test]
async fn a_device_receives_what_it_shows_and_withdraws_with_one_access_token() {
    let service = FcmService::start().await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let senders = senders(config(&service, folder.path()));
    let token = service.register();
    let subscription = Subscription::fcm(&token).unwrap();
    for message in [show("Hi"), withdraw()] {
        assert_eq!(senders.send(&subscription, &message).await, Outcome::Accepted);
    }
    let received = service.wait_for(&token, 2).await;
    let key = show("").collapse_key().as_str().to_owned();
    assert_eq!(received[0]["notification"], json!({"title": "Alice", "body": "Hi"}));
    assert_eq!(received[0]["data"], json!({"seq": "7"}));
    assert_eq!(received[0]["android"]["notification"]["tag"], key.as_str());
    assert_eq!(received[1]["data"]["withdraw"], key.as_str());
    assert!(received[1]["notification"].is_null());
    assert_eq!(service.tokens_granted(), 1);
}

#[tokio::test]
async fn a_token_is_fetched_once_and_replaced_shortly_before_its_end() {
    let service = FcmService::start().await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let config = config(&service, folder.path());
    let senders = Arc::new(senders(config.clone()));
    let subscription = Subscription::fcm(&service.register()).unwrap();
    let sends = (0..8).map(|_| {
        let (senders, subscription) = (Arc::clone(&senders), subscription.clone());
        async move { senders.send(&subscription, &show("x")).await }
    });
    let mut tasks: tokio::task::JoinSet<_> = sends.collect();
    while let Some(outcome) = tasks.join_next().await {
        assert_eq!(outcome.unwrap(), Outcome::Accepted);
    }
    assert_eq!(service.tokens_granted(), 1, "all wait for the same one");
    senders.replace(&config).unwrap();
    senders.send(&subscription, &show("x")).await;
    assert_eq!(service.tokens_granted(), 1, "the same account keeps its token");

    // Revoked: one attempt with a new one. The new ones end within five minutes, and are not used again.
    service.expire_tokens_in(299);
    service.revoke_tokens();
    assert_eq!(senders.send(&subscription, &show("x")).await, Outcome::Accepted);
    assert_eq!(service.tokens_granted(), 2);
    assert_eq!(senders.send(&subscription, &show("x")).await, Outcome::Accepted);
    assert_eq!(service.tokens_granted(), 3);
}

#[tokio::test]
async fn a_message_without_a_valid_token_is_rejected_or_tried_again() {
    let service = FcmService::start().await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let senders = senders(config(&service, folder.path()));
    let subscription = Subscription::fcm(&service.register()).unwrap();
    let send = || async { senders.send(&subscription, &show("x")).await };
    service.answer_next_token_request(Answer::status(503).retry_after("5"));
    assert_eq!(retry(send().await).0, Some(Duration::from_secs(5)));
    service.answer_next_token_request(Answer::json(400, &json!({"error": "invalid_grant"})));
    assert_rejected(&send().await, "invalid_grant");
    service.answer_next_token_request(Answer::status(200));
    assert!(retry(send().await).1.contains("without a token"));
    // FCM refuses two tokens one after the other.
    let unauthenticated = Answer::json(401, &json!({"error": {"code": 401, "status": "UNAUTHENTICATED"}}));
    service.answer_always(Some(unauthenticated));
    assert_rejected(&send().await, "push.fcm_service_account_file");
    assert_eq!(service.tokens_granted(), 2);
    service.answer_always(None);
    assert_eq!(send().await, Outcome::Accepted);
    service.stop().await;
    retry(send().await);
    service.restart().await.unwrap();
    assert_eq!(send().await, Outcome::Accepted);
}

#[tokio::test]
async fn each_error_has_its_outcome() {
    let service = FcmService::start().await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let senders = senders(config(&service, folder.path()));
    let token = service.register();
    let subscription = Subscription::fcm(&token).unwrap();
    let send = || async { senders.send(&subscription, &show("x")).await };
    service.answer_next(FcmService::error(429, "QUOTA_EXCEEDED", "Quota").retry_after("30"));
    assert_eq!(retry(send().await).0, Some(Duration::from_secs(30)));
    service.answer_next(FcmService::error(503, "UNAVAILABLE", "later"));
    assert_eq!(retry(send().await).0, None);
    service.answer_next(FcmService::error(403, "SENDER_ID_MISMATCH", "x"));
    assert_rejected(&send().await, "another project");
    let mut reserved = notification("x");
    reserved.data.insert("from".to_owned(), "y".into());
    assert_rejected(&senders.send(&subscription, &PushMessage::Show(reserved)).await, "payload key");
    let long = show(&"\u{20ac}".repeat(4_000));
    assert_eq!(senders.send(&subscription, &long).await, Outcome::Accepted);
    service.unregister(&token);
    assert!(matches!(send().await, Outcome::Gone(reason) if reason.contains("UNREGISTERED")));
    let unknown = Subscription::fcm("unknown").unwrap();
    assert!(matches!(senders.send(&unknown, &show("x")).await, Outcome::Gone(_)));
}

#[tokio::test]
async fn an_address_that_is_not_fcm_removes_no_subscription() {
    let service = FcmService::start().await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let config = config(&service, folder.path());
    let account = service.service_account().replace("demo-project\"", "another-project\"");
    file(folder.path(), "account.json", &account);
    let subscription = Subscription::fcm(&service.register()).unwrap();
    assert_rejected(&senders(config).send(&subscription, &show("x")).await, "project");
}

#[tokio::test]
async fn an_unusable_account_is_named() {
    let service = FcmService::start().await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let config = config(&service, folder.path());
    let good = service.service_account();
    for (content, text) in [
        ("secret".to_owned(), "is no service account"),
        ("{\"type\": \"secret\"}".to_owned(), "is no service account"),
        (good.replace("BEGIN", "secret"), "no RSA key"),
        (good.replace("\"demo-project\"", "\"../secret\""), "project_id"),
        (good.replace("\"http://", "\"ftp://secret"), "token_uri"),
    ] {
        file(folder.path(), "account.json", &content);
        let error = Senders::new(&config, clients(|builder| builder)).unwrap_err().to_string();
        assert!(error.contains("push.fcm_service_account_file") && error.contains(text), "{error}");
        assert!(!error.contains("secret"), "{error}");
    }
    std::fs::remove_file(folder.path().join("account.json")).unwrap();
    assert!(Senders::new(&config, clients(|builder| builder)).is_err());
}
