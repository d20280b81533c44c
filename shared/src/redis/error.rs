//! Why a command failed.

use crate::config::ConfigError;
use crate::tls::TlsProblem;

/// The reason why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum RedisError {
    /// The address is malformed, or the server is configured in a way that loses counters.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// An error of the server or the connection.
    #[error("Redis: {0}")]
    Redis(#[from] fred::error::Error),
    /// The server was not reachable within the wait at the start.
    #[error("Redis at {url} (redis.url): {source}")]
    Unreachable {
        /// Its address, without credentials.
        url: String,
        /// The last failure.
        source: fred::error::Error,
    },
    /// The TLS handshake fails for a reason that a retry does not remove.
    #[error(transparent)]
    Tls(#[from] TlsProblem),
    /// One of several servers does not answer. Commands for others can succeed.
    #[error("Redis: {0} does not answer")]
    Lost(String),
    /// No server has the slot of the key.
    #[error("Redis: no server has the slot of this key")]
    NoServer,
    /// An answer that came much later than those of other servers.
    #[error("Redis: the server answers later than others")]
    Late,
    /// An answer that the script never returns.
    #[error("Redis: unexpected answer: {0}")]
    Answer(String),
}
