//! HTTP calls of one user, or of the operator.

use anyhow::Context as _;
use serde_json::Value;

/// Calls a gateway's HTTP interface. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Http {
    client: reqwest::Client,
    base: String,
    user: Option<String>,
    key: Option<String>,
}

impl Http {
    /// Calls at `base` (`http://host:port`) as `user`, to a gateway that believes that.
    #[must_use]
    pub fn of_user(base: &str, user: &str) -> Self {
        Self { user: Some(user.to_owned()), ..Self::new(base) }
    }

    /// Calls as the operator with this key.
    #[must_use]
    pub fn of_operator(base: &str, key: &str) -> Self {
        Self { key: Some(key.to_owned()), ..Self::new(base) }
    }

    /// Calls without saying who calls.
    #[must_use]
    pub fn of_nobody(base: &str) -> Self {
        Self::new(base)
    }

    fn new(base: &str) -> Self {
        Self { client: reqwest::Client::new(), base: base.to_owned(), user: None, key: None }
    }

    /// One call. `path` begins with `/api` and may have a query string. Returns the status and the JSON body.
    ///
    /// # Errors
    /// If there is no answer, or one that is no JSON.
    pub async fn call(&self, method: &str, path: &str, body: Option<&Value>) -> anyhow::Result<(u16, Value)> {
        let mut url = format!("{}{path}", self.base);
        if let Some(user) = &self.user {
            let joint = if path.contains('?') { '&' } else { '?' };
            url = format!("{url}{joint}user_id={user}");
        }
        let mut request = self.client.request(method.parse()?, &url);
        if let Some(key) = &self.key {
            request = request.header("x-api-key", key);
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        let response = request.send().await.with_context(|| format!("{method} {path}"))?;
        let status = response.status().as_u16();
        let text = response.text().await?;
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
