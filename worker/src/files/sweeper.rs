//! Removes files that nobody uses: uploads that were never completed or sent, and files of recalled messages.
//!
//! The owner of shard 0 does it, in steps. While the shard changes hands two workers may do it: each step may run twice.

use std::sync::Arc;
use std::time::Duration;

use filestore::store::Incoming;
use filestore::{FileStore, StoreError};
use shared::config::Files;
use shared::ids::unix_millis;
use shared::message::FileId;
use shared::metrics::{FILE_BYTES_STORED, FILES_STORED, WORKER_FILE_BYTES_REMOVED, WORKER_FILES_REMOVED};
use shared::mysql::files as rows;
use shared::mysql::{self, Pool};
use shared::shard::ShardId;
use shared::shutdown::Shutdown;
use tokio::sync::watch;
use tokio::time::Instant;

/// Pause between two steps, also after a failure.
const PAUSE: Duration = Duration::from_secs(5);
/// Files of one step.
const STEP: u32 = 100;
/// How often the store is counted, and cleared of what arrived for uploads that are over.
const COUNT_INTERVAL: Duration = Duration::from_secs(600);
/// Remains of uploads that one step removes.
const REMAINS_MAX: usize = 1_000;

#[derive(Debug, thiserror::Error)]
enum SweepError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Database(#[from] mysql::Error),
}

/// Removes files that nobody uses.
#[derive(Debug)]
pub(super) struct Sweeper {
    pool: Pool,
    store: Arc<FileStore>,
    keep: Duration,
    counted_at: Option<Instant>,
}

impl Sweeper {
    pub(super) fn new(config: &Files, pool: Pool, store: Arc<FileStore>) -> Self {
        let keep = Duration::from_secs(config.unused_keep_s.into());
        Self { pool, store, keep, counted_at: None }
    }

    pub(super) async fn run(mut self, shards: watch::Receiver<Vec<ShardId>>, stop: Shutdown) {
        loop {
            let is_owner = shards.borrow().iter().any(|shard| shard.number() == 0);
            let mut is_done = true;
            if is_owner {
                is_done = self.step().await.unwrap_or_else(|error| {
                    tracing::warn!(%error, "Unused files cannot be removed now");
                    true
                });
            } else if self.counted_at.take().is_some() {
                metrics::gauge!(FILES_STORED).set(0.0);
                metrics::gauge!(FILE_BYTES_STORED).set(0.0);
            }
            if is_done && !stop.sleep(PAUSE).await {
                return;
            }
        }
    }

    /// One step. False if there is more to do.
    async fn step(&mut self) -> Result<bool, SweepError> {
        if self.counted_at.is_none_or(|at| at.elapsed() >= COUNT_INTERVAL) {
            self.counted_at = Some(Instant::now());
            self.count().await?;
        }
        let now = unix_millis();
        let due = rows::due(&self.pool, now, STEP).await?;
        for file_id in &due {
            self.remove(file_id, now).await?;
        }
        Ok(due.len() < STEP as usize)
    }

    async fn count(&self) -> Result<(), SweepError> {
        let (count, bytes) = rows::totals(&self.pool).await?;
        #[expect(clippy::cast_precision_loss, reason = "gauges are floating-point numbers")]
        let (count, bytes) = (count as f64, bytes as f64);
        metrics::gauge!(FILES_STORED).set(count);
        metrics::gauge!(FILE_BYTES_STORED).set(bytes);
        self.store.sweep_incoming(self.keep, REMAINS_MAX).await?;
        Ok(())
    }

    /// Each part may have been done before: by a step that was cut off.
    async fn remove(&self, file_id: &FileId, now: i64) -> Result<(), SweepError> {
        let Some(doomed) = rows::doom(&self.pool, file_id, now).await? else { return Ok(()) };
        if let Some(object) = &doomed.object {
            let incoming = Incoming { object_id: &object.object_id, upload_id: object.upload_id.as_deref() };
            self.store.remove(incoming).await?;
            rows::remove_object(&self.pool, &object.object_id).await?;
            metrics::counter!(WORKER_FILE_BYTES_REMOVED).increment(object.size);
        }
        rows::forget(&self.pool, file_id).await?;
        let reason = match (doomed.is_unfinished, doomed.is_unused) {
            (true, _) => "unfinished",
            (_, true) => "unused",
            _ => "gone",
        };
        metrics::counter!(WORKER_FILES_REMOVED, "reason" => reason).increment(1);
        Ok(())
    }
}
