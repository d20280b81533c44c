//! The JSON that a device decrypts.

use serde::Serialize;
use serde_json::{Map, Value};

use super::encryption::PLAINTEXT_BYTES_MAX;
use crate::message::{Notification, PushMessage};
use crate::truncation::fitted;

/// `{"show":{…}}` or `{"withdraw":{…}}`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "lowercase")]
enum Payload<'a> {
    Show {
        title: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        body: Option<&'a str>,
        /// The `tag` of `ServiceWorkerRegistration.showNotification()`.
        tag: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        badge: Option<u32>,
        quiet: bool,
        #[serde(skip_serializing_if = "Map::is_empty")]
        data: &'a Map<String, Value>,
    },
    Withdraw {
        tag: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        badge: Option<u32>,
        #[serde(skip_serializing_if = "Map::is_empty")]
        data: &'a Map<String, Value>,
    },
}

/// The plaintext of `message`; `None`: it is too long even without a text.
pub(super) fn plaintext(message: &PushMessage) -> Option<Vec<u8>> {
    match message {
        PushMessage::Show(notification) => {
            let fitted = fitted(notification, PLAINTEXT_BYTES_MAX, |shorter| show(shorter).len())?;
            Some(show(&fitted))
        }
        PushMessage::Withdraw(withdrawal) => {
            let payload = Payload::Withdraw {
                tag: withdrawal.collapse_key.as_str(),
                badge: withdrawal.badge,
                data: &withdrawal.data,
            };
            Some(json(&payload)).filter(|json| json.len() <= PLAINTEXT_BYTES_MAX)
        }
    }
}

fn show(notification: &Notification) -> Vec<u8> {
    json(&Payload::Show {
        title: &notification.title,
        body: notification.body.as_deref(),
        tag: notification.collapse_key.as_str(),
        badge: notification.badge,
        quiet: notification.quiet,
        data: &notification.data,
    })
}

fn json(payload: &Payload<'_>) -> Vec<u8> {
    // Text, numbers and values of JSON cannot fail to be written as JSON.
    serde_json::to_vec(payload).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::*;
    use crate::collapse_key::CollapseKey;
    use crate::message::{Urgency, Withdrawal};

    fn notification(body: String) -> Notification {
        Notification {
            title: "Alice".to_owned(),
            body: Some(body),
            data: Map::from_iter([("seq".to_owned(), json!(7))]),
            collapse_key: CollapseKey::of("c"),
            badge: Some(2),
            urgency: Urgency::High,
            quiet: true,
            ttl: Duration::from_secs(60),
        }
    }

    #[test]
    fn a_notification_is_shown_and_a_withdrawal_only_names_it() {
        let tag = CollapseKey::of("c");
        let shown = plaintext(&PushMessage::Show(notification("Hi".to_owned()))).unwrap();
        let expected = json!({"show": {"title": "Alice", "body": "Hi", "tag": tag.as_str(), "badge": 2,
            "quiet": true, "data": {"seq": 7}}});
        assert_eq!(serde_json::from_slice::<Value>(&shown).unwrap(), expected);
        let withdrawal =
            Withdrawal { collapse_key: tag.clone(), data: Map::new(), badge: None, ttl: Duration::ZERO };
        let withdrawn = plaintext(&PushMessage::Withdraw(withdrawal)).unwrap();
        let expected = json!({"withdraw": {"tag": tag.as_str()}});
        assert_eq!(serde_json::from_slice::<Value>(&withdrawn).unwrap(), expected);
    }

    #[test]
    fn a_long_text_is_cut_and_too_much_data_is_refused() {
        // Each takes 6 bytes in JSON, 3 bytes, or 4 bytes.
        for character in ['\u{1}', '\u{20ac}', '\u{1f600}'] {
            let long = notification(character.to_string().repeat(3_000));
            let bytes = plaintext(&PushMessage::Show(long)).unwrap();
            assert!(
                (PLAINTEXT_BYTES_MAX - 6..=PLAINTEXT_BYTES_MAX).contains(&bytes.len()),
                "{}",
                bytes.len()
            );
            let read: Value = serde_json::from_slice(&bytes).unwrap();
            let body = read["show"]["body"].as_str().unwrap();
            assert!(body.trim_end_matches('\u{2026}').chars().all(|c| c == character));
        }
        let mut large = notification(String::new());
        large.data.insert("x".to_owned(), json!("y".repeat(4_000)));
        assert_eq!(plaintext(&PushMessage::Show(large)), None);
    }
}
