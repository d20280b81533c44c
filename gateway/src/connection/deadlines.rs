//! The deadlines of a connection: login, silence, stalled reader, token expiry.
//!
//! Pure: the caller reports what happened and passes the time in. A deadline is a field, or follows from one; it is never
//! the state of a timer. The task's timer only decides when [`check`](Deadlines::check) is called, and a check that comes
//! early or often changes nothing.

use std::time::Duration;

use tokio::time::Instant;

use super::token_expiry::{ExpiryAction, TokenExpiry};
use crate::config::Timeouts;
use crate::wire::close::Close;

/// What is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Due {
    /// Nothing before [`Deadlines::next_check`].
    Nothing,
    /// Warn the client that its token expires. Check again afterwards.
    TokenWarning { expires_at_ms: i64 },
    /// Close the connection.
    Close(Close),
}

/// The deadlines of one connection.
#[derive(Debug)]
pub(super) struct Deadlines {
    silence: Duration,
    stall: Duration,
    /// Bytes that the client takes at least within `stall` while bytes wait for it.
    drained_min: u64,
    token_warning_ms: u64,
    /// The client has to log in by then; `None` once it has sent a valid token.
    login_by: Option<Instant>,
    /// When the client last sent a frame. While the connection does not read, the client does not count as silent.
    heard_at: Instant,
    /// Since when bytes wait for the client and it has taken none of them.
    blocked_since: Option<Instant>,
    /// While bytes wait: what the client takes, over a time of `stall`.
    draining: Option<Draining>,
    token: Option<Token>,
}

/// What a client takes while bytes wait for it without a break.
#[derive(Debug, Clone, Copy)]
struct Draining {
    since: Instant,
    /// Bytes written to the socket, at the beginning and until now.
    written: (u64, u64),
}

#[derive(Debug)]
struct Token {
    expiry: TokenExpiry,
    /// `None`: it never expires.
    check_at: Option<Instant>,
}

impl Deadlines {
    /// The deadlines of a connection that is accepted at `now` and has to log in.
    pub(super) fn new(timeouts: &Timeouts, now: Instant) -> Self {
        Self {
            silence: timeouts.silence(),
            stall: Duration::from_millis(timeouts.stalled_ms),
            drained_min: timeouts.drain_bytes_per_second_min.saturating_mul(timeouts.stalled_ms) / 1_000,
            token_warning_ms: timeouts.token_warning_ms,
            login_by: Some(now + Duration::from_millis(timeouts.login_ms)),
            heard_at: now,
            blocked_since: None,
            draining: None,
            token: None,
        }
    }

    /// The client sent a frame.
    pub(super) fn frame_received(&mut self, now: Instant) {
        self.heard_at = now;
    }

    /// The client sent a valid token: the deadline for silence replaces the one for the login.
    pub(super) fn authenticated(&mut self) {
        self.login_by = None;
    }

    /// The connection uses this token from now on. The next check is due at once.
    pub(super) fn set_token(&mut self, expiry: TokenExpiry, now: Instant) {
        self.token = Some(Token { expiry, check_at: Some(now) });
    }

    /// Bytes wait for the client. It has just taken some of them, or they have just begun to wait. `written`: all bytes
    /// that were written to the socket.
    pub(super) fn write_blocked(&mut self, now: Instant, written: u64) {
        self.blocked_since = Some(now);
        let draining = self.draining.get_or_insert(Draining { since: now, written: (written, written) });
        draining.written.1 = written;
    }

    /// The client has taken everything.
    pub(super) fn write_unblocked(&mut self) {
        self.blocked_since = None;
        self.draining = None;
    }

    /// Before this time nothing is due.
    pub(super) fn next_check(&self) -> Instant {
        let heard = self.login_by.unwrap_or(self.heard_at + self.silence);
        let stalled = self.blocked_since.map(|since| since + self.stall);
        let slow = self.draining.map(|draining| draining.since + self.stall);
        let token = self.token.as_ref().and_then(|token| token.check_at);
        [stalled, slow, token].into_iter().flatten().fold(heard, Instant::min)
    }

