//! One message to a push service of RFC 8030.

use std::time::Duration;

use reqwest::header::{AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE};
use reqwest::{Client, Url};
use shared::config::{ConfigError, Secret};

use super::encryption::encrypt;
use super::payload::plaintext;
use super::vapid::{VapidKey, VapidTokens};
use crate::clock::unix_s;
use crate::config::PushConfig;
use crate::message::{PushMessage, Urgency};
use crate::outcome::Outcome;
use crate::public_key::P256PublicKey;
use crate::response::{Response, call};

/// Where a message goes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Target<'a> {
    pub(crate) endpoint: &'a Url,
    pub(crate) p256dh: &'a P256PublicKey,
    pub(crate) auth: &'a [u8; 16],
    pub(crate) vapid_key: Option<&'a P256PublicKey>,
}

/// What a sender was made from.
#[derive(PartialEq, Eq)]
struct Settings {
    keys: Secret,
    subject: String,
}

/// Sends messages of Web Push.
pub(crate) struct WebPushSender {
    settings: Settings,
    /// The newest first, and at least one.
    keys: Vec<VapidKey>,
    tokens: VapidTokens,
}

impl WebPushSender {
    /// Reads the keys of `config`.
    ///
    /// # Errors
    /// Names the configuration key that is unusable.
    pub(crate) fn new(config: &PushConfig) -> Result<Self, ConfigError> {
        let keys = Secret::either("push.vapid_keys", config.vapid_keys.clone(), &config.vapid_keys_file)?;
        let parsed: Option<Vec<_>> = keys.expose().split_whitespace().map(VapidKey::parse).collect();
        let parsed = parsed.filter(|keys| !keys.is_empty()).ok_or_else(|| {
            let name = if config.vapid_keys.is_empty() { "push.vapid_keys_file" } else { "push.vapid_keys" };
            let why = "has an entry that is no private key: write what `imctl push vapid-key` prints, the base64url of 32 bytes";
            ConfigError::key(name, why)
        })?;
        let settings = Settings { keys, subject: config.vapid_subject.clone() };
        Ok(Self { settings, keys: parsed, tokens: VapidTokens::default() })
    }

    /// Whether `other` was made from the same settings.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        self.settings == other.settings
    }

    /// Public keys, the newest first.
    pub(crate) fn public_keys(&self) -> impl Iterator<Item = &P256PublicKey> {
        self.keys.iter().map(VapidKey::public)
    }

    pub(crate) async fn send(
        &self,
        client: &Client,
        target: Target<'_>,
        message: &PushMessage,
        timeout: Duration,
    ) -> Outcome {
        let Some(key) = self.key_for(target.vapid_key) else {
            let why = "the device subscribed with a VAPID key that push.vapid_keys does not have: add the key, or let the device \
                       subscribe again";
            return Outcome::Rejected(why.to_owned());
        };
        let Some(plaintext) = plaintext(message) else {
            return Outcome::Rejected("the data of the message have over 3993 bytes".to_owned());
        };
        let origin = target.endpoint.origin().ascii_serialization();
        let authorization = self.tokens.authorization(key, &origin, &self.settings.subject, unix_s());
        let (Ok(authorization), Ok(body)) = (authorization, encrypt(&plaintext, target.p256dh, target.auth))
        else {
            return Outcome::Rejected("the message cannot be signed or encrypted".to_owned());
        };
        let request = client
            .post(target.endpoint.clone())
            .header("TTL", message.ttl_s())
            .header("Urgency", urgency(message))
            .header("Topic", message.collapse_key().as_str())
            .header(CONTENT_ENCODING, "aes128gcm")
            .header(CONTENT_TYPE, "application/octet-stream")
            .header(AUTHORIZATION, authorization)
            .body(body);
        match call(request, timeout).await {
            Ok(response) => {
                if matches!(response.status.as_u16(), 401 | 403) {
                    self.tokens.discard(key, &origin);
                }
                outcome(&response)
            }
            Err(outcome) => outcome,
        }
    }

    /// The key with which a device subscribed.
    fn key_for(&self, named: Option<&P256PublicKey>) -> Option<&VapidKey> {
        match named {
            Some(public) => self.keys.iter().find(|key| key.public() == public),
            None => self.keys.first(),
        }
    }
}

/// The header `Urgency` (RFC 8030 §5.3).
fn urgency(message: &PushMessage) -> &'static str {
    match message {
        PushMessage::Show(notification) => match notification.urgency {
            Urgency::Low => "low",
            Urgency::Normal => "normal",
            Urgency::High => "high",
        },
        PushMessage::Withdraw(_) => "normal",
    }
}

/// What a response means (RFC 8030 §5 and §7.3, RFC 8292 §4.2).
fn outcome(response: &Response) -> Outcome {
    match response.status.as_u16() {
        200..=202 | 204 => Outcome::Accepted,
        404 | 410 => Outcome::Gone(response.reason()),
        408 | 425 | 429 | 500..=599 => response.retry(),
        401 | 403 => Outcome::Rejected(format!(
            "{}: the push service does not accept the signature; check that push.vapid_keys has the key with which the device \
             subscribed, push.vapid_subject, and this machine's clock",
            response.reason()
        )),
        413 => {
            Outcome::Rejected(format!("{}: the message is too long for the push service", response.reason()))
        }
        _ => Outcome::Rejected(response.reason()),
    }
}

#[cfg(test)]
mod tests {
    use reqwest::StatusCode;

    use super::*;

    #[test]
    fn each_status_has_its_outcome() {
        for (status, label) in [
            (200, "accepted"),
            (201, "accepted"),
            (202, "accepted"),
            (301, "rejected"),
            (400, "rejected"),
            (401, "rejected"),
            (403, "rejected"),
            (404, "gone"),
            (408, "retry"),
            (410, "gone"),
            (413, "rejected"),
            (429, "retry"),
            (500, "retry"),
            (502, "retry"),
            (503, "retry"),
        ] {
            let status = StatusCode::from_u16(status).unwrap();
            let retry_after = Some(Duration::from_secs(7));
            let outcome = outcome(&Response { status, retry_after, body: b"because".to_vec() });
            assert_eq!(outcome.label(), label, "{status}");
            match outcome {
                Outcome::Accepted => {}
                Outcome::Retry { after, reason } => {
                    assert_eq!(after, retry_after);
                    assert!(reason.contains("because"), "{reason}");
                }
                Outcome::Gone(reason) | Outcome::Rejected(reason) => {
                    assert!(reason.contains(status.as_str()) && reason.contains("because"), "{reason}");
                }
            }
        }
    }
}
