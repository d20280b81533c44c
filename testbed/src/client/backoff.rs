//! The pace of a sender that a rate limit concerns.

use std::time::Duration;

use tokio::time::Instant;

/// Longest pause between two messages that this rule adds: the lowest limit of a gateway is one message per second.
/// Longer waits that the gateway names are obeyed as they are.
const SPACING_MAX: Duration = Duration::from_secs(2);
/// Each refusal multiplies the pause by this.
const SLOW_DOWN: f64 = 1.5;
/// Each accepted message multiplies the pause by this, so that the pace rises again when the limit allows it.
const SPEED_UP: f64 = 0.97;
/// A shorter pause is dropped: the window alone decides.
const SPACING_MIN: Duration = Duration::from_micros(200);

/// Obeys 429: after a refusal nothing is sent until the time that the gateway names, and later messages are spaced. The
/// pause grows with refusals and shrinks with accepted messages.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    spacing: Duration,
    /// The earliest time of the next message, by the spacing.
    next_at: Option<Instant>,
    /// The end of the wait that the gateway named.
    held_until: Option<Instant>,
}

impl Backoff {
    /// The earliest time of the next message, if it is in the future.
    pub(super) fn not_before(&self, now: Instant) -> Option<Instant> {
        self.next_at.max(self.held_until).filter(|not_before| *not_before > now)
    }

    /// A message is sent.
    pub(super) fn sent(&mut self, now: Instant) {
        if self.spacing > Duration::ZERO {
            self.next_at = Some(now + self.spacing);
        }
    }

    /// A message was accepted.
    pub(super) fn accepted(&mut self) {
        if self.spacing > Duration::ZERO {
            self.spacing = self.spacing.mul_f64(SPEED_UP);
            if self.spacing < SPACING_MIN {
                (self.spacing, self.next_at) = (Duration::ZERO, None);
            }
        }
    }

    /// A message was refused with 429, to be sent again after `retry_after`.
    pub(super) fn refused(&mut self, now: Instant, retry_after: Duration) {
        // During a wait, refusals of messages that were sent before it do not count again.
        if self.held_until.is_none_or(|held_until| held_until <= now) {
            self.spacing = self.spacing.mul_f64(SLOW_DOWN).max(retry_after).min(SPACING_MAX);
        }
        self.held_until = self.held_until.max(Some(now + retry_after));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn without_refusals_nothing_is_held() {
        let (mut backoff, now) = (Backoff::default(), Instant::now());
        backoff.sent(now);
        backoff.accepted();
        assert_eq!(backoff.not_before(now), None);
    }

    #[test]
    fn a_refusal_holds_everything_until_its_time_and_spaces_what_follows() {
        let (mut backoff, now) = (Backoff::default(), Instant::now());
        backoff.refused(now, 20 * MS);
        // Refusals of messages that were in flight do not slow down further.
        (0..63).for_each(|_| backoff.refused(now, 20 * MS));
        assert_eq!(backoff.not_before(now), Some(now + 20 * MS));
        let later = now + 20 * MS;
        assert_eq!(backoff.not_before(later), None);
        backoff.sent(later);
        assert_eq!(backoff.not_before(later), Some(later + 20 * MS));
    }

    /// Plays a limit of `per_second` after a burst of `burst`, with answers that come at once.
    fn refusals_of(per_second: f64, burst: f64, messages: usize) -> (usize, f64) {
        let (mut backoff, start) = (Backoff::default(), Instant::now());
        let (mut now, mut tokens, mut sent, mut refused) = (start, burst, 0, 0);
        while sent < messages {
            if let Some(at) = backoff.not_before(now) {
                tokens = (tokens + per_second * (at - now).as_secs_f64()).min(burst);
                now = at;
            }
            backoff.sent(now);
            if tokens >= 1.0 {
                tokens -= 1.0;
                sent += 1;
                backoff.accepted();
            } else {
                refused += 1;
                let wait = ((1.0 - tokens) / per_second * 1_000.0).ceil() + 1.0;
                backoff.refused(now, Duration::from_secs_f64(wait / 1_000.0));
            }
        }
        (refused, (now - start).as_secs_f64())
    }

    #[test]
    fn a_limit_is_used_to_most_of_what_it_allows_with_few_refusals() {
        for per_second in [1.0, 10.0, 50.0, 500.0] {
            let (refused, seconds) = refusals_of(per_second, 200.0, 2_000);
            let allowed = 1_800.0 / per_second;
            assert!(refused < 200, "{per_second}/s: {refused} refusals");
            assert!(seconds < 1.4 * allowed, "{per_second}/s: {seconds} s instead of {allowed}");
        }
    }
}
