//! The body of `projects.messages.send`.

use serde_json::{Map, Value, json};

use crate::message::{Notification, PushMessage, Urgency};
use crate::truncation::fitted;

/// Longest payload: FCM counts keys and values of `notification` and `data`. All of the message without its token is counted
/// here, which is more.
const PAYLOAD_BYTES_MAX: usize = 4_096;

/// The body that sends `message` to the device `token`; `None`: it is too long even without a text.
pub(super) fn body(token: &str, message: &PushMessage) -> Option<Value> {
    let ttl = format!("{}s", message.ttl_s());
    let mut payload = match message {
        PushMessage::Show(notification) => {
            let size = |shorter: &Notification| json_bytes(&show(shorter, &ttl));
            show(&fitted(notification, PAYLOAD_BYTES_MAX, size)?, &ttl)
        }
        PushMessage::Withdraw(withdrawal) => {
            let mut data = texts(&withdrawal.data);
            data.insert("withdraw".to_owned(), withdrawal.collapse_key.as_str().into());
            if let Some(badge) = withdrawal.badge {
                data.insert("badge".to_owned(), badge.to_string().into());
            }
            // A data message of high priority that shows nothing makes FCM lower the priority of later ones.
            let android =
                json!({"collapse_key": withdrawal.collapse_key.as_str(), "priority": "NORMAL", "ttl": ttl});
            json!({"data": data, "android": android})
        }
    };
    if json_bytes(&payload) > PAYLOAD_BYTES_MAX {
        return None;
    }
    payload["token"] = token.into();
    Some(json!({ "message": payload }))
}

fn show(notification: &Notification, ttl: &str) -> Value {
    let key = notification.collapse_key.as_str();
    let mut shown = json!({"title": notification.title});
    if let Some(body) = &notification.body {
        shown["body"] = body.as_str().into();
    }
    // A later notification with the same tag replaces this one on the screen; without the tag both are shown.
    let mut android = json!({"tag": key});
    if let Some(badge) = notification.badge {
        android["notification_count"] = badge.into();
    }
    if notification.quiet {
        android["notification_priority"] = "PRIORITY_LOW".into();
    } else {
        android["default_sound"] = true.into();
    }
    let priority = if notification.urgency == Urgency::High { "HIGH" } else { "NORMAL" };
    json!({
        "notification": shown,
        "data": texts(&notification.data),
        "android": {"collapse_key": key, "priority": priority, "ttl": ttl, "notification": android},
    })
}

/// FCM's `data` has texts only: other values are written as JSON.
fn texts(data: &Map<String, Value>) -> Map<String, Value> {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned);
    data.iter().map(|(key, value)| (key.clone(), text(value).into())).collect()
}

fn json_bytes(value: &Value) -> usize {
    value.to_string().len()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::collapse_key::CollapseKey;
    use crate::message::Withdrawal;

    fn notification() -> Notification {
        Notification {
            title: "Alice".to_owned(),
            body: Some("Hi".to_owned()),
            data: Map::from_iter([("seq".to_owned(), json!(7)), ("id".to_owned(), json!("c"))]),
            collapse_key: CollapseKey::of("c"),
            badge: Some(3),
            urgency: Urgency::High,
            quiet: false,
            ttl: Duration::from_secs(100 * 24 * 3_600),
        }
    }

    #[test]
    fn a_notification_has_its_tag_its_texts_and_the_longest_ttl() {
        let key = CollapseKey::of("c");
        let body = body("t", &PushMessage::Show(notification())).unwrap();
        let expected = json!({"message": {
            "token": "t",
            "notification": {"title": "Alice", "body": "Hi"},
            "data": {"seq": "7", "id": "c"},
            "android": {"collapse_key": key.as_str(), "priority": "HIGH", "ttl": "2419200s",
                "notification": {"tag": key.as_str(), "notification_count": 3, "default_sound": true}},
        }});
        assert_eq!(body, expected);
    }

    #[test]
    fn a_withdrawal_has_data_only() {
        let key = CollapseKey::of("c");
        let withdrawal = Withdrawal {
            collapse_key: key.clone(),
            data: Map::from_iter([("seq".to_owned(), json!(7))]),
            badge: Some(0),
            ttl: Duration::from_secs(60),
        };
        let expected = json!({"message": {
            "token": "t",
            "data": {"withdraw": key.as_str(), "seq": "7", "badge": "0"},
            "android": {"collapse_key": key.as_str(), "priority": "NORMAL", "ttl": "60s"},
        }});
        assert_eq!(body("t", &PushMessage::Withdraw(withdrawal)), Some(expected));
    }

    #[test]
    fn a_long_text_is_cut_and_too_much_data_is_refused() {
        let long = Notification { body: Some("\u{20ac}".repeat(4_000)), ..notification() };
        let token = "t".repeat(500);
        let body = body(&token, &PushMessage::Show(long)).unwrap();
        assert!(body["message"]["notification"]["body"].as_str().unwrap().ends_with("\u{20ac}\u{2026}"));
        assert!(body.to_string().len() <= PAYLOAD_BYTES_MAX + 530);
        let mut large = notification();
        large.data.insert("x".to_owned(), "y".repeat(4_100).into());
        assert_eq!(super::body("t", &PushMessage::Show(large)), None);
    }
}
