//! A device, as its push service names it.

use std::fmt;

use reqwest::Url;
use url::Host;

use crate::base64url;
use crate::public_key::P256PublicKey;

/// Bytes of the authentication secret (RFC 8291 §3.2).
const AUTH_BYTES: usize = 16;
const ENDPOINT_BYTES_MAX: usize = 2_048;
const FCM_TOKEN_BYTES_MAX: usize = 4_096;
/// Apple's tokens have 64 digits today, and no fixed length by its documentation.
const APNS_TOKEN_DIGITS: std::ops::RangeInclusive<usize> = 64..=200;
const TOPIC_BYTES_MAX: usize = 255;

/// Which kind of push service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PushService {
    /// A push service of RFC 8030: a browser's, or one of UnifiedPush.
    WebPush,
    /// Firebase Cloud Messaging.
    Fcm,
    /// Apple Push Notification service.
    Apns,
}

impl PushService {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::WebPush, Self::Fcm, Self::Apns];

    /// Its name in requests, in the database and in labels of metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::WebPush => "webpush",
            Self::Fcm => "fcm",
            Self::Apns => "apns",
        }
    }

    /// The push service of this name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|service| service.name() == name)
    }
}

/// A device's subscription. Its parts are secrets of the device, so that `Debug` shows none of them.
#[derive(Clone, PartialEq, Eq)]
pub enum Subscription {
    /// From a browser's `PushSubscription`, or from a distributor of UnifiedPush.
    WebPush {
        /// The URL to which messages are posted.
        endpoint: Url,
        /// The device's public key: messages are encrypted for it.
        p256dh: P256PublicKey,
        /// The secret that the device shares with this server alone.
        auth: [u8; AUTH_BYTES],
        /// The VAPID key with which the device subscribed; `None`: the newest one. Browsers' push services refuse messages
        /// that another key signed.
        vapid_key: Option<P256PublicKey>,
    },
    /// An app with the SDK of Firebase.
    Fcm {
        /// The registration token.
        token: String,
    },
    /// An app on a device of Apple.
    Apns {
        /// The device token in hexadecimal.
        token: String,
        /// The app's bundle id; `None`: `push.apns_topic`.
        topic: Option<String>,
        /// Whether the app was built for development, and its token is of Apple's sandbox; `None`: `push.apns_sandbox`.
        sandbox: Option<bool>,
    },
}

/// A subscription that is not well-formed; the text says what to send instead.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {why}")]
pub struct SubscriptionError {
    /// Which part of the subscription.
    pub field: &'static str,
    /// What is wrong, and what to send.
    pub why: &'static str,
}

impl Subscription {
    /// A subscription of Web Push from the texts of a browser's `PushSubscription.toJSON()`: `endpoint`, `keys.p256dh` and
    /// `keys.auth`. `vapid_key`: the `applicationServerKey` with which the device subscribed.
    ///
    /// # Errors
    /// Names the part that is not well-formed.
    pub fn web_push(
        endpoint: &str,
        p256dh: &str,
        auth: &str,
        vapid_key: Option<&str>,
    ) -> Result<Self, SubscriptionError> {
        let key = |field, text| {
            let why =
                "is no public key: send the base64url of the 65 bytes of a P-256 key, which begin with 4";
            P256PublicKey::parse(text).ok_or(SubscriptionError { field, why })
        };
        let why = "is no authentication secret: send the base64url of its 16 bytes";
        let auth = base64url::decode(auth).and_then(|bytes| bytes.try_into().ok());
        Ok(Self::WebPush {
            endpoint: parse_endpoint(endpoint)?,
            p256dh: key("p256dh", p256dh)?,
            auth: auth.ok_or(SubscriptionError { field: "auth", why })?,
            vapid_key: vapid_key.map(|text| key("vapid_key", text)).transpose()?,
        })
    }

    /// A subscription of FCM.
    ///
    /// # Errors
    /// The token is not well-formed.
    pub fn fcm(token: &str) -> Result<Self, SubscriptionError> {
        let is_token = (1..=FCM_TOKEN_BYTES_MAX).contains(&token.len())
            && token.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_:.%".contains(&b));
        let why = "is no registration token: send what FirebaseMessaging.getToken() returns, unchanged";
        if is_token {
            Ok(Self::Fcm { token: token.to_owned() })
        } else {
            Err(SubscriptionError { field: "token", why })
        }
    }

    /// A subscription of APNs.
    ///
    /// # Errors
    /// The token or the topic is not well-formed.
    pub fn apns(token: &str, topic: Option<&str>, sandbox: Option<bool>) -> Result<Self, SubscriptionError> {
        let is_token = APNS_TOKEN_DIGITS.contains(&token.len())
            && token.len().is_multiple_of(2)
            && token.bytes().all(|b| b.is_ascii_hexdigit());
        if !is_token {
            let why = "is no device token: send the bytes of deviceToken in hexadecimal, 64 digits or more";
            return Err(SubscriptionError { field: "token", why });
        }
        if topic.is_some_and(|topic| !is_topic(topic)) {
            let why = "is no bundle id: send letters, digits, hyphens and periods, com.example.app";
            return Err(SubscriptionError { field: "topic", why });
        }
        let topic = topic.map(ToOwned::to_owned);
        Ok(Self::Apns { token: token.to_ascii_lowercase(), topic, sandbox })
    }

