//! Watches senders and readers from outside: how long nobody is answered, and who is behind.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use testbed::client::{Progress, Reading, Report};

/// How often it looks.
pub(super) const EVERY: Duration = Duration::from_millis(50);
/// Nobody waits for longer when nothing is wrong.
const AT_REST: Duration = Duration::from_secs(1);

/// One conversation as it is seen from outside.
#[derive(Debug)]
pub(super) struct Watched {
    pub(super) senders: Vec<Arc<Progress>>,
    pub(super) readers: Vec<Arc<Reading>>,
}

/// The longest of each kind, in all or since a moment.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Longest {
    /// Nobody at all was told that a message is accepted.
    pub(super) silence: Duration,
    /// One message waited for its answer.
    pub(super) answer: Duration,
    /// A reader had not seen what a sender knew to be accepted.
    pub(super) lag: Duration,
}

#[derive(Debug)]
struct State {
    acked: u64,
    acked_at: Instant,
    longest: Longest,
    now: Longest,
    /// By conversation: when it was first seen that so much is accepted.
    accepted: Vec<VecDeque<(Instant, u64)>>,
}

/// Looks at everyone again and again.
#[derive(Debug)]
pub(super) struct Monitor {
    watched: Vec<Watched>,
    report: Arc<Report>,
    state: Mutex<State>,
}

impl Monitor {
    pub(super) fn new(watched: Vec<Watched>, report: Arc<Report>) -> Self {
        let accepted = watched.iter().map(|_| VecDeque::new()).collect();
        let state = State {
            acked: 0,
            acked_at: Instant::now(),
            longest: Longest::default(),
            now: Longest::default(),
            accepted,
        };
        Self { watched, report, state: Mutex::new(state) }
    }

    /// Looks until it is dropped.
    pub(super) async fn run(&self) {
        loop {
            self.look(Instant::now());
            tokio::time::sleep(EVERY).await;
        }
    }

    fn look(&self, now: Instant) {
        let mut state = self.state.lock();
        let acked = self.report.acked.load(Ordering::Relaxed);
        if acked != state.acked {
            (state.acked, state.acked_at) = (acked, now);
        }
        let mut seen = Longest { silence: now - state.acked_at, ..Longest::default() };
        for (watched, accepted) in self.watched.iter().zip(&mut state.accepted) {
            let newest = watched.senders.iter().map(|sender| sender.newest_acked()).max().unwrap_or(0);
            if accepted.back().is_none_or(|(_, seq)| *seq < newest) {
                accepted.push_back((now, newest));
            }
            for sender in &watched.senders {
                seen.answer = seen.answer.max(sender.waiting(now));
            }
            let behind = watched.readers.iter().map(|reader| reader.cursor()).min().unwrap_or(u64::MAX);
            while accepted.front().is_some_and(|(_, seq)| *seq <= behind) {
                accepted.pop_front();
            }
            if let Some((since, _)) = accepted.front() {
                seen.lag = seen.lag.max(now - *since);
            }
        }
        state.now = seen;
        let longest = &mut state.longest;
        longest.silence = longest.silence.max(seen.silence);
        longest.answer = longest.answer.max(seen.answer);
        longest.lag = longest.lag.max(seen.lag);
    }

    /// The longest so far; counted anew from here on.
    pub(super) fn take_longest(&self) -> Longest {
        std::mem::take(&mut self.state.lock().longest)
    }

    /// As it is at this moment.
    pub(super) fn now(&self) -> Longest {
        self.state.lock().now
    }

    /// Waits until nobody waits for long and nobody is behind. `None` if that takes longer than `patience`.
    pub(super) async fn at_rest(&self, patience: Duration) -> Option<Duration> {
        let begun = Instant::now();
        loop {
            self.look(Instant::now());
            let Longest { silence, answer, lag } = self.now();
            if silence.max(answer).max(lag) < AT_REST {
                return Some(begun.elapsed());
            }
            if begun.elapsed() > patience {
                return None;
            }
            tokio::time::sleep(EVERY).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn silence_and_lag_are_counted_from_when_they_began() {
        let report = Arc::new(Report::default());
        let watched = Watched { senders: vec![Arc::default()], readers: vec![Arc::default()] };
        let monitor = Monitor::new(vec![watched], Arc::clone(&report));
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        report.acked.store(1, Ordering::Relaxed);
        monitor.watched[0].senders[0].acked(5);
        monitor.look(after(1));
        monitor.look(after(3));
        assert_eq!(monitor.now().lag, Duration::from_secs(2));
        assert_eq!(monitor.now().silence, Duration::from_secs(2));
        monitor.watched[0].readers[0].seen(5);
        report.acked.store(2, Ordering::Relaxed);
        monitor.look(after(4));
        assert_eq!(monitor.now().lag, Duration::ZERO);
        assert_eq!(monitor.now().silence, Duration::ZERO);
        assert_eq!(monitor.take_longest().lag, Duration::from_secs(2));
        assert_eq!(monitor.take_longest().lag, Duration::ZERO);
    }
}
