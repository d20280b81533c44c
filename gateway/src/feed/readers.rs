//! The gateway's own readers of the change feed: each shard of each reader runs in one gateway at a time, as long as that has
//! the lease.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use shared::feed::Cursor;
use shared::metrics::GATEWAY_FEED_READERS;
use shared::mysql::feed::{self, StoredReader};
use shared::mysql::{self, Pool, Tx};
use shared::shutdown::Shutdown;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};

/// How often leases are renewed, and readers without a gateway are looked for.
const ROUND: Duration = Duration::from_secs(1);
/// How long a reader stands still after its gateway was killed.
const LEASE: Duration = Duration::from_secs(10);
/// A reader stops this long before its lease is over, if that cannot be renewed.
const MARGIN: Duration = Duration::from_secs(2);
/// A gateway takes this part of the readers without a gateway in a round, so that gateways that start together share them.
const TAKEN_PART: usize = 4;

/// The lease of a reader of a shard, in the hand of the task that reads.
#[derive(Debug)]
pub(crate) struct Turn {
    /// The name of the reader.
    pub(crate) name: String,
    /// The shard that it reads.
    pub(crate) shard: u16,
    /// How far it has read.
    pub(crate) cursor: Cursor,
    /// Asked to stop when the lease is lost.
    pub(crate) stop: Shutdown,
    owner: Arc<str>,
}

impl Turn {
    /// Moves the stored place to `to`, which ends the failures of the reader. False if the lease is lost: the caller rolls
    /// back what belongs to it, and ends.
    ///
    /// # Errors
    /// The database's. Call it again, or end: the next turn begins at the stored place.
    pub(crate) async fn advance(&mut self, connection: &mut Tx, to: Cursor) -> Result<bool, mysql::Error> {
        self.move_to(connection, to, false).await
    }

    /// As [`advance`](Self::advance), after something was done with the events: that is a success of the reader.
    ///
    /// # Errors
    /// As [`advance`](Self::advance).
    pub(crate) async fn succeed(&mut self, connection: &mut Tx, to: Cursor) -> Result<bool, mysql::Error> {
        self.move_to(connection, to, true).await
    }

    async fn move_to(
        &mut self,
        connection: &mut Tx,
        to: Cursor,
        is_success: bool,
    ) -> Result<bool, mysql::Error> {
        let reader = (&*self.owner, self.name.as_str(), self.shard);
        let is_moved = feed::advance(connection, reader, (self.cursor, to), is_success).await?;
        if is_moved {
            self.cursor = to;
        }
        Ok(is_moved)
    }

    /// Records a failure for operators, with the time of the next attempt in milliseconds since 1970. False if the lease is
    /// lost: the caller ends.
    ///
    /// # Errors
    /// The database's.
    pub(crate) async fn fail(
        &self,
        connection: &mut Tx,
        error: &str,
        next_attempt_at: i64,
    ) -> Result<bool, mysql::Error> {
        let reader = (&*self.owner, self.name.as_str(), self.shard);
        feed::record_failure(connection, reader, error, next_attempt_at).await
    }
}

/// What runs readers of a kind.
#[async_trait]
pub(crate) trait FeedReader: Send + Sync {
    /// Whether it runs the reader of this name.
    fn has(&self, name: &str) -> bool;

    /// Reads until the stop of the turn. It may end before: then it runs again after a moment.
    async fn run(&self, turn: Turn);
}

/// The readers of a gateway.
pub(crate) struct Readers {
    pool: Pool,
    owner: Arc<str>,
    kinds: Vec<Arc<dyn FeedReader>>,
    running: BTreeMap<(String, u16), Running>,
}

struct Running {
    stop: Shutdown,
    task: JoinHandle<()>,
}

impl Readers {
    /// The readers of `kinds`, for the gateway with this number.
    pub(crate) fn new(pool: Pool, gateway: u64, kinds: Vec<Arc<dyn FeedReader>>) -> Self {
        Self { pool, owner: format!("{gateway:016x}").into(), kinds, running: BTreeMap::new() }
    }

