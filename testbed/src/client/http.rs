//! HTTP calls of one user, or of the operator.

use std::time::Duration;

use anyhow::Context as _;
use serde_json::Value;
use tokio::time::Instant;

use super::conformance::{self, Called};

/// How long a call is repeated after 429 and 503.
const REPEATED_FOR: Duration = Duration::from_secs(60);
/// Pause before a call is repeated whose refusal names no time.
const RETRY_DEFAULT_MS: u64 = 1_000;

/// Who calls.
#[derive(Debug, Clone)]
pub enum Caller {
    /// Nobody.
    Nobody,
    /// This user, for gateways that accept a name without a token.
    Named(String),
    /// The user of this token.
    Token(String),
    /// The operator, for a user if one is given.
    Operator {
        /// The operator's key.
        key: String,
        /// The user that the call is made for.
        user: Option<String>,
    },
}

/// Calls a gateway's HTTP interface. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Http {
    client: reqwest::Client,
    base: String,
    caller: Caller,
}

/// The address of HTTP calls, `http://host:port`, of a gateway (`ws://host:port/ws`).
#[must_use]
pub fn http_base(gateway: &str) -> String {
    let address = gateway.strip_prefix("ws://").unwrap_or(gateway);
    format!("http://{}", address.split('/').next().unwrap_or_default())
}

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
        Self { client: reqwest::Client::new(), base: base.to_owned(), caller }
    }

    /// The same connections for another caller.
    #[must_use]
    pub fn with_caller(&self, caller: Caller) -> Self {
        Self { caller, ..self.clone() }
    }

    /// One call. `path` begins with `/api` and may have a query string. Returns the status and the JSON body.
    ///
    /// # Errors
    /// If there is no answer, or one that is no JSON.
    pub async fn call(&self, method: &str, path: &str, body: Option<&Value>) -> anyhow::Result<(u16, Value)> {
        let mut url: reqwest::Url = format!("{}{path}", self.base).parse()?;
        if let Caller::Named(user) = &self.caller {
            url.query_pairs_mut().append_pair("user_id", user);
        }
        let mut request = self.client.request(method.parse()?, url);
        match &self.caller {
            Caller::Nobody | Caller::Named(_) => {}
            Caller::Token(token) => request = request.bearer_auth(token),
            Caller::Operator { key, user } => {
                request = request.header("x-api-key", key);
                if let Some(user) = user {
                    request = request.header("x-user-id", user.as_bytes());
                }
            }
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        let response = request.send().await.with_context(|| format!("{method} {path}"))?;
        let status = response.status().as_u16();
        // As it was sent: the client folds the segments `.` and `..`.
        let sent = response.url().to_string();
        let content_type = response.headers().get("content-type").cloned();
        let text = response.text().await?;
        let content_type = content_type.as_ref().and_then(|kind| kind.to_str().ok());
        conformance::check_call(&Called {
            method,
            path: sent.strip_prefix(&self.base).unwrap_or(path),
            request: body,
            status,
            content_type,
            body: &text,
        })?;
        let body = serde_json::from_str(&text).with_context(|| format!("{method} {path}: {text}"))?;
        Ok((status, body))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn http_calls_go_to_the_host_and_port_of_the_web_socket() {
        assert_eq!(http_base("ws://chat.example:8080/ws"), "http://chat.example:8080");
        assert_eq!(http_base("ws://127.0.0.1:8080"), "http://127.0.0.1:8080");
    }
}
