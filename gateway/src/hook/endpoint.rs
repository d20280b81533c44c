//! One call of the endpoint: a signed POST, and its answer within limits.

use std::time::Duration;

use bytes::Bytes;
use reqwest::header::USER_AGENT;
use reqwest::{Client, StatusCode, Url, redirect};
use shared::config::ConfigError;
use shared::error_text::error_line;
use shared::webhook_signature::SigningKey;
use tokio::time::{Instant, timeout_at};
use uuid::Uuid;

use crate::config;
use crate::wire::hook::Answer;

/// Longest answer: the largest content and `meta`, all escaped, and as much again.
const ANSWER_BYTES_MAX: usize = 64 * 1024;
/// A connection that was not used for this long is not used again: many servers close theirs after 5 s, and a request on a
/// connection that closes fails.
const IDLE_TIMEOUT: Duration = Duration::from_secs(4);
/// Attempts of one call. The second one is for a connection that the endpoint closed meanwhile.
const ATTEMPTS: usize = 2;

/// Why a call has no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum CallError {
    #[error("it did not answer in time")]
    Timeout,
    #[error("{0}")]
    Unreachable(String),
    #[error("it answered with the status {0}, and not with 200")]
    Status(StatusCode),
    #[error("its answer has over 65536 bytes")]
    TooLong,
    #[error("its answer is not understood")]
    Malformed,
}

impl CallError {
    /// The value of the label `outcome`.
    pub(super) fn outcome(&self) -> &'static str {
        match self {
            Self::Timeout => "timeout",
            Self::Unreachable(_) => "unreachable",
            Self::Status(_) => "status",
            Self::TooLong | Self::Malformed => "malformed",
        }
    }

    fn of(error: reqwest::Error) -> Self {
        Self::Unreachable(error_line(&error.without_url()))
    }
}

/// The endpoint of the app.
#[derive(Debug)]
pub(super) struct Endpoint {
    client: Client,
    url: Url,
    key: SigningKey,
}

impl Endpoint {
    /// The endpoint of a configuration that was checked.
    ///
    /// # Errors
    /// A file was changed since, or TLS cannot be set up.
    pub(super) fn new(config: &config::Hook) -> Result<Self, ConfigError> {
        let unusable = |error: &dyn std::error::Error| ConfigError::key("hook.url", error_line(error));
        let url = Url::parse(&config.url).map_err(|error| unusable(&error))?;
        let key = SigningKey::parse(config.secret.expose())
            .map_err(|error| ConfigError::key("hook.secret", error))?;
        let client = Client::builder()
            .no_proxy()
            .redirect(redirect::Policy::none())
            .pool_idle_timeout(IDLE_TIMEOUT)
            .pool_max_idle_per_host(config.calls_at_once)
            .tls_certs_merge(config.authorities()?)
            .build()
            .map_err(|error| unusable(&error))?;
        Ok(Self { client, url, key })
    }

    /// Posts `body`, and reads the answer until `until`.
    ///
    /// # Errors
    /// [`CallError`]
    pub(super) async fn call(&self, body: Bytes, until: Instant) -> Result<Answer, CallError> {
        timeout_at(until, self.post(body)).await.unwrap_or(Err(CallError::Timeout))
    }

    async fn post(&self, body: Bytes) -> Result<Answer, CallError> {
        // Another one for each call: a receiver that remembers its decision by this id decides about this message only.
        let id = format!("msg_{}", Uuid::now_v7().simple());
        let mut attempts = 1;
        let response = loop {
            match self.request(&id, body.clone()).send().await {
                Ok(response) => break response,
                Err(error) if attempts < ATTEMPTS && !error.is_connect() && !error.is_timeout() => {
                    attempts += 1
                }
                Err(error) => return Err(CallError::of(error)),
            }
        };
        if response.status() != StatusCode::OK {
            return Err(CallError::Status(response.status()));
        }
        Answer::parse(&read(response).await?).ok_or(CallError::Malformed)
    }

    fn request(&self, id: &str, body: Bytes) -> reqwest::RequestBuilder {
        let request = self
            .client
            .post(self.url.clone())
            .header(USER_AGENT, concat!("im-gateway/", env!("CARGO_PKG_VERSION")));
        self.key.sign(request, id, body)
    }
}

/// The body of a response, if it is not too long.
async fn read(mut response: reqwest::Response) -> Result<Vec<u8>, CallError> {
    let max = ANSWER_BYTES_MAX as u64;
    if response.content_length().is_some_and(|length| length > max) {
        return Err(CallError::TooLong);
    }
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(CallError::of)? {
        if body.len() + chunk.len() > ANSWER_BYTES_MAX {
            return Err(CallError::TooLong);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

#[cfg(test)]
mod tests;
