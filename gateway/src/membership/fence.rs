//! Waiting until all gateways have applied a change, so that it holds when its caller hears that it was made.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use ahash::{AHashMap, AHashSet};
use parking_lot::Mutex;
use proto::v1;
use proto::v1::event::Kind;
use shared::redis::live_board::LiveBoard;
use shared::shutdown::Shutdown;
use tokio::sync::watch;

use crate::announce::Announcer;

/// How long a change waits for gateways that do not answer. One that is cut off finds the change in the database about
/// as soon.
const PATIENCE: Duration = Duration::from_secs(1);
/// How often a gateway says that it is alive.
const BEAT_INTERVAL: Duration = Duration::from_secs(2);
/// A gateway that said nothing for so long is dead: so late, at most, its users are offline.
pub const GATEWAY_EXPIRY: Duration = Duration::from_secs(6);

/// The gateways that are alive.
#[derive(Debug)]
pub struct LiveGateways {
    board: LiveBoard,
    gateway: u64,
    known: Mutex<Known>,
}

#[derive(Debug)]
struct Known {
    on_board: AHashSet<u64>,
    /// Those that spoke, and when: one that has just started may be missing in what the board said before.
    heard: AHashMap<u64, Instant>,
}

impl LiveGateways {
    /// Puts this gateway on the board and reads who else is there. Without the board it knows of itself only.
    pub async fn join(board: LiveBoard, gateway: u64) -> Arc<Self> {
        let known = Known { on_board: AHashSet::from_iter([gateway]), heard: AHashMap::new() };
        let live = Arc::new(Self { board, gateway, known: Mutex::new(known) });
        live.beat().await;
        live
    }

    /// Says every two seconds that this gateway is alive, until the stop; then takes it off the board.
    pub async fn stay(self: Arc<Self>, shutdown: Shutdown) {
        while shutdown.sleep(BEAT_INTERVAL).await {
            self.beat().await;
        }
        if let Err(error) = self.board.leave(&self.name()).await {
            tracing::warn!(%error, "this gateway stays on the board until it expires");
        }
    }

    /// The numbers of all of them, this one's included.
    #[must_use]
    pub fn all(&self) -> AHashSet<u64> {
        let known = self.known.lock();
        known.on_board.iter().chain(known.heard.keys()).copied().collect()
    }

    fn name(&self) -> String {
        format!("{:016x}", self.gateway)
    }

    async fn beat(&self) {
        match self.board.beat(&self.name()).await {
            Ok(all) => {
                let numbers = all.iter().filter_map(|id| u64::from_str_radix(id, 16).ok());
                let mut known = self.known.lock();
                known.on_board = numbers.chain([self.gateway]).collect();
                known.heard.retain(|_, heard| heard.elapsed() < BEAT_INTERVAL);
            }
            Err(error) => tracing::warn!(%error, "the board of gateways could not be reached"),
        }
    }

    fn heard_of(&self, gateway: u64) {
        self.known.lock().heard.insert(gateway, Instant::now());
    }
}

/// Fences that are waited for.
#[derive(Debug)]
pub struct Fences {
    gateway: u64,
    announcer: Announcer,
    live: Arc<LiveGateways>,
    numbers: AtomicU64,
    waiting: Mutex<AHashMap<u64, Waiting>>,
}

#[derive(Debug)]
struct Waiting {
    reached: AHashSet<u64>,
    changed: watch::Sender<usize>,
}

impl Fences {
    /// Fences of this gateway.
    #[must_use]
    pub fn new(gateway: u64, announcer: Announcer, live: Arc<LiveGateways>) -> Self {
        Self { gateway, announcer, live, numbers: AtomicU64::new(1), waiting: Mutex::default() }
    }

    /// Makes this gateway known to the others, so that changes wait for it. To be called when its events arrive, before
    /// the first client is let in.
    pub async fn hello(&self) {
        self.wait(None).await;
    }

    /// Announces `event` and waits until every live gateway has applied it, at most a second.
    pub async fn announce(&self, event: Kind) {
        self.wait(Some(event)).await;
    }

    async fn wait(&self, event: Option<Kind>) {
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        let (changed, mut reached) = watch::channel(0);
        self.waiting.lock().insert(number, Waiting { reached: AHashSet::new(), changed });
        if let Some(event) = event {
            self.announcer.announce(event);
        }
        self.announcer.announce(Kind::Fence(v1::Fence { gateway: self.gateway, number }));
        let all = async { while !self.is_reached(number) && reached.changed().await.is_ok() {} };
        if tokio::time::timeout(PATIENCE, all).await.is_err() {
            tracing::warn!(
                number,
                "not every gateway has said that it applied a change: they find it in the database"
            );
        }
        self.waiting.lock().remove(&number);
    }

    fn is_reached(&self, number: u64) -> bool {
        let live = self.live.all();
        self.waiting.lock().get(&number).is_none_or(|waiting| live.is_subset(&waiting.reached))
    }

    /// Somebody's fence came by: all before it was applied here.
    pub fn passed(&self, fence: &v1::Fence) -> bool {
        let v1::Fence { gateway, number } = *fence;
        let reached = v1::FenceReached { gateway, number, by: self.gateway };
        self.live.heard_of(gateway);
        if gateway == self.gateway {
            return self.reached(&reached);
        }
        self.announcer.announce(Kind::FenceReached(reached));
        true
    }

    /// A gateway has answered somebody's fence.
    pub fn reached(&self, reached: &v1::FenceReached) -> bool {
        // Of two that start together, the one whose queue is bound first hears of the other by this only.
        self.live.heard_of(reached.by);
        if reached.gateway != self.gateway {
            return false;
        }
        if let Some(waiting) = self.waiting.lock().get_mut(&reached.number) {
            waiting.reached.insert(reached.by);
            waiting.changed.send_replace(waiting.reached.len());
        }
        true
    }
}
