//! Taking turns, so that work comes in fewer and larger pieces.
//!
//! Several tasks each turn what waits for them into a batch, and a batch costs much more than what is in it. Left alone,
//! each begins a batch as soon as one message is there. When only a few may be at it at once, the others gather while
//! they wait. That needs no clock and no guess about the load: with one task at work nobody waits, and the more there is
//! to do, the larger the batches.
//!
//! A turn is for economy, never for correctness: who has waited for long enough goes on without one, so that a task that
//! hangs holds up nobody.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Who has waited for so long goes on without a turn.
const PATIENCE: Duration = Duration::from_millis(25);

/// So many turns, handed out in the order of asking. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Turns {
    free: Arc<Semaphore>,
}

/// A turn, given back when dropped.
#[derive(Debug)]
pub struct Turn {
    _permit: Option<OwnedSemaphorePermit>,
}

impl Turns {
    /// `at_once` at the same time; 0 counts as 1.
    #[must_use]
    pub fn new(at_once: usize) -> Self {
        Self { free: Arc::new(Semaphore::new(at_once.max(1))) }
    }

    /// Waits for a turn, but not for long.
    pub async fn take(&self) -> Turn {
        if let Ok(permit) = Arc::clone(&self.free).try_acquire_owned() {
            return Turn { _permit: Some(permit) };
        }
        let waited = tokio::time::timeout(PATIENCE, Arc::clone(&self.free).acquire_owned()).await;
        Turn { _permit: waited.ok().and_then(Result::ok) }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn turns_are_given_back_and_nobody_waits_for_ever() {
        let turns = Turns::new(2);
        let (first, _second) = (turns.take().await, turns.take().await);
        assert!(turns.take().now_or_never().is_none());
        drop(first);
        let third = turns.take().now_or_never().unwrap();
        assert!(third._permit.is_some());
        let begun = tokio::time::Instant::now();
        assert!(turns.take().await._permit.is_none(), "two hang");
        assert_eq!(begun.elapsed(), PATIENCE);
    }
}
