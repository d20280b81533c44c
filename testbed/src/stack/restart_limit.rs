//! How often a process may be restarted.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Restarts of one process within a [`WINDOW`].
pub(super) const RESTARTS_MAX: usize = 3;
/// See [`RESTARTS_MAX`].
pub(super) const WINDOW: Duration = Duration::from_secs(60);

/// The restarts of one process within the last [`WINDOW`].
#[derive(Debug, Default)]
pub(super) struct RestartLimit(VecDeque<Instant>);

impl RestartLimit {
    /// Whether the process may be restarted at `now`. If so, that restart counts.
    pub(super) fn allows(&mut self, now: Instant) -> bool {
        while self.0.front().is_some_and(|restart| now.saturating_duration_since(*restart) >= WINDOW) {
            self.0.pop_front();
        }
        let allowed = self.0.len() < RESTARTS_MAX;
        if allowed {
            self.0.push_back(now);
        }
        allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_restarts_are_allowed_in_any_sixty_seconds() {
        let begin = Instant::now();
        let mut limit = RestartLimit::default();
        // Seconds, and whether a restart is allowed then. One that is not allowed does not count.
        for (second, allowed) in [
            (0, true),
            (10, true),
            (59, true),
            (59, false),
            (60, true),
            (69, false),
            (70, true),
            (118, false),
        ] {
            assert_eq!(limit.allows(begin + Duration::from_secs(second)), allowed, "after {second} s");
        }
        assert!(limit.allows(begin + Duration::from_secs(119)));
    }
}
