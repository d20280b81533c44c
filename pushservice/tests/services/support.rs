//! Messages and clients of these tests.

use std::path::Path;
use std::time::Duration;

use pushservice::{Clients, CollapseKey, Notification, Outcome, PushMessage, Urgency, Withdrawal};
use serde_json::{Map, json};

/// A notification with this text.
pub(crate) fn show(body: &str) -> PushMessage {
    PushMessage::Show(notification(body))
}

pub(crate) fn notification(body: &str) -> Notification {
    Notification {
        title: "Alice".to_owned(),
        body: Some(body.to_owned()),
        data: Map::from_iter([("seq".to_owned(), json!(7))]),
        collapse_key: CollapseKey::of("private_alice_bob"),
        badge: Some(2),
        urgency: Urgency::High,
        quiet: false,
        ttl: Duration::from_secs(3_600),
    }
}

/// The withdrawal of that notification.
pub(crate) fn withdraw() -> PushMessage {
    PushMessage::Withdraw(Withdrawal {
        collapse_key: CollapseKey::of("private_alice_bob"),
        data: Map::new(),
        badge: None,
        ttl: Duration::from_secs(3_600),
    })
}

/// One client for everything, with these settings.
pub(crate) fn clients(settings: fn(reqwest::ClientBuilder) -> reqwest::ClientBuilder) -> Clients {
    let client = settings(reqwest::Client::builder().no_proxy()).build().unwrap();
    Clients { web_push: client.clone(), configured: client }
}

/// A file with this content in `folder`.
pub(crate) fn file(folder: &Path, name: &str, content: &str) -> std::path::PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, content).unwrap();
    path
}

/// The delay and the reason of another attempt.
#[track_caller]
pub(crate) fn retry(outcome: Outcome) -> (Option<Duration>, String) {
    match outcome {
        Outcome::Retry { after, reason } => (after, reason),
        other => panic!("{other:?}"),
    }
}

/// Whether the reason of a rejection contains `text`.
#[track_caller]
pub(crate) fn assert_rejected(outcome: &Outcome, text: &str) {
    assert!(matches!(outcome, Outcome::Rejected(reason) if reason.contains(text)), "{outcome:?}");
}