    /// Its push service.
    #[must_use]
    pub fn service(&self) -> PushService {
        match self {
            Self::WebPush { .. } => PushService::WebPush,
            Self::Fcm { .. } => PushService::Fcm,
            Self::Apns { .. } => PushService::Apns,
        }
    }
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::WebPush { endpoint, .. } => {
                write!(f, "web_push at {}", endpoint.host_str().unwrap_or_default())
            }
            other => f.write_str(other.service().name()),
        }
    }
}

/// Whether `text` is a bundle id.
pub(crate) fn is_topic(text: &str) -> bool {
    (1..=TOPIC_BYTES_MAX).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'.')
}

fn parse_endpoint(text: &str) -> Result<Url, SubscriptionError> {
    let wrong = |why| Err(SubscriptionError { field: "endpoint", why });
    if text.len() > ENDPOINT_BYTES_MAX {
        return wrong("has over 2048 bytes");
    }
    let Ok(mut url) = Url::parse(text) else {
        return wrong("is no URL: send the endpoint of the push subscription, https://host/path");
    };
    // Without TLS only on the same machine, as browsers do.
    if url.scheme() != "https" && !(url.scheme() == "http" && is_loopback(&url)) {
        return wrong("is not https: send the endpoint of the push subscription, https://host/path");
    }
    if !url.username().is_empty() || url.password().is_some() {
        return wrong("has a user or a password: send the endpoint of the push subscription without them");
    }
    url.set_fragment(None);
    Ok(url)
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str =
        "BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4";
    const AUTH: &str = "BTBZMqHH6r4Tts7J_aSIgg";

    #[test]
    fn well_formed_subscriptions_are_read() {
        for endpoint in
            ["https://push.example/a?b=c", "http://127.0.0.1:9/x", "http://[::1]/x", "http://localhost/x"]
        {
            let read = Subscription::web_push(endpoint, KEY, AUTH, Some(KEY)).unwrap();
            let Subscription::WebPush { p256dh, auth, vapid_key, .. } = read else { panic!("{read:?}") };
            assert_eq!((p256dh.to_string().as_str(), base64url::encode(auth).as_str()), (KEY, AUTH));
            assert_eq!(vapid_key, Some(p256dh));
        }
        // Padded, and in the other alphabet.
        let padded = format!("{}=", KEY.replace('-', "+").replace('_', "/"));
        assert!(Subscription::web_push("https://a.b/", &padded, "BTBZMqHH6r4Tts7J/aSIgg==", None).is_ok());
        assert!(Subscription::fcm("cXyz_123:APA91bF-x").is_ok());
        let read = Subscription::apns(&"Ab".repeat(32), Some("com.example.app-1"), Some(true)).unwrap();
        let Subscription::Apns { token, .. } = read else { panic!("{read:?}") };
        assert_eq!(token, "ab".repeat(32));
    }

    #[test]
    fn a_malformed_subscription_is_refused_with_what_to_send() {
        let long = format!("https://a.b/{}", "x".repeat(2_048));
        // A point that is not on the curve, a compressed point, and 64 bytes.
        let not_on_curve = base64url::encode([4_u8; 65]);
        let compressed = base64url::encode([&[2_u8][..], &base64url::decode(KEY).unwrap()[1..33]].concat());
        let web = |endpoint: &str, key: &str, auth: &str| Subscription::web_push(endpoint, key, auth, None);
        for (result, field, what) in [
            (web("push.example/a", KEY, AUTH), "endpoint", "https://host/path"),
            (web("http://push.example/a", KEY, AUTH), "endpoint", "https://host/path"),
            (web("ftp://localhost/a", KEY, AUTH), "endpoint", "https://host/path"),
            (web("https://a:b@push.example/a", KEY, AUTH), "endpoint", "without them"),
            (web(&long, KEY, AUTH), "endpoint", "2048"),
            (web("https://a.b/", &not_on_curve, AUTH), "p256dh", "65 bytes"),
            (web("https://a.b/", &compressed, AUTH), "p256dh", "65 bytes"),
            (web("https://a.b/", &KEY[..86], AUTH), "p256dh", "base64url"),
            (web("https://a.b/", "", AUTH), "p256dh", "base64url"),
            (web("https://a.b/", KEY, "AAAA"), "auth", "16 bytes"),
            (web("https://a.b/", KEY, "!"), "auth", "base64url"),
            (Subscription::web_push("https://a.b/", KEY, AUTH, Some("x")), "vapid_key", "65 bytes"),
            (Subscription::fcm(""), "token", "getToken"),
            (Subscription::fcm("a b"), "token", "getToken"),
            (Subscription::fcm(&"a".repeat(4_097)), "token", "getToken"),
            (Subscription::apns("abc", None, None), "token", "hexadecimal"),
            (Subscription::apns(&"a".repeat(65), None, None), "token", "hexadecimal"),
            (Subscription::apns(&"g".repeat(64), None, None), "token", "hexadecimal"),
            (Subscription::apns(&"a".repeat(64), Some("a b"), None), "topic", "com.example.app"),
            (Subscription::apns(&"a".repeat(64), Some(""), None), "topic", "com.example.app"),
        ] {
            let error = result.unwrap_err();
            assert_eq!(error.field, field, "{error}");
            assert!(error.why.contains(what), "{what}: {error}");
        }
    }

    #[test]
    fn debug_shows_no_secret() {
        let web_push = Subscription::web_push("https://push.example/secret", KEY, AUTH, None).unwrap();
        assert_eq!(format!("{web_push:?}"), "web_push at push.example");
        assert_eq!(format!("{:?}", Subscription::fcm("secret").unwrap()), "fcm");
        assert_eq!(format!("{:?}", Subscription::apns(&"a".repeat(64), None, None).unwrap()), "apns");
    }
}
