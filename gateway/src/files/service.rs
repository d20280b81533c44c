//! What all calls about files use.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use filestore::link::LinkKey;
use filestore::{FileStore, StoreError};
use shared::live::Live;
use shared::message::FileId;
use shared::mysql::Pool;
use shared::mysql::files::{File, FileState};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep, timeout_at};

use crate::config::Config;
use crate::membership::Memberships;
use crate::shares::{Share, Shares};
use crate::wire::api_error::ApiError;
use crate::wire::retry_delay::RetryDelay;

/// How long a transfer waits for a place.
const PLACE_WAIT: Duration = Duration::from_secs(10);
/// Pause before an address that has its share asks again.
const SHARE_PAUSE: Duration = Duration::from_millis(50);
/// An address has one of this many places for transfers.
const ADDRESS_PART: usize = 4;

/// Pictures and files.
#[derive(Debug)]
pub(crate) struct Files {
    pub(super) store: Arc<FileStore>,
    /// `None`: links lead to the store.
    pub(super) key: Option<LinkKey>,
    pub(super) pool: Pool,
    pub(super) memberships: Arc<Memberships>,
    live: Arc<Live<Config>>,
    transfers: Arc<Semaphore>,
    transfers_max: usize,
    by_address: Shares<std::net::IpAddr>,
}

/// The place of a transfer, until it is dropped.
#[derive(Debug)]
pub(crate) struct TransferPlace {
    _permit: OwnedSemaphorePermit,
    _share: Share<std::net::IpAddr>,
}

impl Files {
    /// The service of `config`; `None` if there is no store.
    ///
    /// # Errors
    /// The store is unusable.
    pub(crate) async fn open(
        live: &Arc<Live<Config>>,
        pool: &Pool,
        memberships: &Arc<Memberships>,
    ) -> Result<Option<Arc<Self>>, StoreError> {
        let config = live.now();
        let Some(store) = FileStore::open(&config.files)? else { return Ok(None) };
        if let Err(error) = store.check().await {
            // As with the other stores: it may come back.
            tracing::error!(%error, "The store of the files cannot be written; uploads fail until it can: {error}");
        }
        let secret = config.files.links_key.expose();
        let transfers_max = config.files.transfers_at_once;
        Ok(Some(Arc::new(Self {
            store,
            key: (!secret.is_empty()).then(|| LinkKey::new(secret)),
            pool: pool.clone(),
            memberships: Arc::clone(memberships),
            live: Arc::clone(live),
            transfers: Arc::new(Semaphore::new(transfers_max)),
            transfers_max,
            by_address: Shares::new(),
        })))
    }

    /// The settings that apply now.
    pub(super) fn settings(&self) -> Arc<Config> {
        self.live.now()
    }

    /// The place for a transfer from `address`, which is waited for.
    ///
    /// # Errors
    /// 429 if the address has its share for ten seconds, 503 if all places are taken.
    pub(crate) async fn place(&self, address: std::net::IpAddr) -> Result<TransferPlace, ApiError> {
        let until = Instant::now() + PLACE_WAIT;
        let share_max = self.transfers_max.div_ceil(ADDRESS_PART);
        let share = loop {
            if let Some((share, _)) = self.by_address.take(&address, share_max) {
                break share;
            }
            if Instant::now() > until {
                return Err(ApiError::RateLimited {
                    message: "your address has its share of transfers: wait until one ends".to_owned(),
                    retry_after_ms: RetryDelay::Overloaded.random_ms(),
                });
            }
            sleep(SHARE_PAUSE).await;
        };
        match timeout_at(until, Arc::clone(&self.transfers).acquire_owned()).await {
            Ok(Ok(permit)) => Ok(TransferPlace { _permit: permit, _share: share }),
            _ => {
                let message = "this gateway carries as many files as it can: try again";
                Err(ApiError::unavailable(message, RetryDelay::Overloaded))
            }
        }
    }

    /// The file `id`, which may be begun or complete.
    ///
    /// # Errors
    /// 404, 503.
    pub(super) async fn file(&self, id: &FileId) -> Result<File, ApiError> {
        let found = shared::mysql::files::find(&self.pool, id).await.map_err(|e| ApiError::database(&e))?;
        found.filter(|file| file.state != FileState::Gone).ok_or_else(no_file)
    }
}

pub(super) fn no_file() -> ApiError {
    ApiError::NotFound("there is no such file".to_owned())
}

/// What the caller is told when the store fails.
pub(crate) fn store_failed(error: &StoreError) -> ApiError {
    tracing::warn!(%error, "the store of the files failed: {error}");
    ApiError::unavailable("the store of the files is unavailable: try again", RetryDelay::StoreUnavailable)
}

/// The time, in seconds since 1970.
pub(super) fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}
