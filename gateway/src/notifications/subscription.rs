//! What a device registers, and what is stored of it.

use pushservice::{PushService, Subscription, SubscriptionError};
use serde::{Deserialize, Serialize};
use shared::ids::DeviceId;
use shared::mysql::push_subscriptions::{NewSubscription, StoredSubscription};
use url::Url;

use crate::wire::api_error::ApiError;

/// Hosts of the push service of Safari, which ends a subscription after messages that show nothing.
const SHOWS_ALWAYS: &str = ".push.apple.com";

/// The body of a call that registers a device: with `"kind":"webpush"`, which is the default, what a browser's
/// `PushSubscription.toJSON()` has.
// No Debug, since it would show secrets of the device.
#[derive(Deserialize)]
pub(crate) struct Registration {
    kind: Option<String>,
    endpoint: Option<String>,
    keys: Option<Keys>,
    /// The `applicationServerKey` that the browser subscribed with; the newest one without it.
    vapid_key: Option<String>,
    token: Option<String>,
    topic: Option<String>,
    sandbox: Option<bool>,
    device_id: Option<DeviceId>,
}

#[derive(Deserialize)]
struct Keys {
    p256dh: String,
    auth: String,
}

impl Registration {
    /// The push service.
    ///
    /// # Errors
    /// 400
    pub(super) fn service(&self) -> Result<PushService, ApiError> {
        let service = self.kind.as_deref().map_or(Some(PushService::WebPush), PushService::parse);
        service.ok_or_else(|| ApiError::malformed("kind must be webpush, fcm or apns"))
    }

    /// What is stored. `vapid_key`: what a browser has subscribed with that does not say it.
    ///
    /// # Errors
    /// 400 with the field that is missing or malformed.
    pub(super) fn into_new(self, vapid_key: Option<String>) -> Result<NewSubscription, ApiError> {
        let service = self.service()?;
        let missing = |field: &str| ApiError::Malformed(format!("{field} is missing: send it for this kind"));
        let malformed = |error: SubscriptionError| ApiError::malformed(error);
        let mut new = NewSubscription {
            kind: service.name(),
            target: String::new(),
            p256dh: None,
            auth: None,
            vapid_key: None,
            topic: None,
            is_sandbox: None,
            device: self.device_id,
        };
        if service == PushService::WebPush {
            let endpoint = self.endpoint.ok_or_else(|| missing("endpoint"))?;
            let Keys { p256dh, auth } = self.keys.ok_or_else(|| missing("keys"))?;
            let vapid_key = self.vapid_key.or(vapid_key);
            let checked = Subscription::web_push(&endpoint, &p256dh, &auth, vapid_key.as_deref());
            let Subscription::WebPush { endpoint, .. } = checked.map_err(malformed)? else {
                return Err(ApiError::Internal);
            };
            (new.target, new.p256dh, new.auth) = (endpoint.into(), Some(p256dh), Some(auth));
            new.vapid_key = vapid_key;
            return Ok(new);
        }
        let token = self.token.ok_or_else(|| missing("token"))?;
        let checked = match service {
            PushService::Apns => Subscription::apns(&token, self.topic.as_deref(), self.sandbox),
            _ => Subscription::fcm(&token),
        };
        match checked.map_err(malformed)? {
            Subscription::Fcm { token } => new.target = token,
            Subscription::Apns { token, topic, sandbox } => {
                (new.target, new.topic, new.is_sandbox) = (token, topic, sandbox);
            }
            Subscription::WebPush { .. } => {}
        }
        Ok(new)
    }
}

/// A stored subscription as its push service needs it; `None` if it is of a kind that this version does not know.
pub(super) fn of_stored(stored: &StoredSubscription) -> Option<Subscription> {
    let StoredSubscription { target, p256dh, auth, vapid_key, topic, is_sandbox, .. } = stored;
    let read = match PushService::parse(&stored.kind)? {
        PushService::WebPush => {
            Subscription::web_push(target, p256dh.as_deref()?, auth.as_deref()?, vapid_key.as_deref())
        }
        PushService::Fcm => Subscription::fcm(target),
        PushService::Apns => Subscription::apns(target, topic.as_deref(), *is_sandbox),
    };
    read.ok()
}

/// Whether the device takes a message that shows nothing.
pub(super) fn takes_withdrawals(subscription: &Subscription) -> bool {
    match subscription {
        Subscription::WebPush { endpoint, .. } => {
            !endpoint.host_str().is_some_and(|host| host.ends_with(SHOWS_ALWAYS))
        }
        Subscription::Fcm { .. } | Subscription::Apns { .. } => true,
    }
}

/// A subscription as its user sees it: without its secrets.
#[derive(Debug, Serialize)]
pub(crate) struct SubscriptionView<'s> {
    id: &'s str,
    kind: &'s str,
    /// The host of the endpoint.
    #[serde(skip_serializing_if = "Option::is_none")]
    endpoint_host: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    device_id: Option<&'s str>,
    created_at: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    accepted_at: Option<i64>,
}

/// See [`SubscriptionView`].
pub(crate) fn subscription_view(stored: &StoredSubscription) -> SubscriptionView<'_> {
    let host = || Url::parse(&stored.target).ok()?.host_str().map(ToOwned::to_owned);
    SubscriptionView {
        id: &stored.id,
        kind: &stored.kind,
        endpoint_host: if stored.kind == PushService::WebPush.name() { host() } else { None },
        device_id: stored.device_id.as_deref(),
        created_at: stored.created_at,
        accepted_at: stored.accepted_at,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEYS: &str = r#""keys":{"p256dh":"BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4","auth":"BTBZMqHH6r4Tts7J_aSIgg"}"#;

    fn read(json: &str) -> Result<NewSubscription, String> {
        let registration: Registration = serde_json::from_str(json).unwrap();
        registration.into_new(None).map_err(|error| error.message().to_owned())
    }

    #[test]
    fn what_a_browser_has_is_a_subscription() {
        let json = format!(r#"{{"endpoint":"https://push.example/a","expirationTime":null,{KEYS}}}"#);
        let new = read(&json).unwrap();
        assert_eq!((new.kind, new.target.as_str()), ("webpush", "https://push.example/a"));
        assert!(read(r#"{"endpoint":"https://push.example/a"}"#).unwrap_err().contains("keys"));
        assert!(read(&format!("{{{KEYS}}}")).unwrap_err().contains("endpoint"));
        assert!(read(&format!(r#"{{"endpoint":"ftp://x",{KEYS}}}"#)).unwrap_err().contains("endpoint"));
    }

    #[test]
    fn tokens_are_checked_by_their_kind() {
        let token = "ab".repeat(32);
        let apns =
            read(&format!(r#"{{"kind":"apns","token":"{token}","topic":"com.example.app","sandbox":true}}"#));
        let apns = apns.unwrap();
        assert_eq!((apns.target, apns.is_sandbox), (token, Some(true)));
        assert_eq!(read(r#"{"kind":"fcm","token":"a:b-c"}"#).unwrap().target, "a:b-c");
        assert!(read(r#"{"kind":"fcm"}"#).unwrap_err().contains("token"));
        assert!(read(r#"{"kind":"apns","token":"xyz"}"#).unwrap_err().contains("token"));
        assert!(read(r#"{"kind":"sms","token":"1"}"#).unwrap_err().contains("kind"));
    }
}
