//! Errors that clients see: a code and a message.

use serde::Serialize;
use shared::mysql;
use tokio_tungstenite::tungstenite::Utf8Bytes;

use super::cmd::Cmd;
use super::frame::Frame;
use super::name::ConversationName;
use super::retry_delay::RetryDelay;

/// Why a request is refused. The messages are for the author of the client: what is wrong, and how to mend it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ApiError {
    /// 400: the request is malformed.
    Malformed(String),
    /// 401: the request has no valid token or key.
    Unauthenticated(String),
    /// 403: the user has no permission.
    Forbidden(String),
    /// 404: the group, message or call does not exist.
    NotFound(String),
    /// 405, only over HTTP.
    MethodNotAllowed {
        /// The methods that the path allows, for the `Allow` header.
        allowed: &'static str,
    },
    /// 408, only over HTTP: the body did not arrive in time.
    RequestTimeout(String),
    /// 409: the name or message id is taken, or the group is full.
    Conflict(String),
    /// 410, only over HTTP: what was asked for is removed.
    Gone {
        /// For the author of the client.
        message: Box<str>,
        /// The cursor to go on with.
        next_cursor: Box<str>,
    },
    /// 413: the content or body is too long.
    TooLarge(String),
    /// 429: the client exceeds a rate limit.
    RateLimited {
        /// For the author of the client.
        message: String,
        /// Delay before the next attempt, in milliseconds.
        retry_after_ms: u64,
    },
    /// 500: a fault in the server.
    Internal,
    /// 503: overloaded, or a store is unavailable.
    Unavailable {
        /// For the author of the client.
        message: String,
        /// Delay before the next attempt, in milliseconds.
        retry_after_ms: u64,
    },
}

#[derive(Serialize)]
#[serde(untagged)]
enum Payload<'a> {
    Message(&'a str),
    Retry { message: &'a str, retry_after_ms: u64 },
}

impl ApiError {
    /// 503 with a message, and a delay that differs from client to client.
    pub(crate) fn unavailable(message: impl Into<String>, delay: RetryDelay) -> Self {
        Self::Unavailable { message: message.into(), retry_after_ms: delay.random_ms() }
    }

    /// 400 with a message.
    pub fn malformed(message: impl ToString) -> Self {
        Self::Malformed(message.to_string())
    }

    /// The answer to a request whose statement failed: 503 if a retry can succeed, otherwise 500.
    pub(crate) fn database(error: &mysql::Error) -> Self {
        tracing::warn!(%error, "a statement for a request failed");
        if mysql::is_unavailable(error) || mysql::is_lock_conflict(error) {
            return Self::unavailable("the database is unavailable: try again", RetryDelay::StoreUnavailable);
        }
        Self::Internal
    }

    /// The code in a frame, and the status over HTTP.
    #[must_use]
    pub fn code(&self) -> u16 {
        match self {
            Self::Malformed(_) => 400,
            Self::Unauthenticated(_) => 401,
            Self::Forbidden(_) => 403,
            Self::NotFound(_) => 404,
            Self::MethodNotAllowed { .. } => 405,
            Self::RequestTimeout(_) => 408,
            Self::Conflict(_) => 409,
            Self::Gone { .. } => 410,
            Self::TooLarge(_) => 413,
            Self::RateLimited { .. } => 429,
            Self::Internal => 500,
            Self::Unavailable { .. } => 503,
        }
    }

    /// The message without code and retry delay.
    #[must_use]
    pub fn message(&self) -> &str {
        match self {
            Self::Malformed(message)
            | Self::Unauthenticated(message)
            | Self::Forbidden(message)
            | Self::NotFound(message)
            | Self::RequestTimeout(message)
            | Self::Conflict(message)
            | Self::TooLarge(message)
            | Self::RateLimited { message, .. }
            | Self::Unavailable { message, .. } => message,
            Self::Gone { message, .. } => message,
            Self::MethodNotAllowed { .. } => "this path does not take this method: see the Allow header",
            Self::Internal => "internal error: try again, a message with the same msg_id",
        }
    }

    /// The delay before a retry, if a retry can succeed.
    #[must_use]
    pub fn retry_after_ms(&self) -> Option<u64> {
        match self {
            Self::RateLimited { retry_after_ms, .. } | Self::Unavailable { retry_after_ms, .. } => {
                Some(*retry_after_ms)
            }
            _ => None,
        }
    }

    /// Counts it in the metric of refused requests.
    pub fn count(&self) {
        metrics::counter!(shared::metrics::GATEWAY_REFUSED, "code" => code_text(self.code())).increment(1);
    }

    /// The reply to a request, with the fields that identify the request.
    #[must_use]
    pub fn frame(&self, cmd: i64, msg_id: Option<&str>, conversation_id: Option<&str>) -> Utf8Bytes {
        self.count_send(cmd);
        self.render(Frame { msg_id, conversation_id, ..Frame::new(cmd, self.code()) })
    }

    /// The reply to a request about a conversation that is known.
    #[must_use]
    pub fn frame_about(
        &self,
        cmd: i64,
        msg_id: Option<&str>,
        conversation: &ConversationName<'_>,
    ) -> Utf8Bytes {
        self.count_send(cmd);
        self.render(Frame { msg_id, ..Frame::new(cmd, self.code()) }.about(conversation))
    }

    /// Counts it in the metric of refused messages, if the request is one.
    fn count_send(&self, cmd: i64) {
        if cmd == Cmd::CHAT {
            let code = code_text(self.code());
            metrics::counter!(shared::metrics::GATEWAY_SENDS_REFUSED, "code" => code).increment(1);
        }
    }

    fn render<'a>(&'a self, frame: Frame<'a, Payload<'a>>) -> Utf8Bytes {
        self.count();
        let message = self.message();
        let payload = match self.retry_after_ms() {
            Some(retry_after_ms) => Payload::Retry { message, retry_after_ms },
            None => Payload::Message(message),
        };
        Frame { payload: Some(payload), ..frame }.render()
    }
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
        410 => "410",
        413 => "413",
        429 => "429",
        503 => "503",
        _ => "500",
    }
}
