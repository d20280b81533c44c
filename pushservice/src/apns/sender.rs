//! One message to APNs.

use std::sync::Arc;
use std::time::Duration;

use jsonwebtoken::EncodingKey;
use reqwest::{Client, Url};
use serde::Deserialize;
use shared::config::{ConfigError, Secret};
use uuid::Uuid;

use super::payload::{Payload, payload};
use super::provider_token::ProviderTokens;
use crate::clock::unix_s;
use crate::config::{PushConfig, base_url};
use crate::message::PushMessage;
use crate::outcome::Outcome;
use crate::response::{Response, call};

const PRODUCTION: &str = "https://api.push.apple.com";
const SANDBOX: &str = "https://api.sandbox.push.apple.com";

/// Where a message goes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Target<'a> {
    pub(crate) token: &'a str,
    pub(crate) topic: Option<&'a str>,
    pub(crate) sandbox: Option<bool>,
}

/// What a sender was made from.
#[derive(PartialEq, Eq)]
struct Settings {
    key: Secret,
    key_id: String,
    team_id: String,
    topic: String,
    sandbox: bool,
    urls: Urls,
}

#[derive(PartialEq, Eq)]
struct Urls {
    production: Url,
    sandbox: Url,
}

/// Sends messages of APNs.
pub(crate) struct ApnsSender {
    settings: Settings,
    tokens: ProviderTokens,
}

/// The body of an error.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Error {
    reason: String,
}

impl ApnsSender {
    /// Reads the key of `config`.
    ///
    /// # Errors
    /// Names the configuration key that is unusable.
    pub(crate) fn new(config: &PushConfig) -> Result<Self, ConfigError> {
        let key = Secret::either("push.apns_key", Secret::default(), &config.apns_key_file)?;
        let signing = EncodingKey::from_ec_pem(key.expose().as_bytes()).map_err(|_| {
            let path = config.apns_key_file.display();
            ConfigError::key(
                "push.apns_key_file",
                format!("{path}: is no EC key in PEM: write the file AuthKey_….p8"),
            )
        })?;
        let url = |default: &str| {
            base_url("push.apns_url", if config.apns_url.is_empty() { default } else { &config.apns_url })
        };
        let urls = Urls { production: url(PRODUCTION)?, sandbox: url(SANDBOX)? };
        let tokens = ProviderTokens::new(signing, &config.apns_key_id, &config.apns_team_id);
        let settings = Settings {
            key,
            key_id: config.apns_key_id.clone(),
            team_id: config.apns_team_id.clone(),
            topic: config.apns_topic.clone(),
            sandbox: config.apns_sandbox,
            urls,
        };
        Ok(Self { settings, tokens })
    }

    /// Whether `other` was made from the same settings.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        self.settings == other.settings
    }

    pub(crate) async fn send(
        &self,
        client: &Client,
        target: Target<'_>,
        message: &PushMessage,
        timeout: Duration,
    ) -> Outcome {
        let Some(payload) = payload(message) else {
            return Outcome::Rejected("the data of the message have over 4096 bytes".to_owned());
        };
        let request =
            |token: &str| call(self.request(client, target, message, &payload).bearer_auth(token), timeout);
        let sent = async {
            let token = self.provider_token(None)?;
            let response = request(&token).await?;
            if response.status.as_u16() != 403 || reason(&response) != "ExpiredProviderToken" {
                return Ok(response);
            }
            request(&self.provider_token(Some(&token))?).await
        };
        match sent.await {
            Ok(response) => outcome(&response),
            Err(outcome) => outcome,
        }
    }

    fn provider_token(&self, refused: Option<&Arc<str>>) -> Result<Arc<str>, Outcome> {
        self.tokens
            .get(refused, unix_s())
            .map_err(|error| Outcome::Rejected(format!("the key of push.apns_key_file cannot sign: {error}")))
    }

    fn request(
        &self,
        client: &Client,
        target: Target<'_>,
        message: &PushMessage,
        payload: &Payload,
    ) -> reqwest::RequestBuilder {
        let Settings { urls, topic, sandbox, .. } = &self.settings;
        let is_sandbox = target.sandbox.unwrap_or(*sandbox);
        let mut url = if is_sandbox { &urls.sandbox } else { &urls.production }.clone();
        url.set_path(&format!("/3/device/{}", target.token));
        // 0: APNs tries once, and does not keep it.
        let expiration = match message.ttl_s() {
            0 => 0,
            ttl_s => unix_s() + ttl_s,
        };
        client
            .post(url)
            .header("apns-topic", target.topic.unwrap_or(topic))
            .header("apns-push-type", payload.push_type)
            .header("apns-priority", payload.priority)
            .header("apns-expiration", expiration)
            .header("apns-collapse-id", message.collapse_key().as_str())
            .header("apns-id", Uuid::new_v4().to_string())
            .body(payload.json.clone())
    }
}

