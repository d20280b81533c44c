//! The reasons for which the gateway closes a connection, with their close codes.

use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

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
    /// 4401: no login before the deadline.
    NotLoggedIn,
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
            Self::TokenExpired => (4402, "the token has expired: connect with a new one".into()),
            Self::TokenRevoked => (4402, "the token was revoked: log in again".into()),
            Self::Silent => (4408, "no sign of life: send a heartbeat (cmd 0)".into()),
            Self::Replaced => (4409, "replaced by a newer connection of this device".into()),
            Self::Stalled => (4413, "nothing was taken from the socket".into()),
            Self::TooManyConnections => {
                (4429, "too many connections of this user: this one was silent longest".into())
            }
            Self::TooManyMalformed => (4429, "too many malformed frames".into()),
        };
        CloseFrame { code: CloseCode::from(code), reason: reason.into() }
    }
}
