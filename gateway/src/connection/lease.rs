//! How long a connection may live by its token: rules without a clock of their own.

use crate::auth::token::Login;

/// A connection looks at its lease so often at least, because the clock on the wall may be set.
const LOOK_INTERVAL_MS: i64 = 60_000;

/// What the token of a connection allows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lease {
    /// When the token was made.
    pub issued_at_ms: i64,
    expires_at_ms: Option<i64>,
    warned: bool,
}

/// What is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Due {
    /// Nothing. Look again after so many milliseconds.
    Nothing {
        /// At least 1; `None` for a token that never expires.
        look_again_ms: Option<u64>,
    },
    /// Tell the client that the connection will end, once.
    Warning {
        /// When it will.
        expires_at_ms: i64,
    },
    /// The token's time is over.
    End,
}

impl Lease {
    /// By this token.
    #[must_use]
    pub fn of(login: &Login) -> Self {
        Self { issued_at_ms: login.issued_at_ms, expires_at_ms: login.expires_at_ms, warned: false }
    }

    /// What is to be done at `now_ms`. A warning is given out once.
    pub(super) fn due(&mut self, now_ms: i64, warning_ms: u64) -> Due {
        let look_after =
            |ms: i64| Due::Nothing { look_again_ms: Some(ms.clamp(1, LOOK_INTERVAL_MS).unsigned_abs()) };
        let Some(expires_at_ms) = self.expires_at_ms else { return Due::Nothing { look_again_ms: None } };
        if expires_at_ms <= now_ms {
            return Due::End;
        }
        let warn_at_ms = expires_at_ms.saturating_sub_unsigned(warning_ms);
        if self.warned {
            return look_after(expires_at_ms - now_ms);
        }
        if warn_at_ms <= now_ms {
            self.warned = true;
            return Due::Warning { expires_at_ms };
        }
        look_after(warn_at_ms - now_ms)
    }
}

#[cfg(test)]
mod tests {
    use shared::ids::UserId;

    use super::*;

    fn until(expires_at_ms: Option<i64>) -> Lease {
        Lease::of(&Login { user: UserId::parse("alice").unwrap(), issued_at_ms: 0, expires_at_ms })
    }

    #[test]
    fn one_warning_then_the_end() {
        let mut lease = until(Some(10_000));
        assert_eq!(lease.due(1_000, 2_000), Due::Nothing { look_again_ms: Some(7_000) });
        assert_eq!(lease.due(8_000, 2_000), Due::Warning { expires_at_ms: 10_000 });
        assert_eq!(lease.due(8_000, 2_000), Due::Nothing { look_again_ms: Some(2_000) });
        assert_eq!(lease.due(9_999, 2_000), Due::Nothing { look_again_ms: Some(1) });
        assert_eq!(lease.due(10_000, 2_000), Due::End);
    }

    #[test]
    fn short_lives_are_warned_at_once_and_long_ones_looked_at_now_and_then() {
        assert_eq!(until(Some(10)).due(1, u64::MAX), Due::Warning { expires_at_ms: 10 });
        assert_eq!(until(Some(i64::MAX)).due(1, 0), Due::Nothing { look_again_ms: Some(60_000) });
        assert_eq!(until(None).due(1, 0), Due::Nothing { look_again_ms: None });
    }
}
