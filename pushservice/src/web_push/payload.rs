//! The JSON that a device decrypts.

use serde_json::{Map, Value};

use super::encryption::PLAINTEXT_BYTES_MAX;
use crate::message::{Notification, PushMessage};
use crate::truncation::fitted;

/// The plaintext of `message`: one object with the values for the app and what is shown. `None`: it is too long even without a
/// text.
pub(super) fn plaintext(message: &PushMessage) -> Option<Vec<u8>> {
    match message {
        PushMessage::Show(notification) => {
            let fitted = fitted(notification, PLAINTEXT_BYTES_MAX, |shorter| show(shorter).len())?;
            Some(show(&fitted))
        }
        PushMessage::Withdraw(withdrawal) => {
            let json = json(Payload {
                data: &withdrawal.data,
                title: None,
                body: None,
                tag: withdrawal.collapse_key.as_str(),
                badge: withdrawal.badge,
                quiet: false,
            });
            Some(json).filter(|json| json.len() <= PLAINTEXT_BYTES_MAX)
        }
    }
}

fn show(notification: &Notification) -> Vec<u8> {
    json(Payload {
        data: &notification.data,
        title: Some(&notification.title),
        body: notification.body.as_deref(),
        tag: notification.collapse_key.as_str(),
        badge: notification.badge,
        quiet: notification.quiet,
    })
}

/// The fields beside the values for the app, which have no such names.
struct Payload<'a> {
    data: &'a Map<String, Value>,
    title: Option<&'a str>,
    body: Option<&'a str>,
    /// The `tag` of `ServiceWorkerRegistration.showNotification()`.
    tag: &'a str,
    badge: Option<u32>,
    /// It is shown without a sound.
    quiet: bool,
}

fn json(payload: Payload<'_>) -> Vec<u8> {
    let Payload { data, title, body, tag, badge, quiet } = payload;
    let mut object = data.clone();
    let fields = [
        ("title", title.map(Value::from)),
        ("body", body.map(Value::from)),
        ("tag", Some(Value::from(tag))),
        ("badge", badge.map(Value::from)),
        ("quiet", quiet.then_some(Value::Bool(true))),
    ];
    let fields = fields.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
    object.extend(fields);
    // Text, numbers and values of JSON cannot fail to be written as JSON.
    serde_json::to_vec(&object).unwrap_or_default()
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
        let expected = json!({"seq": 7, "title": "Alice", "body": "Hi", "tag": tag.as_str(), "badge": 2,
            "quiet": true});
        assert_eq!(serde_json::from_slice::<Value>(&shown).unwrap(), expected);
        let withdrawal =
            Withdrawal { collapse_key: tag.clone(), data: Map::new(), badge: None, ttl: Duration::ZERO };
        let withdrawn = plaintext(&PushMessage::Withdraw(withdrawal)).unwrap();
        let expected = json!({"tag": tag.as_str()});
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
            let body = read["body"].as_str().unwrap();
            assert!(body.trim_end_matches('\u{2026}').chars().all(|c| c == character));
        }
        let mut large = notification(String::new());
        large.data.insert("x".to_owned(), json!("y".repeat(4_000)));
        assert_eq!(plaintext(&PushMessage::Show(large)), None);
    }
}