    /// Takes leases and runs readers until the stop of `tasks`.
    pub(crate) async fn follow(mut self, tasks: Shutdown) {
        let mut safe_until = Instant::now() + LEASE;
        let mut is_failing = false;
        loop {
            let begun = Instant::now();
            match timeout_at(safe_until.max(begun + ROUND), self.round(&tasks)).await {
                Ok(Ok(())) => {
                    is_failing = false;
                    safe_until = begun + LEASE.saturating_sub(MARGIN);
                }
                Ok(Err(error)) => {
                    if !std::mem::replace(&mut is_failing, true) {
                        tracing::warn!(%error, "The leases of webhooks and notifications cannot be renewed");
                    }
                }
                Err(_) => {}
            }
            if Instant::now() >= safe_until {
                self.stop_all();
            }
            #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
            metrics::gauge!(GATEWAY_FEED_READERS).set(self.running.len() as f64);
            if !tasks.sleep(ROUND).await {
                break;
            }
        }
        self.stop_all();
        for running in self.running.into_values() {
            let _ = running.task.await;
        }
        // So that another gateway need not wait for the end of the leases.
        if let Err(error) = feed::release_leases(&self.pool, &self.owner).await {
            tracing::info!(%error, "The leases of webhooks and notifications are not given back; they end by themselves");
        }
    }

    async fn round(&mut self, tasks: &Shutdown) -> Result<(), mysql::Error> {
        let lease_ms = i64::try_from(LEASE.as_millis()).unwrap_or(i64::MAX);
        feed::renew_leases(&self.pool, &self.owner, lease_ms).await?;
        // Before the places are read: one that ends later has moved its place before, and runs again in the next round.
        self.running.retain(|_, running| !running.task.is_finished());
        let stored = feed::all_readers(&self.pool).await?;
        let (mine, others): (Vec<_>, Vec<_>) =
            stored.into_iter().partition(|reader| reader.owner == *self.owner);
        for ((name, shard), running) in &self.running {
            if !mine.iter().any(|reader| reader.name == *name && reader.shard == *shard) {
                running.stop.stop();
            }
        }
        for reader in mine {
            self.run(reader, tasks);
        }
        let free: Vec<_> = others
            .into_iter()
            .filter(|reader| reader.owner.is_empty() && !reader.is_paused)
            .filter(|reader| self.kinds.iter().any(|kind| kind.has(&reader.name)))
            .collect();
        let taken = free.len().div_ceil(TAKEN_PART);
        for reader in free.into_iter().take(taken) {
            let key = (reader.name.as_str(), reader.shard);
            // Its place is that of the time of the lease: nobody else moves it any more.
            if feed::take_lease(&self.pool, &self.owner, key, lease_ms).await? {
                tracing::debug!(reader = %reader.name, shard = reader.shard, "A reader of the change feed is taken");
            }
        }
        Ok(())
    }

    /// Starts a reader whose lease this gateway has, unless it runs.
    fn run(&mut self, reader: StoredReader, tasks: &Shutdown) {
        let StoredReader { name, shard, cursor, .. } = reader;
        let Some(kind) = self.kinds.iter().find(|kind| kind.has(&name)).map(Arc::clone) else { return };
        let key = (name.clone(), shard);
        if self.running.contains_key(&key) {
            return;
        }
        let stop = tasks.child();
        let turn = Turn { name, shard, cursor, stop: stop.clone(), owner: Arc::clone(&self.owner) };
        let task = tasks.spawn(async move {
            let until = turn.stop.clone();
            let _ = until.run_until_stopped(kind.run(turn)).await;
        });
        self.running.insert(key, Running { stop, task });
    }

    fn stop_all(&self) {
        for running in self.running.values() {
            running.stop.stop();
        }
    }
}
