//! Rebuilds inboxes that are missing from MySQL.

use ahash::RandomState;
use shared::ids::UserId;
use shared::mysql::{Pool, conversations};
use shared::redis::RedisError;
use shared::redis::inbox::{Inboxes, Order};
use tokio::sync::Mutex;

use crate::wire::api_error::ApiError;
use crate::wire::retry_delay::RetryDelay;

/// Inboxes that one gateway builds at the same time.
const CONCURRENCY: usize = 16;
/// Attempts of one build. Each fails only if another gateway began to build the same inbox meanwhile.
const ATTEMPTS_MAX: usize = 5;

#[derive(Debug)]
pub(super) struct InboxBuilder {
    pool: Pool,
    inboxes: Inboxes,
    hasher: RandomState,
    /// Users are hashed to these: two requests of one user do not build its inbox twice.
    locks: [Mutex<()>; CONCURRENCY],
}

impl InboxBuilder {
    pub(super) fn new(pool: Pool, inboxes: Inboxes) -> Self {
        Self { pool, inboxes, hasher: RandomState::new(), locks: std::array::from_fn(|_| Mutex::default()) }
    }

    /// Builds the inbox of `user` unless it has a valid one whose floor is `floor_min` or higher, perhaps from another
    /// request that built it meanwhile.
    pub(super) async fn build(&self, user: &UserId, floor_min: u64) -> Result<(), ApiError> {
        let hash = self.hasher.hash_one(user.as_str()) % CONCURRENCY as u64;
        let _building = self.locks[usize::try_from(hash).unwrap_or(0)].lock().await;
        for _ in 0..ATTEMPTS_MAX {
            let facts = self.inboxes.read(user, Order::RisingAfter(0), 0).await;
            let inbox = facts.map_err(|e| inbox_unavailable(&e))?.inbox;
            if inbox.is_some_and(|inbox| inbox.floor >= floor_min) {
                return Ok(());
            }
            let opened = self.inboxes.open(user).await.map_err(|e| inbox_unavailable(&e))?;
            let all = conversations::of_user(&self.pool, user).await.map_err(|e| ApiError::database(&e))?;
            metrics::counter!(shared::metrics::GATEWAY_INBOXES_BUILT).increment(1);
            self.inboxes.fill(user, &opened, &all).await.map_err(|e| inbox_unavailable(&e))?;
        }
        Err(rebuilt_too_often())
    }
}

pub(super) fn inbox_unavailable(error: &RedisError) -> ApiError {
    tracing::warn!(%error, "Cannot read an inbox from Redis; the request is refused with 503");
    ApiError::unavailable("the inbox is unavailable: try again", RetryDelay::StoreUnavailable)
}

pub(super) fn rebuilt_too_often() -> ApiError {
    ApiError::unavailable("your inbox is being built: try again", RetryDelay::Overloaded)
}
