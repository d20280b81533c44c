//! The one place where an error becomes a code and a sentence.

use serde::Serialize;
use shared::mysql;
use tokio_tungstenite::tungstenite::Utf8Bytes;

use super::frame::Frame;

/// Why a request was not done. The texts are for the client's author: what was wrong, and how to mend it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// 400
    Malformed(String),
    /// 401
    NotLoggedIn(String),
    /// 403
    Forbidden(String),
    /// 404
    NotFound(String),
    /// 405, over HTTP only
    WrongMethod {
        /// The methods that the path takes.
        allowed: &'static str,
    },
    /// 408, over HTTP only
    TooSlow(String),
    /// 409, over HTTP only
    Conflict(String),
    /// 413
    TooLarge(String),
    /// 429
    RateLimited {
        /// As above.
        message: String,
        /// When to try again.
        retry_after_ms: u64,
    },
    /// 500
    Fault,
    /// 503
    Overloaded {
        /// As above.
        message: String,
        /// When to try again.
        retry_after_ms: u64,
    },
}

#[derive(Serialize)]
#[serde(untagged)]
enum Payload<'a> {
    Sentence(&'a str),
    Later { message: &'a str, retry_after_ms: u64 },
}

impl Refusal {
    /// 400 with a sentence.
    pub fn malformed(message: impl ToString) -> Self {
        Self::Malformed(message.to_string())
    }

    /// The protocol's number for it.
    #[must_use]
    pub fn code(&self) -> u16 {
        match self {
            Self::Malformed(_) => 400,
            Self::NotLoggedIn(_) => 401,
            Self::Forbidden(_) => 403,
            Self::NotFound(_) => 404,
            Self::WrongMethod { .. } => 405,
            Self::TooSlow(_) => 408,
            Self::Conflict(_) => 409,
            Self::TooLarge(_) => 413,
            Self::RateLimited { .. } => 429,
            Self::Fault => 500,
            Self::Overloaded { .. } => 503,
        }
    }

    /// The sentence alone.
    #[must_use]
    pub fn message(&self) -> &str {
        match self {
            Self::Malformed(message)
            | Self::NotLoggedIn(message)
            | Self::Forbidden(message)
            | Self::NotFound(message)
            | Self::TooSlow(message)
            | Self::Conflict(message)
            | Self::TooLarge(message)
            | Self::RateLimited { message, .. }
            | Self::Overloaded { message, .. } => message,
            Self::WrongMethod { .. } => "this path does not take this method: see the Allow header",
            Self::Fault => "something went wrong in the server: try again (a message with the same msg_id)",
        }
    }

    /// When to try again, where that helps.
    #[must_use]
    pub fn retry_after_ms(&self) -> Option<u64> {
        match self {
            Self::RateLimited { retry_after_ms, .. } | Self::Overloaded { retry_after_ms, .. } => {
                Some(*retry_after_ms)
            }
            _ => None,
        }
    }

    /// Counts it among the requests that were refused.
    pub fn count(&self) {
        metrics::counter!(shared::metrics::GATEWAY_REFUSED, "code" => code_text(self.code())).increment(1);
    }

    /// The answer to a request, with what identifies it.
    #[must_use]
    pub fn frame(&self, cmd: i64, msg_id: Option<&str>, conversation_id: Option<&str>) -> Utf8Bytes {
        self.count();
        let message = self.message();
        let payload = match self.retry_after_ms() {
            Some(retry_after_ms) => Payload::Later { message, retry_after_ms },
            None => Payload::Sentence(message),
        };
        Frame { msg_id, conversation_id, payload: Some(payload), ..Frame::new(cmd, self.code()) }.render()
    }
}

/// The refusal of a request whose statement failed: 503 if that passes, otherwise 500.
pub(crate) fn database_away(error: &mysql::Error) -> Refusal {
    tracing::warn!(%error, "a statement failed");
    if mysql::is_unavailable(error) || mysql::is_lock_conflict(error) {
        let message = "the database is away: try again".to_owned();
        return Refusal::Overloaded {
            message,
            retry_after_ms: rand::RngExt::random_range(&mut rand::rng(), 500..=2_000),
        };
    }
    Refusal::Fault
}

fn code_text(code: u16) -> &'static str {
    match code {
        400 => "400",
        401 => "401",
        403 => "403",
        404 => "404",
        405 => "405",
        408 => "408",
        409 => "409",
        413 => "413",
        429 => "429",
        503 => "503",
        _ => "500",
    }
}
