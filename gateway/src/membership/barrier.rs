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

use super::liveness::LiveGateways;
use crate::announce::Announcer;

/// How long a change waits for gateways that do not answer. A gateway that is cut off finds the change in the database
/// about as soon.
pub(super) const BARRIER_TIMEOUT: Duration = Duration::from_secs(1);

/// The barriers of this gateway that are open, and its answers to those of others.
#[derive(Debug)]
pub(crate) struct Barriers {
    gateway: u64,
    announcer: Announcer,
    live: Arc<LiveGateways>,
    next_number: AtomicU64,
    open: Mutex<AHashMap<u64, Open>>,
}

#[derive(Debug)]
struct Open {
    /// Gateways that have answered.
    reached: AHashSet<u64>,
    changed: watch::Sender<usize>,
}

impl Barriers {
    /// No barrier is open.
    #[must_use]
    pub(crate) fn new(gateway: u64, announcer: Announcer, live: Arc<LiveGateways>) -> Self {
        Self { gateway, announcer, live, next_number: AtomicU64::new(1), open: Mutex::default() }
    }

    /// Makes this gateway known to the others, so that their changes wait for it. To be called once its events arrive,
    /// before the first client is accepted.
    pub(crate) async fn hello(&self) {
        self.wait(None).await;
    }

    /// Announces `event` and waits until every live gateway has applied it, for at most a second.
    pub(crate) async fn announce(&self, event: Kind) {
        self.wait(Some(event)).await;
    }

    async fn wait(&self, event: Option<Kind>) {
        let number = self.next_number.fetch_add(1, Ordering::Relaxed);
        let (changed, mut reached) = watch::channel(0);
        self.open.lock().insert(number, Open { reached: AHashSet::new(), changed });
        if let Some(event) = event {
            self.announcer.announce(event);
        }
        self.announcer.announce(Kind::Fence(v1::Fence { gateway: self.gateway, number }));
        let all = async { while !self.is_reached(number) && reached.changed().await.is_ok() {} };
        if tokio::time::timeout(BARRIER_TIMEOUT, all).await.is_err() {
            tracing::warn!(
                number,
                "not every gateway has confirmed a change in time: the others find it in the database"
            );
        }
        self.open.lock().remove(&number);
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
