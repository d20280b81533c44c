//! Small pictures, and pictures without their metadata.
//!
//! A job is a row of the database that a worker takes for a while. If the worker is killed, another one takes it when that
//! time is over; after three attempts nobody does, so that a picture that kills its worker does no more harm.

use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use filestore::link::Variant;
use filestore::picture::{self, PictureError, Thumb};
use filestore::{FileStore, StoreError, metadata};
use futures_util::future::join_all;
use shared::config::Files;
use shared::ids::unix_millis;
use shared::metrics::{WORKER_PICTURE_TIME, WORKER_PICTURES};
use shared::mysql::files::{self as rows, Job, Looked};
use shared::mysql::{self, Pool};
use shared::shutdown::Shutdown;

/// Pause after a look that found no job.
const PAUSE: Duration = Duration::from_millis(500);
/// Pause after a failure of the database.
const FAILED_PAUSE: Duration = Duration::from_secs(5);
/// How long a worker has a job, in milliseconds.
const LEASE_MS: i64 = 60_000;
/// Attempts at one picture.
const ATTEMPTS_MAX: u8 = 3;

#[derive(Debug, thiserror::Error)]
enum JobError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Database(#[from] mysql::Error),
}

/// Looks at pictures.
#[derive(Debug)]
pub(super) struct Pictures {
    pool: Pool,
    store: Arc<FileStore>,
    at_once: usize,
    pixels_max: u64,
    strips_metadata: bool,
}

/// What came out of the bytes of a picture.
struct Decoded {
    thumb: Result<Thumb, PictureError>,
    /// The original without metadata. The inner `None`: it cannot be rewritten.
    stripped: Option<Option<Vec<u8>>>,
}

impl Pictures {
    pub(super) fn new(config: &Files, pool: Pool, store: Arc<FileStore>) -> Self {
        Self {
            pool,
            store,
            at_once: config.pictures_at_once,
            pixels_max: config.picture_pixels_max,
            strips_metadata: config.strip_metadata,
        }
    }

    pub(super) async fn run(self, stop: Shutdown) {
        loop {
            let pause = match self.round().await {
                // There may be more.
                Ok(true) => Duration::ZERO,
                Ok(false) => PAUSE,
                Err(error) => {
                    tracing::warn!(%error, "Pictures cannot be looked at now");
                    FAILED_PAUSE
                }
            };
            if !stop.sleep(pause).await {
                return;
            }
        }
    }

    /// Takes the jobs that are due, as many as run at once. Whether there were any.
    async fn round(&self) -> Result<bool, mysql::Error> {
        let count = u32::try_from(self.at_once).unwrap_or(u32::MAX);
        let due = rows::due_jobs(&self.pool, unix_millis(), count).await?;
        let mut taken = Vec::with_capacity(due.len());
        for job in due {
            if rows::claim(&self.pool, &job, unix_millis() + LEASE_MS).await? {
                taken.push(job);
            }
        }
        let has_any = !taken.is_empty();
        join_all(taken.iter().map(|job| self.look_at(job))).await;
        Ok(has_any)
    }

    async fn look_at(&self, job: &Job) {
        let begun = Instant::now();
        let result = match self.carry_out(job).await {
            Ok(result) => result,
            Err(error) => {
                tracing::warn!(object = %job.object_id, attempt = job.attempts + 1, %error, "A picture could not be looked at");
                "failed"
            }
        };
        metrics::counter!(WORKER_PICTURES, "result" => result).increment(1);
        metrics::histogram!(WORKER_PICTURE_TIME).record(begun.elapsed());
    }

    async fn carry_out(&self, job: &Job) -> Result<&'static str, JobError> {
        let id = &job.object_id;
        if job.attempts >= ATTEMPTS_MAX {
            tracing::warn!(object = %id, "A picture was given up after {ATTEMPTS_MAX} attempts");
            rows::give_up(&self.pool, id, unix_millis()).await?;
            return Ok("refused");
        }
        let bytes = self.store.read_all(id, Variant::Original, 0..job.size).await?;
        let Decoded { thumb, stripped } = self.decode(bytes, job.content_type.clone()).await;
        let mut looked = Looked::default();
        match stripped {
            Some(Some(bytes)) => {
                looked.size = Some(bytes.len() as u64);
                self.store.write(id, Variant::Original, bytes).await?;
            }
            Some(None) => {
                tracing::info!(object = %id, "A picture was removed, because its metadata cannot be removed");
                rows::give_up(&self.pool, id, unix_millis()).await?;
                return Ok("refused");
            }
            None => {}
        }
        let result = match thumb {
            Ok(thumb) => {
                looked.dimensions = Some(thumb.dimensions);
                looked.thumbhash = Some(STANDARD.encode(thumb.hash));
                looked.thumb_type = Some(thumb.content_type);
                self.store.write(id, Variant::Thumb, thumb.bytes).await?;
                "done"
            }
            Err(error) => {
                tracing::info!(object = %id, %error, "A picture has no small picture");
                "refused"
            }
        };
        rows::finish(&self.pool, id, &looked).await?;
        Ok(result)
    }

    /// On a thread of its own: it takes up to seconds.
    async fn decode(&self, bytes: Vec<u8>, content_type: String) -> Decoded {
        let (pixels_max, strips) =
            (self.pixels_max, self.strips_metadata && metadata::can_strip(&content_type));
        let decoded = tokio::task::spawn_blocking(move || Decoded {
            thumb: picture::thumb(&bytes, pixels_max),
            stripped: strips.then(|| metadata::stripped(&bytes, &content_type)),
        });
        decoded.await.unwrap_or_else(|panicked| Decoded {
            thumb: Err(PictureError::Panicked(panicked.to_string())),
            stripped: strips.then_some(None),
        })
    }
}
