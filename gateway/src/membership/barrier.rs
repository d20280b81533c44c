//! Barriers: a change waits until all gateways have applied it, so that it holds when its caller is answered.
//!
//! A barrier follows the change in the stream of events. Each gateway answers it when it has applied all changes before.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ahash::{AHashMap, AHashSet};
use parking_lot::Mutex;
use proto::v1;
use proto::v1::event::Kind;
use tokio::sync::watch;

use super::liveness::{Live, LiveGateways};
use crate::announce::Announcer;

/// How long a change waits for gateways that do not answer. A gateway that is cut off finds the change in the database
/// about as soon.
pub(super) const BARRIER_TIMEOUT: Duration = Duration::from_secs(1);

/// The barriers of this gateway that are open, and its answers to those of others.
#[derive(Debug)]
pub(crate) struct Barriers<L = LiveGateways> {
    gateway: u64,
    announcer: Announcer,
    live: Arc<L>,
    next_number: AtomicU64,
    open: Mutex<AHashMap<u64, Open>>,
}

#[derive(Debug)]
struct Open {
    /// Gateways that have answered.
    reached: AHashSet<u64>,
    changed: watch::Sender<usize>,
}

impl<L: Live> Barriers<L> {
    /// No barrier is open.
    #[must_use]
    pub(crate) fn new(gateway: u64, announcer: Announcer, live: Arc<L>) -> Self {
        Self { gateway, announcer, live, next_number: AtomicU64::new(1), open: Mutex::default() }
    }

    /// Makes this gateway known to the others, so that their changes wait for it. To be called once its events arrive,
    /// before the first client is accepted.
    pub(crate) async fn hello(&self) {
        if !self.wait(None).await {
            // A gateway that starts at the same moment answers nothing before its queue is bound, and misses nothing: it
            // loads the memberships afterwards.
            tracing::debug!("not every gateway has greeted this one yet");
        }
    }

    /// Announces `event` and waits until every live gateway has applied it, for at most a second.
    pub(crate) async fn announce(&self, event: Kind) {
        if !self.wait(Some(event)).await {
            tracing::warn!(
                "not every gateway has confirmed a change in time: the others find it in the database"
            );
        }
    }

    /// Returns whether all live gateways have answered within the time limit.
    async fn wait(&self, event: Option<Kind>) -> bool {
        let number = self.next_number.fetch_add(1, Ordering::Relaxed);
        let (changed, mut reached) = watch::channel(0);
        self.open.lock().insert(number, Open { reached: AHashSet::new(), changed });
        if let Some(event) = event {
            self.announcer.announce(event);
        }
        self.announcer.announce(Kind::Fence(v1::Fence { gateway: self.gateway, number }));
        let all = async { while !self.is_reached(number) && reached.changed().await.is_ok() {} };
        let in_time = tokio::time::timeout(BARRIER_TIMEOUT, all).await.is_ok();
        self.open.lock().remove(&number);
        in_time
    }

    fn is_reached(&self, number: u64) -> bool {
        let live = self.live.all();
        self.open.lock().get(&number).is_none_or(|open| live.is_subset(&open.reached))
    }

    /// Answers a barrier: all changes before it are applied here.
    pub(crate) fn answer(&self, barrier: &v1::Fence) {
        let v1::Fence { gateway, number } = *barrier;
        let answer = v1::FenceReached { gateway, number, by: self.gateway };
        self.live.heard(gateway);
        if gateway == self.gateway {
            self.answered(&answer);
        } else {
            self.announcer.announce(Kind::FenceReached(answer));
        }
    }

    /// A gateway has answered a barrier. Returns whether the barrier was this gateway's.
    pub(crate) fn answered(&self, answer: &v1::FenceReached) -> bool {
        // Of two gateways that start together, the one whose queue is bound first hears of the other by this only.
        self.live.heard(answer.by);
        if answer.gateway != self.gateway {
            return false;
        }
        if let Some(open) = self.open.lock().get_mut(&answer.number) {
            open.reached.insert(answer.by);
            open.changed.send_replace(open.reached.len());
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;
    use tokio::sync::mpsc;
    use tokio::time::Instant;

    use super::*;

    /// The gateway of these tests.
    const SELF: u64 = 1;

    #[derive(Debug)]
    struct Known(Mutex<AHashSet<u64>>);

    impl Live for Known {
        fn all(&self) -> AHashSet<u64> {
            self.0.lock().clone()
        }

        fn heard(&self, gateway: u64) {
            self.0.lock().insert(gateway);
        }
    }

    fn barriers(live: &[u64]) -> (Barriers<Known>, mpsc::Receiver<Kind>) {
        let (announcer, events) = Announcer::fake();
        let known = Known(Mutex::new(live.iter().copied().collect()));
        (Barriers::new(SELF, announcer, Arc::new(known)), events)
    }

    fn answer(number: u64, by: u64) -> v1::FenceReached {
        v1::FenceReached { gateway: SELF, number, by }
    }

    #[tokio::test(start_paused = true)]
    async fn a_change_waits_for_every_live_gateway() {
        let (barriers, mut events) = barriers(&[SELF, 2, 3]);
        let mut waiting = Box::pin(barriers.announce(Kind::Typing(v1::Typing::default())));
        assert!(waiting.as_mut().now_or_never().is_none());
        assert!(matches!(events.recv().await, Some(Kind::Typing(_))), "the change comes before its barrier");
        let Some(Kind::Fence(barrier)) = events.recv().await else { panic!("no barrier") };
        barriers.answer(&barrier);
        for wrong in [
            answer(barrier.number, 2),
            answer(barrier.number, 2),
            answer(barrier.number + 1, 3),
            answer(0, 3),
        ] {
            assert!(barriers.answered(&wrong));
            assert!(waiting.as_mut().now_or_never().is_none(), "{wrong:?} ended the wait");
        }
        let begun = Instant::now();
        barriers.answered(&answer(barrier.number, 3));
        waiting.await;
        assert_eq!(begun.elapsed(), Duration::ZERO);
        assert!(barriers.open.lock().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_change_waits_a_second_for_a_gateway_that_does_not_answer() {
        let (barriers, _events) = barriers(&[SELF, 2]);
        let begun = Instant::now();
        barriers.hello().await;
        assert_eq!(begun.elapsed(), BARRIER_TIMEOUT);
        assert!(barriers.open.lock().is_empty());
        // The late answer finds nothing.
        assert!(barriers.answered(&answer(1, 2)));
    }

    #[tokio::test]
    async fn barriers_of_other_gateways_are_answered() {
        let (barriers, mut events) = barriers(&[SELF]);
        barriers.answer(&v1::Fence { gateway: 2, number: 7 });
        let Some(Kind::FenceReached(reached)) = events.recv().await else { panic!("no answer") };
        assert_eq!((reached.gateway, reached.number, reached.by), (2, 7, SELF));
        assert!(!barriers.answered(&reached), "an answer to another gateway is not for this one");
        assert!(barriers.live.all().contains(&2), "a gateway that was heard is alive");
    }
}
