//! The reasons for which the gateway closes a connection, with their close codes.

use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

use super::api_error::ApiError;

/// Longest reason of a close frame, in bytes (RFC 6455, section 5.5).
const REASON_BYTES_MAX: usize = 123;

/// Why the gateway closes a connection. docs/protocol.md says for each code whether a client reconnects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Close {
    /// 1002: the bytes are not valid WebSocket frames.
    ProtocolError,
    /// 1007: a text frame is not UTF-8.
    NotUtf8,
    /// 1009: a frame exceeds the size limit.
    FrameTooLarge,
    /// 1012: this gateway stops, or too many logins wait.
    GoingAway {
        /// The delay before the client reconnects, with jitter.
        retry_after_ms: u64,
    },
    /// 4401: no login before the deadline, or another first frame.
    NotLoggedIn,
    /// 4401: the token of the first frame is not valid.
    LoginRefused,
    /// 4402: the token has expired.
    TokenExpired,
    /// 4402: the user's tokens were revoked.
    TokenRevoked,
    /// 4408: no frame for three heartbeat intervals.
    Silent,
    /// 4409: a newer connection of the same device exists.
    Replaced,
    /// 4413: the client reads nothing from its socket.
    Stalled,
    /// 4429: the user opened another connection and has the maximum; this one was silent longest.
    TooManyConnections,
    /// 4429: too many malformed frames in a row.
    TooManyMalformed,
}

impl Close {
    /// The close frame: code and reason.
    #[must_use]
    pub fn frame(self) -> CloseFrame {
        let (code, reason) = match self {
            Self::ProtocolError => (1002, "not a valid WebSocket frame".into()),
            Self::NotUtf8 => (1007, "text frames must be UTF-8".into()),
            Self::FrameTooLarge => (1009, "frames are limited to 64 KiB".into()),
            Self::GoingAway { retry_after_ms } => (1012, format!("retry_after_ms={retry_after_ms}")),
            Self::NotLoggedIn => (4401, "log in (cmd 1) with your first frame".into()),
            Self::LoginRefused => (4401, "the token is not valid: see the reply to the login".into()),
            Self::TokenExpired => (4402, "the token has expired: connect with a new one".into()),
            Self::TokenRevoked => (4402, "the token was revoked: log in again".into()),
            Self::Silent => (4408, "no sign of life: send a heartbeat (cmd 0)".into()),
            Self::Replaced => (4409, "replaced by a newer connection of this device".into()),
            Self::Stalled => (4413, "the client reads too little from its socket".into()),
            Self::TooManyConnections => {
                (4429, "too many connections of this user: this one was silent longest".into())
            }
            Self::TooManyMalformed => (4429, "too many malformed frames".into()),
        };
        CloseFrame { code: CloseCode::from(code), reason: reason.into() }
    }

    /// The close code as a label of metrics.
    #[must_use]
    pub fn code_text(self) -> &'static str {
        match self {
            Self::ProtocolError => "1002",
            Self::NotUtf8 => "1007",
            Self::FrameTooLarge => "1009",
            Self::GoingAway { .. } => "1012",
            Self::NotLoggedIn | Self::LoginRefused => "4401",
            Self::TokenExpired | Self::TokenRevoked => "4402",
            Self::Silent => "4408",
            Self::Replaced => "4409",
            Self::Stalled => "4413",
            Self::TooManyConnections | Self::TooManyMalformed => "4429",
        }
    }
}

/// The close frame that tells a page why it may not connect: the code is 4000 and the HTTP status.
pub(crate) fn of_refusal(refusal: &ApiError) -> CloseFrame {
    match refusal.retry_after_ms() {
        Some(retry_after_ms) => Close::GoingAway { retry_after_ms }.frame(),
        None => {
            let message = refusal.message();
            let end = message.floor_char_boundary(REASON_BYTES_MAX);
            let code = CloseCode::from(4_000 + refusal.code());
            CloseFrame { code, reason: message[..end].to_owned().into() }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_learns_the_code_and_the_sentence_of_its_refusal() {
        let told = |refusal: ApiError| {
            let frame = of_refusal(&refusal);
            (u16::from(frame.code), frame.reason.to_string())
        };
        assert_eq!(told(ApiError::Malformed("a".to_owned())), (4400, "a".to_owned()));
        assert_eq!(told(ApiError::Unauthenticated("b".to_owned())), (4401, "b".to_owned()));
        assert_eq!(told(ApiError::Forbidden("c".to_owned())), (4403, "c".to_owned()));
        let long = told(ApiError::Unauthenticated(format!("x{}", "\u{e9}".repeat(100)))).1;
        assert_eq!((long.len(), long.chars().count()), (123, 62));
        let late = ApiError::Unavailable { message: String::new(), retry_after_ms: 7 };
        assert_eq!(told(late), (1012, "retry_after_ms=7".to_owned()));
    }
}
