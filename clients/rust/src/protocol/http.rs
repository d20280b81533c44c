//! HTTP calls of one user, or of the operator.

use serde_json::Value;

use super::error::Error;
use super::inspect::{Exchange, Inspector, Received};

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
    inspector: Option<Inspector>,
}

/// The address of HTTP calls, `http://host:port`, of a gateway (`ws://host:port/ws`); with `https` for `wss`.
#[must_use]
pub fn http_base(gateway: &str) -> String {
    let (scheme, address) = match gateway.split_once("://") {
        Some(("wss" | "https", address)) => ("https", address),
        Some((_, address)) => ("http", address),
        None => ("http", gateway),
    };
    format!("{scheme}://{}", address.split('/').next().unwrap_or_default())
}

impl Http {
    /// Calls at `base` (`http://host:port`) as `caller`, with the operating system's rules for certificates.
    ///
    /// # Panics
    /// If these cannot be read. [`with_client`](Self::with_client) reports that before.
    #[must_use]
    pub fn new(base: &str, caller: Caller) -> Self {
        Self::with_client(reqwest::Client::new(), base, caller)
    }

    /// The same with a client that has settings of its own, such as certificates.
    #[must_use]
    pub fn with_client(client: reqwest::Client, base: &str, caller: Caller) -> Self {
        Self { client, base: base.to_owned(), caller, inspector: None }
    }

    /// Shows each answer to `inspector` before it is parsed.
    #[must_use]
    pub fn with_inspector(self, inspector: Option<Inspector>) -> Self {
        Self { inspector, ..self }
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
    pub async fn call(&self, method: &str, path: &str, body: Option<&Value>) -> Result<(u16, Value), Error> {
        let call = || format!("{method} {path}");
        let failed = |source| Error::Call { call: call(), source };
        let response = self.request(method, path, body)?.send().await.map_err(failed)?;
        let status = response.status().as_u16();
        // As it was sent: the client folds the segments `.` and `..`.
        let sent = response.url().to_string();
        let content_type = response.headers().get("content-type").cloned();
        let text = response.text().await.map_err(failed)?;
        if let Some(inspector) = self.inspector {
            let content_type = content_type.as_ref().and_then(|kind| kind.to_str().ok());
            let path = sent.strip_prefix(&self.base).unwrap_or(path);
            let exchange = Exchange { method, path, request: body, status, content_type, body: &text };
            inspector(&Received::Answer(exchange)).map_err(Error::Rejected)?;
        }
        let body =
            serde_json::from_str(&text).map_err(|_| Error::Malformed(format!("{}: {text}", call())))?;
        Ok((status, body))
    }

    fn request(
        &self,
        method: &str,
        path: &str,
        body: Option<&Value>,
    ) -> Result<reqwest::RequestBuilder, Error> {
        let address = || Error::Address(format!("{method} {}{path}", self.base));
        let mut url: reqwest::Url = format!("{}{path}", self.base).parse().map_err(|_| address())?;
        if let Caller::Named(user) = &self.caller {
            url.query_pairs_mut().append_pair("user_id", user);
        }
        let mut request = self.client.request(method.parse().map_err(|_| address())?, url);
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
        Ok(match body {
            Some(body) => request.json(body),
            None => request,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn http_calls_go_to_the_host_and_port_of_the_web_socket() {
        assert_eq!(http_base("ws://chat.example:8080/ws"), "http://chat.example:8080");
        assert_eq!(http_base("ws://127.0.0.1:8080"), "http://127.0.0.1:8080");
        assert_eq!(http_base("wss://chat.example/ws"), "https://chat.example");
    }
}
