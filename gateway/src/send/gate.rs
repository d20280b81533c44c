//! Whether batches may be numbered and published: not while the number of shards changes, nor while this process cannot know
//! whether it has changed.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

/// A process that has not looked at the layout of the shards for this long was frozen: others may have gone on without it.
const FROZEN_AFTER: Duration = Duration::from_secs(5);

/// The gate before all pipelines of a gateway.
#[derive(Debug)]
pub(crate) struct Gate {
    state: watch::Sender<State>,
}

#[derive(Debug, Clone, Copy)]
struct State {
    is_open: bool,
    /// Batches between the gate and the end of their publish.
    entered: usize,
    /// When the layout was looked at last, whether MySQL answered or not.
    looked: Instant,
    /// It was frozen, and has not read the layout since.
    is_stale: bool,
}

impl State {
    fn lets_in(&self, now: Instant) -> bool {
        self.is_open && !self.is_stale && now.duration_since(self.looked) < FROZEN_AFTER
    }
}

impl Gate {
    /// A gate that is closed until the layout is known.
    #[must_use]
    pub(crate) fn new() -> Self {
        let looked = Instant::now();
        Self { state: watch::Sender::new(State { is_open: false, entered: 0, looked, is_stale: false }) }
    }

    /// Lets one batch in, if the gate is open.
    #[must_use]
    pub(super) fn enter(&self) -> Option<Entered<'_>> {
        let (now, mut is_let_in) = (Instant::now(), false);
        self.state.send_if_modified(|state| {
            is_let_in = state.lets_in(now);
            state.entered += usize::from(is_let_in);
            false
        });
        // Not `then_some`: one that is made and not used would leave.
        is_let_in.then(|| Entered(self))
    }

    /// Resolves when the gate is open, or after `wait`. Returns whether it is.
    pub(super) async fn opens_within(&self, wait: Duration) -> bool {
        let mut state = self.state.subscribe();
        let opened = state.wait_for(|state| state.lets_in(Instant::now()));
        tokio::time::timeout(wait, opened).await.is_ok()
    }

    /// Closes the gate, and resolves when no batch is in flight. A batch has a timeout.
    pub(crate) async fn hold(&self) {
        self.state.send_modify(|state| state.is_open = false);
        let mut state = self.state.subscribe();
        // The sender is `self`: it cannot be gone.
        let _ = state.wait_for(|state| state.entered == 0).await;
    }

    /// Opens the gate.
    pub(crate) fn open(&self) {
        self.state.send_modify(|state| state.is_open = true);
    }

    /// The layout was read, or MySQL did not answer. After a longer time without either, only a reading opens the gate again.
    pub(crate) fn looked(&self, is_read: bool) {
        let now = Instant::now();
        self.state.send_modify(|state| {
            state.is_stale = !is_read && (state.is_stale || now.duration_since(state.looked) >= FROZEN_AFTER);
            state.looked = now;
        });
    }
}

/// A batch that was let in.
#[derive(Debug)]
pub(super) struct Entered<'g>(&'g Gate);

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        self.0.state.send_if_modified(|state| {
            state.entered -= 1;
            state.entered == 0 && !state.is_open
        });
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_closed_gate_waits_for_the_batches_in_flight() {
        let gate = Gate::new();
        assert!(gate.enter().is_none(), "it is closed until the layout is known");
        gate.open();
        let (one, other) = (gate.enter().unwrap(), gate.enter().unwrap());
        let mut holding = Box::pin(gate.hold());
        assert!(holding.as_mut().now_or_never().is_none());
        assert!(gate.enter().is_none());
        drop(one);
        assert!(holding.as_mut().now_or_never().is_none());
        drop(other);
        holding.await;
        assert!(!gate.opens_within(Duration::from_secs(1)).await);
        gate.open();
        assert!(gate.opens_within(Duration::ZERO).await && gate.enter().is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_frozen_process_publishes_nothing_until_it_has_read_the_layout() {
        let gate = Gate::new();
        gate.open();
        // MySQL is unavailable: messages are accepted all the same.
        for _ in 0..10 {
            tokio::time::advance(Duration::from_secs(3)).await;
            gate.looked(false);
            assert!(gate.enter().is_some());
        }
        tokio::time::advance(FROZEN_AFTER).await;
        assert!(gate.enter().is_none());
        gate.looked(false);
        assert!(gate.enter().is_none());
        gate.looked(true);
        assert!(gate.enter().is_some());
    }
}
