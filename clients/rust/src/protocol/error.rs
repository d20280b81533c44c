//! Errors of connections and calls.

use std::time::Duration;

use serde::Deserialize;
use tokio_tungstenite::tungstenite;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;

/// The connection has ended, with the code and reason of the server's close frame if there was one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the connection has ended: {0:?}")]
pub struct Ended(pub Option<(u16, String)>);

impl From<Option<CloseFrame>> for Ended {
    fn from(frame: Option<CloseFrame>) -> Self {
        Self(frame.map(|frame| (frame.code.into(), frame.reason.to_string())))
    }
}

impl Ended {
    /// The time before the next connection, if the server named one.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        let (_, reason) = self.0.as_ref()?;
        Some(Duration::from_millis(reason.strip_prefix("retry_after_ms=")?.parse().ok()?))
    }
}

/// What went wrong on a connection, or with a call.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The connection has ended.
    #[error(transparent)]
    Ended(#[from] Ended),
    /// The server sent nothing for this long.
    #[error("no frame came within {0:?}")]
    Silent(Duration),
    /// What came is not the protocol.
    #[error("not the protocol: {0}")]
    Malformed(String),
    /// The [`Inspector`](super::Inspector) refused what came.
    #[error("{0}")]
    Rejected(String),
    /// More frames than the limit came without being asked for by the program.
    #[error("{0} frames were set aside")]
    Aside(usize),
    /// The socket failed, which ends the connection.
    #[error("the socket failed: {0}")]
    Socket(#[from] tungstenite::Error),
    /// An HTTP call was not answered.
    #[error("{call}: {source}")]
    Call {
        /// Method and path.
        call: String,
        /// The cause.
        source: reqwest::Error,
    },
    /// The address of an HTTP call is malformed.
    #[error("{0} is no address of a call")]
    Address(String),
}

impl Error {
    /// The end of the connection, if it is that.
    ///
    /// # Errors
    /// This error, if it is another one.
    pub fn into_ended(self) -> Result<Ended, Self> {
        match self {
            Self::Ended(ended) => Ok(ended),
            Self::Socket(_) => Ok(Ended(None)),
            other => Err(other),
        }
    }

    /// The time before the next connection, if the server named one.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Ended(ended) => ended.retry_after(),
            _ => None,
        }
    }
}

/// Why there is no WebSocket.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// There is no token to connect with.
    #[error("no token: {0:#}")]
    Token(Box<dyn std::error::Error + Send + Sync>),
    /// The gateway answered the upgrade with another status than 101.
    #[error("the gateway refused the connection with {status}: {message}")]
    Refused {
        /// HTTP status.
        status: u16,
        /// The gateway's sentence.
        message: String,
        /// The time before the next attempt, if the gateway named one.
        retry_after: Option<Duration>,
    },
    /// The network failed.
    #[error(transparent)]
    Network(tungstenite::Error),
    /// There are no certificates to verify the server's with.
    #[error(transparent)]
    Tls(#[from] rustls::Error),
}

/// The body of a refused upgrade.
#[derive(Deserialize)]
struct Refusal {
    message: String,
    retry_after_ms: Option<u64>,
}

impl From<tungstenite::Error> for ConnectError {
    fn from(error: tungstenite::Error) -> Self {
        let tungstenite::Error::Http(response) = error else { return Self::Network(error) };
        let body = response.body().as_deref().unwrap_or_default();
        let refusal = serde_json::from_slice(body)
            .unwrap_or_else(|_| Refusal { message: "without a reason".to_owned(), retry_after_ms: None });
        let Refusal { message, retry_after_ms } = refusal;
        let retry_after = retry_after_ms.map(Duration::from_millis);
        Self::Refused { status: response.status().as_u16(), message, retry_after }
    }
}

impl From<std::io::Error> for ConnectError {
    fn from(error: std::io::Error) -> Self {
        Self::Network(error.into())
    }
}

impl ConnectError {
    /// Whether every further attempt will fail too: the user or its token is not accepted.
    #[must_use]
    pub fn is_final(&self) -> bool {
        matches!(self, Self::Refused { status: 400..=404, .. })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_refusals_of_the_user_are_final() {
        let refused = |status| ConnectError::Refused { status, message: String::new(), retry_after: None };
        for (error, is_final) in [
            (refused(401), true),
            (refused(403), true),
            (refused(404), true),
            (refused(429), false),
            (refused(503), false),
            (ConnectError::Network(tungstenite::Error::ConnectionClosed), false),
        ] {
            assert_eq!(error.is_final(), is_final, "{error}");
        }
    }

    #[test]
    fn the_reason_of_a_close_frame_may_name_a_delay() {
        let ended = |reason: &str| Ended(Some((1012, reason.to_owned())));
        assert_eq!(ended("retry_after_ms=250").retry_after(), Some(Duration::from_millis(250)));
        assert_eq!(ended("going away").retry_after(), None);
        assert_eq!(Ended(None).retry_after(), None);
    }
}
