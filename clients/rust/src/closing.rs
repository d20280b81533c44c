//! What a closed connection means: the protocol's table of close codes. Pure.

use std::time::Duration;

use crate::protocol::Ended;

/// What to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AfterClose {
    /// Reconnect after a growing delay.
    Backoff,
    /// Reconnect after the delay that the server names.
    Wait(Duration),
    /// Reconnect with a new token.
    Token,
    /// Reconnecting is of no use.
    Stop,
}

/// 1002, 1007 and 4400: mend the client. 4403: the operator allows it. 4409 and 4429: newer connections are there.
const STOPS: [u16; 6] = [1002, 1007, 4400, 4403, 4409, 4429];

/// The meaning of the end of a connection.
pub(crate) fn after_close(ended: &Ended) -> AfterClose {
    match &ended.0 {
        Some((code, _)) if STOPS.contains(code) => AfterClose::Stop,
        Some((4401 | 4402, _)) => AfterClose::Token,
        _ => ended.retry_after().map_or(AfterClose::Backoff, AfterClose::Wait),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_close_code_has_its_consequence() {
        let after = |code, reason: &str| after_close(&Ended(Some((code, reason.to_owned()))));
        for code in STOPS {
            assert_eq!(after(code, ""), AfterClose::Stop, "{code}");
        }
        assert_eq!(after(4401, "no token"), AfterClose::Token);
        assert_eq!(after(4402, "expired"), AfterClose::Token);
        assert_eq!(after(1012, "retry_after_ms=700"), AfterClose::Wait(Duration::from_millis(700)));
        for code in [1000, 1001, 1009, 1011, 4408, 4413, 4999] {
            assert_eq!(after(code, ""), AfterClose::Backoff, "{code}");
        }
        assert_eq!(after_close(&Ended(None)), AfterClose::Backoff);
    }
}
