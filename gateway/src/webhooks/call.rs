//! One signed call of an endpoint.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use reqwest::{RequestBuilder, Response, StatusCode, Url};
use shared::error_text::error_line;
use shared::ids::unix_millis;
use shared::webhook::Webhook;
use shared::webhook_signature::SigningKey;
use tokio::time::{Instant, timeout_at};

use crate::outgoing::Outgoing;

/// Bytes of an answer that are read, so that its connection can be used again. A longer one costs its connection.
const ANSWER_BYTES_MAX: usize = 16 * 1024;
/// Attempts of one call. The second one is for a connection that the endpoint closed meanwhile.
const ATTEMPTS: usize = 2;

/// Why a call failed. Its `Display` is shown to operators.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum CallError {
    #[error("{0}")]
    Unusable(String),
    #[error("it did not answer within {} ms (webhooks.timeout_ms)", .0.as_millis())]
    Timeout(Duration),
    #[error("{0}")]
    Unreachable(String),
    #[error("it answered with the status {0}: redirects are not followed, set its final address as the url")]
    Redirect(StatusCode),
    #[error("it answered with the status {status}, and not with 2xx")]
    Status {
        status: StatusCode,
        /// What its header `Retry-After` says.
        retry_after: Option<Duration>,
    },
}

impl CallError {
    /// The value of the label `outcome`.
    pub(super) fn outcome(&self) -> &'static str {
        match self {
            Self::Timeout(_) => "timeout",
            Self::Unusable(_) | Self::Unreachable(_) => "unreachable",
            Self::Redirect(_) => "redirect",
            Self::Status { .. } => "status",
        }
    }

    /// How long the endpoint asks to wait.
    pub(super) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Status { retry_after, .. } => *retry_after,
            _ => None,
        }
    }
}

/// What an endpoint answered.
#[derive(Debug)]
pub(super) struct Answered {
    pub(super) status: StatusCode,
    /// The begin of the answer.
    pub(super) body: Vec<u8>,
}

/// Where calls of a webhook go, and what signs them.
#[derive(Debug)]
pub(super) struct Target {
    url: Url,
    key: SigningKey,
}

impl Target {
    /// The target of `webhook` at present.
    ///
    /// # Errors
    /// Its URL may not be called: `outgoing.allowed_networks` was changed since.
    pub(super) fn of(webhook: &Webhook, outgoing: &Outgoing) -> Result<Self, String> {
        let url = outgoing.url(&webhook.url).map_err(|refused| format!("the url {refused}"))?;
        let key = webhook.secrets.key(unix_millis()).ok_or("its stored secret is none: rotate it")?;
        Ok(Self { url, key })
    }

    /// Posts `body` under `id`, for at most `timeout`.
    ///
    /// # Errors
    /// [`CallError`]
    pub(super) async fn post(
        &self,
        outgoing: &Outgoing,
        (id, body): (&str, Bytes),
        timeout: Duration,
    ) -> Result<Answered, CallError> {
        let until = Instant::now() + timeout;
        let sent = timeout_at(until, self.send(outgoing, (id, body)));
        let response = sent.await.unwrap_or(Err(CallError::Timeout(timeout)))?;
        let status = response.status();
        if status.is_redirection() {
            return Err(CallError::Redirect(status));
        }
        let retry_after = pushservice::retry_after(response.headers(), SystemTime::now());
        // The status says it all: if the rest of the answer is late or broken, it does not matter.
        let body = timeout_at(until, read(response)).await.unwrap_or_default();
        if status.is_success() {
            Ok(Answered { status, body })
        } else {
            Err(CallError::Status { status, retry_after })
        }
    }

    async fn send(&self, outgoing: &Outgoing, (id, body): (&str, Bytes)) -> Result<Response, CallError> {
        let mut attempts = 1;
        loop {
            match self.request(outgoing, id, body.clone()).send().await {
                Ok(response) => return Ok(response),
                Err(error) if attempts < ATTEMPTS && error.is_request() && !error.is_connect() => {
                    attempts += 1
                }
                Err(error) => return Err(CallError::Unreachable(error_line(&error.without_url()))),
            }
        }
    }

    fn request(&self, outgoing: &Outgoing, id: &str, body: Bytes) -> RequestBuilder {
        self.key.sign(outgoing.client(&self.url).post(self.url.clone()), id, body)
    }
}

/// The begin of the answer.
async fn read(mut response: Response) -> Vec<u8> {
    let mut body = Vec::new();
    while let Ok(Some(chunk)) = response.chunk().await {
        let room = ANSWER_BYTES_MAX - body.len();
        body.extend_from_slice(&chunk[..chunk.len().min(room)]);
        if chunk.len() >= room {
            break;
        }
    }
    body
}
