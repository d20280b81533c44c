//! One attempt to connect and to log in.

use std::time::Duration;

use form_urlencoded::Serializer;
use serde::Deserialize as _;
use serde_json::json;

use crate::closing::{AfterClose, after_close};
use crate::core::Login;
use crate::message::Refusal;
use crate::protocol::{ConnectError, Connection, Error, Packet, Tls, http_base, websocket};
use crate::tokens::Tokens;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);

/// How a client proves who it is.
#[derive(Clone)]
pub(crate) enum Identity {
    /// For servers that believe a name.
    User(String),
    Tokens(Tokens),
}

/// Everything that an attempt needs. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Dialer {
    pub(crate) identity: Identity,
    pub(crate) device_id: String,
    pub(crate) tls: Option<Tls>,
}

/// A connection that is logged in.
pub(crate) struct Dialed {
    pub(crate) connection: Connection,
    pub(crate) login: Login,
}

/// Why a connection has ended, or was never there.
#[derive(Debug)]
pub(crate) struct Lost {
    pub(crate) then: AfterClose,
    pub(crate) reason: Refusal,
    /// The provider of tokens failed.
    pub(crate) trouble: Option<String>,
}

impl Lost {
    pub(crate) fn new(then: AfterClose, code: u16, message: impl Into<String>) -> Self {
        Self { then, reason: Refusal { code, message: message.into() }, trouble: None }
    }

    /// From an error of the connection.
    pub(crate) fn of(error: Error) -> Self {
        match error.into_ended() {
            Ok(ended) => {
                let then = after_close(&ended);
                let (code, message) =
                    ended.0.unwrap_or_else(|| (0, "the connection ended without a close frame".to_owned()));
                Self::new(then, code, message)
            }
            Err(error) => Self::new(AfterClose::Backoff, 0, error.to_string()),
        }
    }
}

impl From<ConnectError> for Lost {
    fn from(error: ConnectError) -> Self {
        let sentence = error.to_string();
        match error {
            ConnectError::Refused { status: 401, message, .. } => Self::new(AfterClose::Token, 401, message),
            ConnectError::Refused { status: status @ 400..=404, message, .. } => {
                Self::new(AfterClose::Stop, status, message)
            }
            ConnectError::Refused { status, message, retry_after } => {
                Self::new(retry_after.map_or(AfterClose::Backoff, AfterClose::Wait), status, message)
            }
            _ => Self::new(AfterClose::Backoff, 0, sentence),
        }
    }
}

/// The address of the WebSocket: `wss://chat.example/ws` for `https://chat.example`.
fn socket_url(gateway: &str, query: &[(&str, &str)]) -> String {
    let base = http_base(gateway).replacen("http", "ws", 1);
    if query.is_empty() {
        return format!("{base}/ws");
    }
    let query = Serializer::new(String::new()).extend_pairs(query).finish();
    format!("{base}/ws?{query}")
}

impl Dialer {
    /// Connects to a gateway and logs in.
    ///
    /// # Errors
    /// Why there is no connection, and what to do about it.
    pub(crate) async fn dial(self, gateway: String) -> Result<Dialed, Lost> {
        let token = match &self.identity {
            Identity::User(_) => None,
            Identity::Tokens(tokens) => Some(token(tokens).await?),
        };
        let dialed = tokio::time::timeout(CONNECT_TIMEOUT, self.open(&gateway, token.as_deref())).await;
        dialed.unwrap_or_else(|_| Err(Lost::new(AfterClose::Backoff, 0, "connecting took too long")))
    }

    async fn open(&self, gateway: &str, token: Option<&str>) -> Result<Dialed, Lost> {
        let device = self.device_id.as_str();
        let (url, cmd, frame) = match (&self.identity, token) {
            (Identity::User(user), _) => {
                let query = [("user_id", user.as_str()), ("device_id", device)];
                (socket_url(gateway, &query), 0, json!({"cmd": 0}))
            }
            // In the first frame, since addresses appear in logs.
            (Identity::Tokens(_), token) => {
                let payload = json!({"token": token, "device_id": device});
                (socket_url(gateway, &[]), 1, json!({"cmd": 1, "payload": payload}))
            }
        };
        let mut connection = Connection::new(websocket(&url, None, self.tls.as_ref()).await?);
        let reply = connection.request(cmd, frame.to_string()).await.map_err(Lost::of)?;
        if reply.code != 0 {
            return Err(refused(&reply));
        }
        let login = Login::deserialize(&reply.payload).unwrap_or_default();
        Ok(Dialed { connection, login })
    }
}

fn refused(reply: &Packet) -> Lost {
    let Refusal { code, message } = Refusal::of(reply.code, &reply.payload);
    let after = reply.retry_after_ms().map(Duration::from_millis);
    let then = match (code, after) {
        (401, _) => AfterClose::Token,
        (_, Some(after)) => AfterClose::Wait(after),
        _ => AfterClose::Backoff,
    };
    Lost::new(then, code, message)
}

async fn token(tokens: &Tokens) -> Result<String, Lost> {
    match tokens.get().await {
        Ok(Some(token)) => Ok(token),
        Ok(None) => Err(Lost::new(AfterClose::Stop, 401, "the token provider ended the session")),
        Err(error) => {
            let trouble = Some(format!("the token provider failed: {error}"));
            Err(Lost { trouble, ..Lost::new(AfterClose::Backoff, 0, "there is no token") })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_pages_and_of_sockets_are_understood() {
        assert_eq!(socket_url("https://chat.example", &[]), "wss://chat.example/ws");
        assert_eq!(socket_url("wss://chat.example/ws", &[]), "wss://chat.example/ws");
        let query = [("user_id", "a&b"), ("device_id", "phone 1")];
        assert_eq!(
            socket_url("ws://[::1]:8080", &query),
            "ws://[::1]:8080/ws?user_id=a%26b&device_id=phone+1"
        );
    }

    #[test]
    fn a_refused_upgrade_says_what_to_do() {
        let refused = |status, retry_after| {
            Lost::from(ConnectError::Refused { status, message: String::new(), retry_after }).then
        };
        let after = Duration::from_secs(2);
        assert_eq!(refused(401, None), AfterClose::Token);
        assert_eq!(refused(403, None), AfterClose::Stop);
        assert_eq!(refused(503, Some(after)), AfterClose::Wait(after));
        assert_eq!(refused(502, None), AfterClose::Backoff);
    }
}
