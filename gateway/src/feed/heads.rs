//! Waiting for the next row of a shard: one poller for all readers that wait.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use shared::metrics::GATEWAY_FEED_WAITING;
use shared::mysql::Pool;
use shared::mysql::feed;
use shared::shutdown::Shutdown;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep_until};

/// How often the newest positions of all shards are read, with one statement, while a reader waits.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// Before a row is read whose position was just seen: another node of a cluster, or another connection, may be a moment
/// behind. Then the reader waits again.
const VISIBLE_WITHIN: Duration = Duration::from_millis(5);

/// The newest position of each shard, by shard.
pub(super) type Newest = Arc<BTreeMap<u16, u64>>;

/// The newest position of each shard.
#[derive(Debug)]
pub(super) struct Heads {
    pool: Pool,
    newest: watch::Sender<Newest>,
    /// A reader waits.
    wake: Notify,
}

impl Heads {
    pub(super) fn new(pool: Pool) -> Self {
        Self { pool, newest: watch::Sender::default(), wake: Notify::new() }
    }

    /// Polls while readers wait, until the stop.
    pub(super) async fn follow(&self, stop: &Shutdown) {
        let mut is_failing = false;
        loop {
            #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
            metrics::gauge!(GATEWAY_FEED_WAITING).set(self.newest.receiver_count() as f64);
            if self.newest.receiver_count() == 0 {
                if stop.run_until_stopped(self.wake.notified()).await.is_none() {
                    return;
                }
                continue;
            }
            match feed::heads(&self.pool).await {
                Ok(heads) => {
                    is_failing = false;
                    self.set(heads);
                }
                Err(error) => {
                    if !std::mem::replace(&mut is_failing, true) {
                        tracing::warn!(%error, "The positions of the change feed cannot be read; its readers wait");
                    }
                }
            }
            if !stop.sleep(POLL_INTERVAL).await {
                return;
            }
        }
    }

    fn set(&self, heads: Vec<(u16, u64)>) {
        let now: Newest = Arc::new(heads.into_iter().collect());
        self.newest.send_if_modified(|newest| {
            let is_new = *newest != now;
            *newest = now;
            is_new
        });
    }

    /// Waits until the newest positions are those that a reader waits for. `None` at `until` and at the stop.
    pub(super) async fn wait_for(
        &self,
        mut is_due: impl FnMut(&BTreeMap<u16, u64>) -> bool,
        until: Instant,
        stop: &Shutdown,
    ) -> Option<Newest> {
        let mut newest = self.newest.subscribe();
        self.wake.notify_one();
        // The guard that it returns is not kept.
        let found =
            async { newest.wait_for(|newest| is_due(newest)).await.ok().map(|newest| Arc::clone(&newest)) };
        tokio::select! {
            found = found => {
                tokio::time::sleep(VISIBLE_WITHIN).await;
                found
            }
            () = sleep_until(until) => None,
            () = stop.stopping() => None,
        }
    }
}
