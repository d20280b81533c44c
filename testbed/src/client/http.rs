//! HTTP calls of a test.

use std::time::Duration;

use im_client::protocol::{self, Caller};
use serde_json::Value;
use tokio::time::Instant;

use super::conformance::INSPECTOR;
use super::trust::http_client;

/// How long a call is repeated after 429 and 503.
const REPEATED_FOR: Duration = Duration::from_secs(60);
/// Pause before a call is repeated whose refusal names no time.
const RETRY_DEFAULT_MS: u64 = 1_000;

/// Calls a gateway's HTTP interface; answers are checked against `docs/api`. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Http(protocol::Http);

impl Http {
    /// Calls at `base` (`http://host:port`) as `user`, to a gateway that believes that.
    #[must_use]
    pub fn of_user(base: &str, user: &str) -> Self {
        Self::new(base, Caller::Named(user.to_owned()))
    }

    /// Calls as the operator with this key.
    #[must_use]
    pub fn of_operator(base: &str, key: &str) -> Self {
        Self::new(base, Caller::Operator { key: key.to_owned(), user: None })
    }

    /// Calls without saying who calls.
    #[must_use]
    pub fn of_nobody(base: &str) -> Self {
        Self::new(base, Caller::Nobody)
    }

    /// Calls at `base` (`http://host:port`) as `caller`.
    #[must_use]
    pub fn new(base: &str, caller: Caller) -> Self {
        let client = http_client();
        Self(protocol::Http::with_client(client, base, caller).with_inspector(INSPECTOR))
    }

    /// The same connections for another caller.
    #[must_use]
    pub fn with_caller(&self, caller: Caller) -> Self {
        Self(self.0.with_caller(caller))
    }

    /// One call. `path` begins with `/api` and may have a query string. Returns the status and the JSON body.
    ///
    /// # Errors
    /// If there is no answer, or one that is no JSON.
    pub async fn call(&self, method: &str, path: &str, body: Option<&Value>) -> anyhow::Result<(u16, Value)> {
        Ok(self.0.call(method, path, body).await?)
    }

    /// A call that must succeed.
    ///
    /// # Errors
    /// If it does not.
    pub async fn ok(&self, method: &str, path: &str, body: Option<Value>) -> anyhow::Result<Value> {
        let (status, answer) = self.call(method, path, body.as_ref()).await?;
        anyhow::ensure!(status == 200, "{method} {path}: {status} {answer}");
        Ok(answer)
    }

    /// A call that is repeated after 429 and 503 when the gateway says so, for a minute at most. Returns the final status
    /// and body, and whether a 503 came before: then the call may have been done twice.
    ///
    /// # Errors
    /// As [`call`](Self::call).
    pub async fn call_when_allowed(
        &self,
        method: &str,
        path: &str,
        body: &Value,
    ) -> anyhow::Result<(u16, Value, bool)> {
        let until = Instant::now() + REPEATED_FOR;
        let mut uncertain = false;
        loop {
            let (status, answer) = self.call(method, path, Some(body)).await?;
            if !matches!(status, 429 | 503) || Instant::now() > until {
                return Ok((status, answer, uncertain));
            }
            uncertain |= status == 503;
            let wait = answer["retry_after_ms"].as_u64().unwrap_or(RETRY_DEFAULT_MS);
            tokio::time::sleep(Duration::from_millis(wait)).await;
        }
    }

    /// The same for a call that must succeed.
    ///
    /// # Errors
    /// If it does not.
    pub async fn ok_when_allowed(&self, method: &str, path: &str, body: Value) -> anyhow::Result<Value> {
        let (status, answer, _) = self.call_when_allowed(method, path, &body).await?;
        anyhow::ensure!(status == 200, "{method} {path}: {status} {answer}");
        Ok(answer)
    }

    /// The status of a call that is to fail.
    ///
    /// # Errors
    /// If there is no answer.
    pub async fn refused(&self, method: &str, path: &str, body: Option<Value>) -> anyhow::Result<u16> {
        let (status, answer) = self.call(method, path, body.as_ref()).await?;
        anyhow::ensure!(status != 200, "{method} {path} was done: {answer}");
        anyhow::ensure!(answer["code"] == status && answer["message"].is_string(), "no error: {answer}");
        Ok(status)
    }
}