fn reason(response: &Response) -> String {
    serde_json::from_slice::<Error>(&response.body).unwrap_or_default().reason
}

/// What a response means:
/// <https://developer.apple.com/documentation/usernotifications/handling-notification-responses-from-apns>.
fn outcome(response: &Response) -> Outcome {
    let text = response.reason();
    match (response.status.as_u16(), reason(response).as_str()) {
        (200, _) => Outcome::Accepted,
        (410, _) => Outcome::Gone(text),
        (400, "BadDeviceToken") => Outcome::Gone(format!(
            "{text}: the token is not valid, or is one of the other environment; see push.apns_sandbox"
        )),
        (400, "DeviceTokenNotForTopic") => {
            Outcome::Gone(format!("{text}: the token belongs to another app; see push.apns_topic"))
        }
        (400, "IdleTimeout") | (408 | 429 | 500..=599, _) => response.retry(),
        (403, "ExpiredProviderToken") => {
            Outcome::Rejected(format!("{text}: a new token is called expired; check this machine's clock"))
        }
        (403, _) => Outcome::Rejected(format!(
            "{text}: APNs does not accept the key; check push.apns_key_file, push.apns_key_id and push.apns_team_id"
        )),
        (413, _) => Outcome::Rejected(format!("{text}: the message is too long for APNs")),
        _ => Outcome::Rejected(text),
    }
}

#[cfg(test)]
mod tests {
    use reqwest::StatusCode;

    use super::*;

    #[test]
    fn each_status_has_its_outcome() {
        for (status, reason, label, text) in [
            (200, "", "accepted", ""),
            (400, "BadDeviceToken", "gone", "push.apns_sandbox"),
            (400, "DeviceTokenNotForTopic", "gone", "push.apns_topic"),
            (400, "BadCollapseId", "rejected", "BadCollapseId"),
            (400, "TopicDisallowed", "rejected", "TopicDisallowed"),
            (400, "IdleTimeout", "retry", "IdleTimeout"),
            (403, "ExpiredProviderToken", "rejected", "clock"),
            (403, "InvalidProviderToken", "rejected", "push.apns_team_id"),
            (404, "BadPath", "rejected", "BadPath"),
            (410, "Unregistered", "gone", "Unregistered"),
            (410, "ExpiredToken", "gone", "ExpiredToken"),
            (413, "PayloadTooLarge", "rejected", "too long"),
            (429, "TooManyProviderTokenUpdates", "retry", "TooManyProviderTokenUpdates"),
            (429, "TooManyRequests", "retry", "TooManyRequests"),
            (500, "InternalServerError", "retry", "InternalServerError"),
            (503, "Shutdown", "retry", "Shutdown"),
        ] {
            let body = if reason.is_empty() { String::new() } else { format!(r#"{{"reason":"{reason}"}}"#) };
            let status = StatusCode::from_u16(status).unwrap();
            let outcome = outcome(&Response { status, retry_after: None, body: body.into_bytes() });
            assert_eq!(outcome.label(), label, "{status} {reason}");
            match outcome {
                Outcome::Accepted => {}
                Outcome::Retry { reason, .. } | Outcome::Gone(reason) | Outcome::Rejected(reason) => {
                    assert!(reason.contains(text), "{reason}");
                }
            }
        }
    }
}
