//! Why a connection is closed.

use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

/// Each with a code of its own; docs/protocol.md says what a client should do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Close {
    /// The client asked for it.
    Normal,
    /// Not a WebSocket conversation any more.
    ProtocolError,
    /// A text frame that is no UTF-8.
    NotUtf8,
    /// Over the frame limit.
    FrameTooLarge,
    /// This gateway stops; come back after so many milliseconds.
    GoingAway {
        /// Spread by the server, so that not everyone comes at once.
        retry_after_ms: u64,
    },
    /// No login in time.
    NotLoggedIn,
    /// The token's time is over.
    TokenExpired,
    /// The user's tokens were revoked.
    TokenRevoked,
    /// Three heartbeats missed.
    Silent,
    /// A newer connection of the same device.
    Replaced,
    /// Takes nothing from its socket.
    Stalled,
    /// More connections than one user may have.
    TooManyConnections,
    /// Malformed frame after malformed frame.
    TooManyMalformed,
}

impl Close {
    /// The close frame to send.
    #[must_use]
    pub fn frame(self) -> CloseFrame {
        let (code, reason) = match self {
            Self::Normal => (1000, "bye".into()),
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
            Self::TooManyConnections => (4429, "too many connections of this user".into()),
            Self::TooManyMalformed => (4429, "too many malformed frames".into()),
        };
        CloseFrame { code: CloseCode::from(code), reason: reason.into() }
    }
}
