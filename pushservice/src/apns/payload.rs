//! The payload and the headers that belong to it:
//! <https://developer.apple.com/documentation/usernotifications/generating-a-remote-notification>.

use serde_json::{Map, Value, json};

use crate::message::{Notification, PushMessage, Urgency, Withdrawal};
use crate::truncation::fitted;

/// Longest payload of a notification in bytes.
const PAYLOAD_BYTES_MAX: usize = 4_096;

/// A payload with its `apns-push-type` and `apns-priority`.
#[derive(Debug, PartialEq)]
pub(super) struct Payload {
    pub(super) json: Vec<u8>,
    pub(super) push_type: &'static str,
    /// 10: at once; 5: when it suits the battery; 1: without waking the device.
    pub(super) priority: &'static str,
}

/// The payload of `message`; `None`: it is too long even without a text.
pub(super) fn payload(message: &PushMessage) -> Option<Payload> {
    match message {
        PushMessage::Show(notification) => {
            let fitted = fitted(notification, PAYLOAD_BYTES_MAX, |shorter| show(shorter).len())?;
            let priority = match notification.urgency {
                Urgency::High => "10",
                Urgency::Normal => "5",
                Urgency::Low => "1",
            };
            Some(Payload { json: show(&fitted), push_type: "alert", priority })
        }
        PushMessage::Withdraw(withdrawal) => {
            let json = withdraw(withdrawal);
            // A background push may contain nothing that the user sees, and the badge is seen: with a badge it is an alert
            // without text and sound, which also wakes the app.
            let push_type = if withdrawal.badge.is_some() { "alert" } else { "background" };
            (json.len() <= PAYLOAD_BYTES_MAX).then_some(Payload { json, push_type, priority: "5" })
        }
    }
}

fn show(notification: &Notification) -> Vec<u8> {
    let mut alert = json!({"title": notification.title});
    if let Some(body) = &notification.body {
        alert["body"] = body.as_str().into();
    }
    let mut aps = json!({"alert": alert, "thread-id": notification.collapse_key.as_str()});
    if let Some(badge) = notification.badge {
        aps["badge"] = badge.into();
    }
    if notification.quiet {
        aps["interruption-level"] = "passive".into();
    } else {
        aps["sound"] = "default".into();
    }
    bytes(aps, None, &notification.data)
}

fn withdraw(withdrawal: &Withdrawal) -> Vec<u8> {
    let mut aps = json!({"content-available": 1});
    if let Some(badge) = withdrawal.badge {
        aps["badge"] = badge.into();
    }
    bytes(aps, Some(withdrawal.collapse_key.as_str()), &withdrawal.data)
}

/// The values of the app are in an object of their own, so that no key of them is taken for `aps`.
fn bytes(aps: Value, withdraw: Option<&str>, data: &Map<String, Value>) -> Vec<u8> {
    let mut payload = json!({ "aps": aps });
    if let Some(key) = withdraw {
        payload["withdraw"] = key.into();
    }
    if !data.is_empty() {
        payload["data"] = data.clone().into();
    }
    payload.to_string().into_bytes()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::collapse_key::CollapseKey;

    fn notification() -> Notification {
        Notification {
            title: "Alice".to_owned(),
            body: None,
            data: Map::from_iter([("aps".to_owned(), json!(7))]),
            collapse_key: CollapseKey::of("c"),
            badge: Some(3),
            urgency: Urgency::High,
            quiet: false,
            ttl: Duration::from_secs(60),
        }
    }

    fn read(payload: &Payload) -> Value {
        serde_json::from_slice(&payload.json).unwrap()
    }

    #[test]
    fn a_notification_is_an_alert() {
        let key = CollapseKey::of("c");
        let loud = payload(&PushMessage::Show(notification())).unwrap();
        let expected = json!({"aps": {"alert": {"title": "Alice"}, "badge": 3, "sound": "default",
            "thread-id": key.as_str()}, "data": {"aps": 7}});
        assert_eq!((read(&loud), loud.push_type, loud.priority), (expected, "alert", "10"));
        let quiet = Notification {
            quiet: true,
            urgency: Urgency::Low,
            body: Some("Hi".to_owned()),
            ..notification()
        };
        let quiet = payload(&PushMessage::Show(quiet)).unwrap();
        let expected = json!({"aps": {"alert": {"title": "Alice", "body": "Hi"}, "badge": 3,
            "interruption-level": "passive", "thread-id": key.as_str()}, "data": {"aps": 7}});
        assert_eq!((read(&quiet), quiet.push_type, quiet.priority), (expected, "alert", "1"));
    }

    #[test]
    fn a_withdrawal_wakes_the_app_and_is_an_alert_only_with_a_badge() {
        let key = CollapseKey::of("c");
        for (badge, aps, push_type) in [
            (None, json!({"content-available": 1}), "background"),
            (Some(0), json!({"content-available": 1, "badge": 0}), "alert"),
        ] {
            let withdrawal =
                Withdrawal { collapse_key: key.clone(), data: Map::new(), badge, ttl: Duration::ZERO };
            let payload = payload(&PushMessage::Withdraw(withdrawal)).unwrap();
            assert_eq!(read(&payload), json!({"aps": aps, "withdraw": key.as_str()}));
            assert_eq!((payload.push_type, payload.priority), (push_type, "5"));
        }
    }

    #[test]
    fn a_long_text_is_cut_and_too_much_data_is_refused() {
        let long = Notification { body: Some("\u{20ac}".repeat(4_000)), ..notification() };
        let cut = payload(&PushMessage::Show(long)).unwrap();
        assert!((PAYLOAD_BYTES_MAX - 3..=PAYLOAD_BYTES_MAX).contains(&cut.json.len()), "{}", cut.json.len());
        let mut large = notification();
        large.data.insert("x".to_owned(), "y".repeat(4_100).into());
        assert_eq!(payload(&PushMessage::Show(large)), None);
    }
}
