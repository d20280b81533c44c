//! Which gateways are alive.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ahash::{AHashMap, AHashSet};
use parking_lot::Mutex;
use shared::redis::liveness_registry::LivenessRegistry;
use shared::shutdown::Shutdown;

/// How often a gateway reports that it is alive.
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(2);
/// How long others are remembered that are not in the registry any more: it may have been lost.
const OTHERS_WITHIN: Duration = Duration::from_secs(60);

/// Which gateways are alive.
pub(crate) trait Live {
    /// All live gateways, this one included.
    fn all(&self) -> AHashSet<u64>;
    /// An event of `gateway` was heard.
    fn heard(&self, gateway: u64);
}

/// The gateways that are alive, by their registry in Redis and by their events.
#[derive(Debug)]
pub(crate) struct LiveGateways {
    registry: LivenessRegistry,
    gateway: u64,
    known: Mutex<Known>,
    /// Why the last heartbeat was not recorded.
    failure: Mutex<Option<String>>,
}

#[derive(Debug)]
struct Known {
    /// By the last answer of the registry.
    registered: AHashSet<u64>,
    /// Gateways whose events were heard, and when: one that has just started may be missing in the last answer.
    heard: AHashMap<u64, Instant>,
    /// When the registry last had others.
    had_others: Option<Instant>,
}

impl LiveGateways {
    /// Registers this gateway and reads which others there are. Without the registry, it knows of itself only.
    pub(crate) async fn join(registry: LivenessRegistry, gateway: u64) -> Arc<Self> {
        let known =
            Known { registered: AHashSet::from_iter([gateway]), heard: AHashMap::new(), had_others: None };
        let live = Arc::new(Self { registry, gateway, known: Mutex::new(known), failure: Mutex::default() });
        live.beat().await;
        live
    }

    /// Sends a heartbeat every two seconds until the stop; then leaves the registry.
    pub(crate) async fn stay(self: Arc<Self>, shutdown: Shutdown) {
        while shutdown.sleep(HEARTBEAT_INTERVAL).await {
            self.beat().await;
        }
        if let Err(error) = self.registry.leave(&self.name()).await {
            tracing::warn!(%error, "leaving the registry of gateways failed: this gateway stays in it until it expires");
        }
    }

    fn name(&self) -> String {
        format!("{:016x}", self.gateway)
    }

    /// Why the last heartbeat was not recorded: Redis is unreachable, or takes no writes. `None` if it was.
    #[must_use]
    pub(crate) fn failure(&self) -> Option<String> {
        self.failure.lock().clone()
    }

    /// Whether there were other gateways within the last minute: without any, all events come here.
    #[must_use]
    pub(crate) fn had_others(&self) -> bool {
        self.known.lock().had_others.is_some_and(|had| had.elapsed() < OTHERS_WITHIN)
    }

    async fn beat(&self) {
        let beat = self.registry.beat(&self.name()).await;
        *self.failure.lock() = beat.as_ref().err().map(ToString::to_string);
        // After a failure the last known gateways are kept. The readiness check of Redis reports it.
        if let Ok(all) = beat {
            let numbers = all.iter().filter_map(|id| u64::from_str_radix(id, 16).ok());
            let mut known = self.known.lock();
            known.registered = numbers.chain([self.gateway]).collect();
            if known.registered.len() > 1 {
                known.had_others = Some(Instant::now());
            }
            known.heard.retain(|_, heard| heard.elapsed() < HEARTBEAT_INTERVAL);
        }
    }
}

impl Live for LiveGateways {
    fn all(&self) -> AHashSet<u64> {
        let known = self.known.lock();
        known.registered.iter().chain(known.heard.keys()).copied().collect()
    }

    fn heard(&self, gateway: u64) {
        self.known.lock().heard.insert(gateway, Instant::now());
    }
}