    /// What is due at `now`, which is `unix_ms` on the wall clock. `reading`: frames of the client are read as they come.
    pub(super) fn check(&mut self, now: Instant, unix_ms: i64, reading: bool) -> Due {
        if self.blocked_since.is_some_and(|since| since + self.stall <= now) {
            return Due::Close(Close::Stalled);
        }
        if let Some(Draining { since, written: (before, written) }) = self.draining
            && since + self.stall <= now
        {
            if written.saturating_sub(before) < self.drained_min {
                return Due::Close(Close::Stalled);
            }
            self.draining = Some(Draining { since: now, written: (written, written) });
        }
        match self.login_by {
            // Garbage is no login: frames do not move this deadline.
            Some(login_by) if login_by <= now => return Due::Close(Close::NotLoggedIn),
            Some(_) => {}
            None if self.heard_at + self.silence > now => {}
            None if reading => return Due::Close(Close::Silent),
            // Frames of the client may wait in the socket: count from now.
            None => self.heard_at = now,
        }
        self.check_token(now, unix_ms)
    }

    fn check_token(&mut self, now: Instant, unix_ms: i64) -> Due {
        let Some(token) = &mut self.token else { return Due::Nothing };
        match token.expiry.check(unix_ms, self.token_warning_ms) {
            ExpiryAction::Wait { check_after_ms } => {
                token.check_at = check_after_ms.map(|after| now + Duration::from_millis(after));
                Due::Nothing
            }
            ExpiryAction::Warn { expires_at_ms } => Due::TokenWarning { expires_at_ms },
            ExpiryAction::Close => Due::Close(Close::TokenExpired),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use shared::ids::UserId;

    use super::*;
    use crate::auth::token::Login;

    /// What may happen to a connection.
    #[derive(Debug, Clone, Copy)]
    enum Event {
        Frame,
        Blocked,
        Unblocked,
        Authenticated,
        /// A token that expires this many milliseconds later.
        Token(u64),
        Reading(bool),
        /// The timer fires although nothing is due.
        EarlyCheck,
    }

    fn timeouts(login_ms: u64, heartbeat_ms: u64, stalled_ms: u64) -> Timeouts {
        Timeouts {
            login_ms,
            heartbeat_ms,
            stalled_ms,
            drain_bytes_per_second_min: 0,
            token_warning_ms: 50,
            ..Timeouts::default()
        }
    }

    fn token(expires_at_ms: u64) -> TokenExpiry {
        let expires_at_ms = i64::try_from(expires_at_ms).ok();
        TokenExpiry::new(&Login { user: UserId::parse("alice").unwrap(), issued_at_ms: 0, expires_at_ms })
    }

    /// A connection whose clock begins at 0.
    struct Clocked {
        start: Instant,
        deadlines: Deadlines,
        reading: bool,
        warnings: Vec<u64>,
    }

    impl Clocked {
        fn new(timeouts: &Timeouts) -> Self {
            let start = Instant::now();
            Self { start, deadlines: Deadlines::new(timeouts, start), reading: true, warnings: Vec::new() }
        }

        fn at(&self, ms: u64) -> Instant {
            self.start + Duration::from_millis(ms)
        }

        fn check(&mut self, ms: u64) -> Option<Close> {
            let now = self.at(ms);
            loop {
                match self.deadlines.check(now, i64::try_from(ms).unwrap(), self.reading) {
                    Due::Nothing => return None,
                    Due::TokenWarning { .. } => self.warnings.push(ms),
                    Due::Close(close) => return Some(close),
                }
            }
        }

        fn apply(&mut self, event: Event, ms: u64) -> Option<Close> {
            let now = self.at(ms);
            match event {
                Event::Frame if self.reading => self.deadlines.frame_received(now),
                Event::Frame => {}
                Event::Blocked => self.deadlines.write_blocked(now, 0),
                Event::Unblocked => self.deadlines.write_unblocked(),
                Event::Authenticated => self.deadlines.authenticated(),
                Event::Token(life_ms) => self.deadlines.set_token(token(ms + life_ms), now),
                Event::Reading(reading) => self.reading = reading,
                Event::EarlyCheck => return self.check(ms),
            }
            None
        }

        /// Plays `events`, each with its delay after the previous one in milliseconds, and returns when and why the
        /// connection was closed. Checks every millisecond, or only at `next_check`.
        fn play(&mut self, events: &[(u64, Event)], every_ms: bool) -> Option<(u64, Close)> {
            let mut events = events.iter();
            let mut next = events.next().map(|(delay, event)| (*delay, *event));
            for ms in 0..2_000 {
                while let Some((at, event)) = next.filter(|(at, _)| *at == ms) {
                    if let Some(close) = self.apply(event, ms) {
                        return Some((ms, close));
                    }
                    next = events.next().map(|(delay, event)| (at + delay, *event));
                }
                if (every_ms || self.deadlines.next_check() <= self.at(ms))
                    && let Some(close) = self.check(ms)
                {
                    return Some((ms, close));
                }
            }
            None
        }
    }

    fn event() -> impl Strategy<Value = Event> {
        prop_oneof![
            4 => Just(Event::Frame),
            2 => Just(Event::Blocked),
            2 => Just(Event::Unblocked),
            1 => Just(Event::Authenticated),
            1 => (0_u64..400).prop_map(Event::Token),
            2 => any::<bool>().prop_map(Event::Reading),
            2 => Just(Event::EarlyCheck),
        ]
    }

    proptest! {
        #[test]
        fn early_or_frequent_checks_change_nothing(
            (login, heartbeat, stalled) in (1_u64..300, 1_u64..100, 1_u64..300),
            events in proptest::collection::vec((1_u64..80, event()), 0..40),
        ) {
            let timeouts = timeouts(login, heartbeat, stalled);
            let (mut due, mut often) = (Clocked::new(&timeouts), Clocked::new(&timeouts));
            let closed = due.play(&events, false);
            prop_assert_eq!(closed, often.play(&events, true));
            prop_assert_eq!(due.warnings, often.warnings);
            let quiet: Vec<_> = events.iter().map(|(delay, event)| match event {
                Event::EarlyCheck => (*delay, Event::Reading(true)),
                other => (*delay, *other),
            }).collect();
            if !events.iter().any(|(_, event)| matches!(event, Event::Reading(false))) {
                prop_assert_eq!(closed, Clocked::new(&timeouts).play(&quiet, false));
            }
        }

        #[test]
        fn no_connection_is_closed_before_a_deadline(
            (login, heartbeat, stalled) in (1_u64..300, 1_u64..100, 1_u64..300),
            events in proptest::collection::vec((1_u64..80, event()), 0..40),
        ) {
            let closed = Clocked::new(&timeouts(login, heartbeat, stalled)).play(&events, false);
            let Some((at, close)) = closed else { return Ok(()) };
            let mut now = 0;
            let before: Vec<_> = events.iter().map(|(delay, event)| { now += delay; (now, *event) })
                .take_while(|(ms, _)| *ms <= at).collect();
            let last = |wanted: fn(&Event) -> bool| {
                before.iter().rev().find(|(_, event)| wanted(event)).map(|(ms, _)| *ms)
            };
            match close {
                Close::NotLoggedIn => {
                    prop_assert_eq!(at, login);
                    prop_assert!(last(|event| matches!(event, Event::Authenticated)).is_none_or(|ms| ms >= login));
                }
                Close::Stalled => {
                    let blocked = last(|event| matches!(event, Event::Blocked)).unwrap();
                    prop_assert_eq!(at, blocked + stalled);
                }
                Close::Silent => {
                    prop_assert!(last(|event| matches!(event, Event::Authenticated)).is_some());
                    let mut reading = true;
                    let mut heard = 0;
                    for (ms, event) in &before {
                        match event {
                            Event::Reading(on) => reading = *on,
                            Event::Frame if reading => heard = *ms,
                            _ => {}
                        }
                    }
                    prop_assert!(reading && at >= heard + 3 * heartbeat, "heard at {}", heard);
                }
                Close::TokenExpired => {
                    let (set, life) = before.iter().rev().find_map(|(ms, event)| match event {
                        Event::Token(life) => Some((*ms, *life)),
                        _ => None,
                    }).unwrap();
                    prop_assert!(at >= set + life, "set at {}", set);
                }
                other => prop_assert!(false, "{other:?}"),
            }
        }
    }

    #[test]
    fn a_client_that_drains_too_slowly_is_closed_and_a_slow_one_is_not() {
        let closed = |bytes_per_second: u64, ms: u64| {
            let limits = Timeouts { drain_bytes_per_second_min: 100, ..timeouts(10_000, 10_000, 1_000) };
            let start = Instant::now();
            let mut deadlines = Deadlines::new(&limits, start);
            (0..=ms).step_by(10).find(|ms| {
                let now = start + Duration::from_millis(*ms);
                deadlines.write_blocked(now, bytes_per_second * ms / 1_000);
                deadlines.check(now, 0, true) != Due::Nothing
            })
        };
        assert_eq!(closed(99, 9_000), Some(1_000));
        assert_eq!(closed(100, 9_000), None);
        let limits = Timeouts { drain_bytes_per_second_min: 100, ..timeouts(10_000, 10_000, 1_000) };
        let start = Instant::now();
        let mut deadlines = Deadlines::new(&limits, start);
        let mut check = |ms: u64, written: Option<u64>| {
            let now = start + Duration::from_millis(ms);
            match written {
                Some(written) => deadlines.write_blocked(now, written),
                None => deadlines.write_unblocked(),
            }
            deadlines.check(now, 0, true)
        };
        assert_eq!([check(0, Some(0)), check(900, None), check(950, Some(20))], [Due::Nothing; 3]);
        assert_eq!(check(1_900, Some(30)), Due::Nothing, "a client that took everything begins anew");
        assert_eq!(check(1_950, Some(40)), Due::Close(Close::Stalled));
    }

    #[test]
    fn a_short_stall_does_not_shorten_the_time_to_log_in() {
        let mut connection = Clocked::new(&timeouts(1_000, 1_000, 100));
        let events =
            [(10, Event::Frame), (0, Event::Blocked), (5, Event::Unblocked), (95, Event::EarlyCheck)];
        assert_eq!(connection.play(&events, false), Some((1_000, Close::NotLoggedIn)));
    }

    #[test]
    fn frames_extend_the_silence_deadline_but_not_the_login_deadline() {
        let frames = [(90, Event::Frame), (90, Event::Frame)];
        let anonymous = Clocked::new(&timeouts(200, 40, 1_000)).play(&frames, false);
        assert_eq!(anonymous, Some((200, Close::NotLoggedIn)));
        let events = [(0, Event::Authenticated), frames[0], frames[1]];
        let user = Clocked::new(&timeouts(200, 40, 1_000)).play(&events, false);
        assert_eq!(user, Some((300, Close::Silent)));
    }

    #[test]
    fn silence_does_not_count_while_frames_are_not_read() {
        let events = [(0, Event::Authenticated), (0, Event::Reading(false)), (250, Event::Reading(true))];
        let closed = Clocked::new(&timeouts(1_000, 40, 1_000)).play(&events, false);
        assert_eq!(closed, Some((360, Close::Silent)), "counted again from 120 and from 240");
    }

    #[test]
    fn a_token_causes_one_warning_and_a_new_token_replaces_it() {
        let mut connection = Clocked::new(&timeouts(1_000, 1_000, 1_000));
        let events = [(0, Event::Authenticated), (0, Event::Token(100)), (80, Event::Token(200))];
        assert_eq!(connection.play(&events, false), Some((280, Close::TokenExpired)));
        assert_eq!(connection.warnings, [50, 230]);
    }
}
