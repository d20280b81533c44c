//! Watches senders and readers: how long they wait for answers, and how far readers are behind.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use testbed::client::{Progress, Reading, Report};

/// Between two looks.
const INTERVAL: Duration = Duration::from_millis(50);
/// Every wait is shorter while nothing is broken.
const RECOVERED_BELOW: Duration = Duration::from_secs(1);

/// The senders and readers of one conversation.
#[derive(Debug)]
pub(crate) struct Watched {
    pub(crate) senders: Vec<Arc<Progress>>,
    pub(crate) readers: Vec<Arc<Reading>>,
}

/// The longest waits.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Longest {
    /// No message at all was accepted.
    pub(crate) silence: Duration,
    /// One message waited for its answer.
    pub(crate) answer: Duration,
    /// A reader was without a message whose sender had the answer.
    pub(crate) lag: Duration,
}

#[derive(Debug)]
struct State {
    acked: u64,
    acked_at: Instant,
    longest: Longest,
    now: Longest,
    /// The last moment at which somebody waited for too long.
    waited_at: Option<Instant>,
    /// For each conversation: accepted sequence numbers that a reader lacks, and when they were first seen.
    accepted: Vec<VecDeque<(Instant, u64)>>,
}

/// Looks at all senders and readers at intervals.
#[derive(Debug)]
pub(crate) struct Monitor {
    watched: Vec<Watched>,
    report: Arc<Report>,
    state: Mutex<State>,
}

impl Monitor {
    pub(crate) fn new(watched: Vec<Watched>, report: Arc<Report>) -> Self {
        let accepted = watched.iter().map(|_| VecDeque::new()).collect();
        let state = State {
            acked: 0,
            acked_at: Instant::now(),
            longest: Longest::default(),
            now: Longest::default(),
            waited_at: None,
            accepted,
        };
        Self { watched, report, state: Mutex::new(state) }
    }

    /// Runs until it is dropped.
    pub(crate) async fn run(&self) {
        loop {
            self.look(Instant::now());
            tokio::time::sleep(INTERVAL).await;
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
            let slowest = watched.readers.iter().map(|reader| reader.cursor()).min().unwrap_or(u64::MAX);
            while accepted.front().is_some_and(|(_, seq)| *seq <= slowest) {
                accepted.pop_front();
            }
            if let Some((since, _)) = accepted.front() {
                seen.lag = seen.lag.max(now - *since);
            }
        }
        state.now = seen;
        if seen.silence.max(seen.answer).max(seen.lag) >= RECOVERED_BELOW {
            state.waited_at = Some(now);
        }
        let longest = &mut state.longest;
        longest.silence = longest.silence.max(seen.silence);
        longest.answer = longest.answer.max(seen.answer);
        longest.lag = longest.lag.max(seen.lag);
    }

    /// The longest waits since the last call.
    pub(crate) fn take_longest(&self) -> Longest {
        std::mem::take(&mut self.state.lock().longest)
    }

    /// How long after `begin` somebody waited for too long, for the last time since the last call.
    pub(crate) fn take_waited_until(&self, begin: Instant) -> Duration {
        let waited_at = self.state.lock().waited_at.take();
        waited_at.map_or(Duration::ZERO, |at| at.saturating_duration_since(begin))
    }

    /// The waits at this moment.
    pub(crate) fn now(&self) -> Longest {
        self.state.lock().now
    }

    /// Waits until all waits are short. Returns after how long; `None` after `timeout`.
    pub(crate) async fn recovered(&self, timeout: Duration) -> Option<Duration> {
        let begin = Instant::now();
        loop {
            self.look(Instant::now());
            let Longest { silence, answer, lag } = self.now();
            if silence.max(answer).max(lag) < RECOVERED_BELOW {
                return Some(begin.elapsed());
            }
            if begin.elapsed() > timeout {
                return None;
            }
            tokio::time::sleep(INTERVAL).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn silence_and_lag_count_from_their_begin() {
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
        assert_eq!(monitor.take_waited_until(after(0)), Duration::from_secs(3));
        assert_eq!(monitor.take_waited_until(after(0)), Duration::ZERO);
    }
}
