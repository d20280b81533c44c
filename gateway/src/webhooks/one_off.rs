//! What operators do with a webhook beside its deliveries: its URL is checked, and it is called once for a test.

use std::time::{Duration, Instant};

use serde::Serialize;
use shared::config::ConfigError;
use shared::ids::unix_millis;
use shared::webhook::{InvalidWebhook, Webhook};
use uuid::Uuid;

use super::call::{CallError, Target};
use crate::config::Config;
use crate::outgoing::Outgoing;

/// Bytes of an answer that are shown.
const SHOWN_BYTES_MAX: usize = 1_024;

/// The result of a test.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Tested {
    /// The endpoint answered with 2xx.
    pub is_delivered: bool,
    /// Of the answer, if there was one.
    pub status: Option<u16>,
    /// Why it is not delivered.
    pub error: Option<String>,
    /// The begin of an answer with 2xx.
    pub answer: String,
    /// How long the call took.
    pub elapsed_ms: u64,
}

#[derive(Serialize)]
struct Body<'a> {
    r#type: &'static str,
    webhook_id: &'a str,
    time_ms: i64,
}

/// Calls the endpoint once, for at most `timeout`.
pub(super) async fn call(webhook: &Webhook, outgoing: &Outgoing, timeout: Duration) -> Tested {
    let begun = Instant::now();
    let body = Body { r#type: "test", webhook_id: webhook.id.as_str(), time_ms: unix_millis() };
    let body = serde_json::to_vec(&body).unwrap_or_default().into();
    let id = format!("msg_test_{}", Uuid::now_v7().simple());
    let answer = match Target::of(webhook, outgoing) {
        Ok(target) => target.post(outgoing, (&id, body), timeout).await,
        Err(why) => Err(CallError::Unusable(why)),
    };
    let elapsed_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
    let failed = |status, error: CallError| Tested {
        is_delivered: false,
        status,
        error: Some(error.to_string()),
        answer: String::new(),
        elapsed_ms,
    };
    match answer {
        Ok(answered) => {
            let shown = &answered.body[..answered.body.len().min(SHOWN_BYTES_MAX)];
            Tested {
                is_delivered: true,
                status: Some(answered.status.as_u16()),
                error: None,
                answer: String::from_utf8_lossy(shown).into_owned(),
                elapsed_ms,
            }
        }
        Err(error @ (CallError::Redirect(status) | CallError::Status { status, .. })) => {
            failed(Some(status.as_u16()), error)
        }
        Err(error) => failed(None, error),
    }
}

/// Checks the URL of a webhook as a gateway with this configuration does, but for DNS, which each call asks.
///
/// # Errors
/// Says what is wrong with the URL; the configuration is unusable.
pub fn check_url(config: &Config, url: &str) -> Result<Result<(), InvalidWebhook>, ConfigError> {
    let checked = Outgoing::new(&config.outgoing)?.url(url);
    Ok(checked.map(drop).map_err(|refused| InvalidWebhook::new("url", refused)))
}

/// Calls the endpoint once from this process, as a gateway with this configuration does.
///
/// # Errors
/// The configuration is unusable.
pub async fn test(config: &Config, webhook: &Webhook) -> Result<Tested, ConfigError> {
    let outgoing = Outgoing::new(&config.outgoing)?;
    Ok(call(webhook, &outgoing, config.webhooks.timeout()).await)
}
