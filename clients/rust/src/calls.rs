//! Calls over HTTP. Limits, codes and meanings are those of the protocol's table of calls.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use form_urlencoded::Serializer;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::backoff::{Backoff, obey};
use crate::dial::Identity;
use crate::error::Error;
use crate::message::Refusal;
use crate::protocol::{Caller, Http};

/// Attempts of one call.
const ATTEMPTS: usize = 4;
/// A delay that the server asks for and that a call waits; beyond it the caller decides.
const LONGEST_WAIT: Duration = Duration::from_secs(10);
/// No call takes the server longer than 5 s.
const TIMEOUT: Duration = Duration::from_secs(15);

/// Calls as the client's user, to the gateway that the client uses. Cheap to clone.
///
/// 429 is repeated after the server's delay, 503 and a lost connection only for `GET`, since other calls may have been
/// done, and 401 once with a new token.
#[derive(Clone)]
pub(crate) struct Calls {
    pub(crate) gateways: Arc<[Http]>,
    pub(crate) gateway: Arc<AtomicUsize>,
    pub(crate) identity: Identity,
}

/// The body of a refusal.
#[derive(Deserialize)]
struct Refused {
    message: String,
    retry_after_ms: Option<u64>,
}

impl Calls {
    /// One call; `path` begins with `/api`.
    pub(crate) async fn call<T: DeserializeOwned>(
        &self,
        method: &str,
        path: &str,
        query: &[(&str, &str)],
        body: Option<&Value>,
    ) -> Result<T, Error> {
        let path = match query {
            [] => path.to_owned(),
            query => format!("{path}?{}", Serializer::new(String::new()).extend_pairs(query).finish()),
        };
        let (mut backoff, mut has_new_token) = (Backoff::default(), false);
        for attempt in 1.. {
            let (status, answer) = match self.once(method, &path, body).await {
                Ok(answered) => answered,
                Err(Error::Unreachable(_)) if method == "GET" && attempt < ATTEMPTS => {
                    tokio::time::sleep(backoff.next()).await;
                    continue;
                }
                Err(error) => return Err(error),
            };
            if status == 200 {
                return serde_json::from_value(answer)
                    .map_err(|error| Error::Unreachable(format!("{method} {path}: {error}")));
            }
            let refused = Refused::deserialize(&answer)
                .unwrap_or_else(|_| Refused { message: format!("status {status}"), retry_after_ms: None });
            let refusal = Refusal { code: status, message: refused.message };
            let delay = refused.retry_after_ms.map(Duration::from_millis);
            let may_repeat = status == 429 || (status == 503 && method == "GET");
            if status == 401 && !has_new_token && self.new_token().await {
                has_new_token = true;
            } else if may_repeat && attempt < ATTEMPTS && delay.is_none_or(|delay| delay <= LONGEST_WAIT) {
                tokio::time::sleep(delay.map_or_else(|| backoff.next(), obey)).await;
            } else {
                return Err(refusal.into());
            }
        }
        Err(Error::Stopped)
    }

    /// Forgets the token, if there is one.
    async fn new_token(&self) -> bool {
        match &self.identity {
            Identity::User(_) => false,
            Identity::Tokens(tokens) => {
                tokens.refused().await;
                true
            }
        }
    }

    async fn once(&self, method: &str, path: &str, body: Option<&Value>) -> Result<(u16, Value), Error> {
        let unreachable = |error: String| Error::Unreachable(format!("{method} {path}: {error}"));
        let caller = match &self.identity {
            Identity::User(user) => Caller::Named(user.clone()),
            Identity::Tokens(tokens) => match tokens.get().await {
                Ok(Some(token)) => Caller::Token(token),
                Ok(None) => return Err(Error::Stopped),
                Err(error) => return Err(unreachable(format!("there is no token: {error}"))),
            },
        };
        let n = self.gateway.load(Ordering::Relaxed) % self.gateways.len().max(1);
        let http = self.gateways.get(n).ok_or(Error::Stopped)?.with_caller(caller);
        match tokio::time::timeout(TIMEOUT, http.call(method, path, body)).await {
            Ok(answered) => answered.map_err(|error| unreachable(error.to_string())),
            Err(_) => Err(unreachable("no answer in time".to_owned())),
        }
    }
}
