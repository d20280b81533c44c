//! The expiry of a connection's token. Pure: the caller passes the time in.

use crate::auth::token::Login;

/// Longest pause between two checks, in milliseconds. The wall clock may be set meanwhile.
const CHECK_INTERVAL_MS: i64 = 60_000;

/// The expiry of a connection's token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TokenExpiry {
    expires_at_ms: Option<i64>,
    warned: bool,
}

/// What to do about the expiry of a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ExpiryAction {
    /// Nothing. Check again after this many milliseconds, at least 1; `None` for a token that never expires.
    Wait { check_after_ms: Option<u64> },
    /// Warn the client, once, that the connection will be closed at `expires_at_ms`.
    Warn { expires_at_ms: i64 },
    /// The token has expired: close the connection.
    Close,
}

impl TokenExpiry {
    /// The expiry of this login's token.
    #[must_use]
    pub(crate) fn new(login: &Login) -> Self {
        Self { expires_at_ms: login.expires_at_ms, warned: false }
    }

    /// What is due at `now_ms`. The client is warned `warning_ms` before the expiry, once.
    pub(super) fn check(&mut self, now_ms: i64, warning_ms: u64) -> ExpiryAction {
        let Some(expires_at_ms) = self.expires_at_ms else {
            return ExpiryAction::Wait { check_after_ms: None };
        };
        if expires_at_ms <= now_ms {
            return ExpiryAction::Close;
        }
        let next_ms = match self.warned {
            true => expires_at_ms,
            false => expires_at_ms.saturating_sub_unsigned(warning_ms),
        };
        if next_ms <= now_ms {
            self.warned = true;
            return ExpiryAction::Warn { expires_at_ms };
        }
        let wait_ms = next_ms.saturating_sub(now_ms).clamp(1, CHECK_INTERVAL_MS);
        ExpiryAction::Wait { check_after_ms: Some(wait_ms.unsigned_abs()) }
    }
}

#[cfg(test)]
mod tests {
    use shared::ids::UserId;

    use super::*;

    fn until(expires_at_ms: Option<i64>) -> TokenExpiry {
        TokenExpiry::new(&Login { user: UserId::parse("alice").unwrap(), issued_at_ms: 0, expires_at_ms })
    }

    fn wait(check_after_ms: u64) -> ExpiryAction {
        ExpiryAction::Wait { check_after_ms: Some(check_after_ms) }
    }

    #[test]
    fn the_client_is_warned_once_before_the_connection_is_closed() {
        let mut expiry = until(Some(10_000));
        assert_eq!(expiry.check(1_000, 2_000), wait(7_000));
        assert_eq!(expiry.check(8_000, 2_000), ExpiryAction::Warn { expires_at_ms: 10_000 });
        assert_eq!(expiry.check(8_000, 2_000), wait(2_000));
        assert_eq!(expiry.check(9_999, 2_000), wait(1));
        assert_eq!(expiry.check(10_000, 2_000), ExpiryAction::Close);
    }

    #[test]
    fn a_short_lived_token_warns_at_once_and_a_long_lived_one_is_checked_every_minute() {
        assert_eq!(until(Some(10)).check(1, u64::MAX), ExpiryAction::Warn { expires_at_ms: 10 });
        assert_eq!(until(Some(i64::MAX)).check(1, 0), wait(60_000));
        assert_eq!(until(None).check(1, 0), ExpiryAction::Wait { check_after_ms: None });
    }
}
