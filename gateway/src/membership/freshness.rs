//! Whether the list of changes was read lately.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::Notify;

/// So long after it was last read, what is remembered is still believed.
const BELIEVED_FOR: Duration = Duration::from_secs(5);

/// When the list was last read to its end.
#[derive(Debug, Default)]
pub(super) struct Freshness {
    pub(super) read: Mutex<Option<Instant>>,
    /// It is not to be believed since the last reading began.
    pub(super) doubted: AtomicBool,
    /// The last attempt to read failed.
    pub(super) database_away: AtomicBool,
    pub(super) wake: Notify,
}

impl Freshness {
    pub(super) fn is_fresh(&self) -> bool {
        !self.doubted.load(Ordering::Relaxed)
            && self.read.lock().is_some_and(|read| read.elapsed() < BELIEVED_FOR)
    }

    /// Whether there is nobody to ask.
    pub(super) fn is_database_away(&self) -> bool {
        self.database_away.load(Ordering::Relaxed)
    }

    /// Nothing is fresh until the list was read again, which begins at once.
    pub(super) fn doubt(&self) {
        self.doubted.store(true, Ordering::Relaxed);
        self.wake.notify_one();
    }

    /// Returns for how long it was not.
    pub(super) fn read_now(&self) -> Duration {
        self.read.lock().replace(Instant::now()).map_or(Duration::ZERO, |before| before.elapsed())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_believed_before_the_list_was_read() {
        let freshness = Freshness::default();
        assert!(!freshness.is_fresh());
        freshness.read_now();
        assert!(freshness.is_fresh());
        freshness.doubt();
        assert!(!freshness.is_fresh());
    }
}
