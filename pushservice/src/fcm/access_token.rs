//! Access tokens by the grant of RFC 7523, as Google's servers give them to service accounts.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use reqwest::Client;
use reqwest::header::CONTENT_TYPE;
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;

use super::account::ServiceAccount;
use crate::clock::unix_s;
use crate::outcome::Outcome;
use crate::response::{Response, call};

const SCOPE: &str = "https://www.googleapis.com/auth/firebase.messaging";
const GRANT_TYPE: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";
/// Validity of an assertion, the longest that Google accepts.
const ASSERTION_VALID_S: u64 = 3_600;
/// A token is replaced when it is valid for less than this.
const REMAINING_S_MIN: u64 = 300;

#[derive(Debug, Serialize)]
struct Claims<'a> {
    iss: &'a str,
    scope: &'a str,
    aud: &'a str,
    iat: u64,
    exp: u64,
}

#[derive(Deserialize)]
struct Granted {
    access_token: String,
    expires_in: u64,
}

#[derive(Debug, Clone)]
struct Token {
    value: Arc<str>,
    expires_s: u64,
}

#[derive(Default)]
struct State {
    token: Option<Token>,
    /// The end of the last attempt, if it failed.
    failure: Option<Outcome>,
}

/// The access token of an account. One request at a time fetches a new one, and all that wait meanwhile share its result:
/// also a failure, so that a token server that does not answer costs each message one timeout at most.
pub(super) struct AccessTokens {
    account: ServiceAccount,
    key: EncodingKey,
    state: Mutex<State>,
    attempts: AtomicU64,
}

impl fmt::Debug for AccessTokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AccessTokens")
    }
}

impl AccessTokens {
    pub(super) fn new(account: ServiceAccount, key: EncodingKey) -> Self {
        Self { account, key, state: Mutex::default(), attempts: AtomicU64::new(0) }
    }

    pub(super) fn account(&self) -> &ServiceAccount {
        &self.account
    }

    /// A token other than `refused`, which FCM did not accept.
    ///
    /// # Errors
    /// The outcome of a message without a token.
    pub(super) async fn get(
        &self,
        client: &Client,
        refused: Option<&Arc<str>>,
        timeout: Duration,
    ) -> Result<Arc<str>, Outcome> {
        let seen = self.attempts.load(Ordering::Acquire);
        let mut state = self.state.lock().await;
        if let Some(token) = &state.token
            && token.expires_s > unix_s() + REMAINING_S_MIN
            && refused != Some(&token.value)
        {
            return Ok(Arc::clone(&token.value));
        }
        let attempts = self.attempts.load(Ordering::Acquire);
        if let (true, Some(failure)) = (attempts > seen, &state.failure) {
            return Err(failure.clone());
        }
        let fetched = self.fetch(client, timeout).await;
        self.attempts.fetch_add(1, Ordering::Release);
        state.failure = fetched.as_ref().err().cloned();
        let token = fetched?;
        let value = Arc::clone(&token.value);
        state.token = Some(token);
        Ok(value)
    }

    /// Posts an assertion (RFC 7523 §2.1; <https://developers.google.com/identity/protocols/oauth2/service-account>).
    async fn fetch(&self, client: &Client, timeout: Duration) -> Result<Token, Outcome> {
        let now_s = unix_s();
        let assertion = self.assertion(now_s).map_err(|error| {
            Outcome::Rejected(format!("the key of push.fcm_service_account_file cannot sign: {error}"))
        })?;
        let request = client
            .post(&self.account.token_uri)
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(form(&assertion));
        let response = call(request, timeout).await?;
        if !response.status.is_success() {
            return Err(refused(&response));
        }
        let granted: Granted = serde_json::from_slice(&response.body)
            .map_err(|_| Outcome::retry("the token server of FCM gave an answer without a token"))?;
        Ok(Token { value: granted.access_token.into(), expires_s: now_s.saturating_add(granted.expires_in) })
    }

    fn assertion(&self, now_s: u64) -> jsonwebtoken::errors::Result<String> {
        let header =
            Header { kid: Some(self.account.private_key_id.clone()), ..Header::new(Algorithm::RS256) };
        let claims = Claims {
            iss: &self.account.client_email,
            scope: SCOPE,
            aud: &self.account.token_uri,
            iat: now_s,
            exp: now_s + ASSERTION_VALID_S,
        };
        jsonwebtoken::encode(&header, &claims, &self.key)
    }
}

/// The body of a request for a token.
fn form(assertion: &str) -> String {
    let mut form = form_urlencoded::Serializer::new(String::new());
    form.append_pair("grant_type", GRANT_TYPE).append_pair("assertion", assertion);
    form.finish()
}

/// The outcome of a message if the token server refuses.
fn refused(response: &Response) -> Outcome {
    match response.status.as_u16() {
        408 | 429 | 500..=599 => response.retry(),
        _ => Outcome::Rejected(format!(
            "{}: the token server does not accept the account of push.fcm_service_account_file; check that its key was not \
             deleted, and this machine's clock",
            response.reason()
        )),
    }
}
