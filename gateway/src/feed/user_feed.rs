//! The change feed as one user sees it: the events of its own conversations, from all shards, with one cursor.

use std::sync::Arc;

use shared::feed::{Cursor, Cursors};
use shared::ids::UserId;
use shared::shutdown::Shutdown;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Duration, Instant, timeout};
use tokio_tungstenite::tungstenite::Utf8Bytes;

use super::pages::{ChangeFeed, too_many_wait};
use super::reading::Reading;
use super::tails::{Tails, UNUSED_MAX};
use super::user_page::{self, PageContext};
use crate::budget::{Budgets, Payer, ReadPermit, cost};
use crate::membership::Memberships;
use crate::shares::{Share, Shares};
use crate::wire::api_error::ApiError;
use crate::wire::retry_delay::RetryDelay;

/// Calls of users that wait at this gateway at a time; a further one gets 503.
const WAITING_MAX: usize = 1_024;
/// Of one user; a further one gets 429.
const WAITING_OF_USER_MAX: usize = 4;

/// Where a call begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum UserStart {
    /// With the oldest events that are kept.
    Oldest,
    /// After all events that there are.
    Latest,
    /// After these.
    After(Cursors),
}

/// The parts that it uses.
#[derive(Debug)]
pub(crate) struct UserFeedDeps {
    /// All events.
    pub(crate) feed: Arc<ChangeFeed>,
    /// For what users see.
    pub(crate) memberships: Arc<Memberships>,
    /// Of the users who read.
    pub(crate) budgets: Arc<Budgets>,
    /// A read begins within this time.
    pub(crate) deadline: Duration,
}

/// The change feed for users.
#[derive(Debug)]
pub(crate) struct UserFeed {
    deps: UserFeedDeps,
    tails: Tails,
    waiting: Semaphore,
    by_user: Shares<UserId>,
}

/// A place to wait, until it is dropped.
#[derive(Debug)]
pub(crate) struct WaitingPlace<'f> {
    _permit: SemaphorePermit<'f>,
    _share: Share<UserId>,
}

impl UserFeed {
    /// `tasks` stops the task that it starts.
    pub(crate) fn start(deps: UserFeedDeps, tasks: &Shutdown) -> Arc<Self> {
        let tails = Tails::new(deps.feed.pool().clone(), deps.feed.shards());
        let (waiting, by_user) = (Semaphore::new(WAITING_MAX), Shares::new());
        let feed = Arc::new(Self { deps, tails, waiting, by_user });
        let (cleaned, until) = (Arc::clone(&feed), tasks.clone());
        tasks.spawn_essential("tails of the change feed", async move {
            while until.sleep(UNUSED_MAX).await {
                cleaned.tails.drop_unused(Instant::now() - UNUSED_MAX);
            }
        });
        feed
    }

    /// All events.
    pub(crate) fn all(&self) -> &ChangeFeed {
        &self.deps.feed
    }

    /// A place to wait.
    ///
    /// # Errors
    /// 429 if the user waits in too many calls, 503 if too many users do.
    pub(crate) fn place(&self, user: &UserId) -> Result<WaitingPlace<'_>, ApiError> {
        let Some((share, _)) = self.by_user.take(user, WAITING_OF_USER_MAX) else {
            return Err(ApiError::RateLimited {
                message: format!(
                    "{WAITING_OF_USER_MAX} of your calls wait at this gateway: end one of them first"
                ),
                retry_after_ms: RetryDelay::Overloaded.random_ms(),
            });
        };
        let permit = self.waiting.try_acquire().map_err(|_| too_many_wait(WAITING_MAX))?;
        Ok(WaitingPlace { _permit: permit, _share: share })
    }

    /// Begins to read for `user`.
    ///
    /// # Errors
    /// 410 if events after the cursor are removed, 429, 503.
    pub(crate) async fn begin<'c>(
        &self,
        (payer, user): (&'c Payer, &'c UserId),
        start: UserStart,
        limit: u16,
    ) -> Result<Reading<'c>, ApiError> {
        let _permit = self.permit(payer, cost::PULL).await?;
        let feed = &self.deps.feed;
        let shards = feed.shards();
        let (cursors, heads) = match start {
            UserStart::Oldest => {
                let extents = feed.extents().await?;
                let before = |shard: u16| {
                    extents.iter().find(|extent| extent.shard == shard).map(|found| found.before)
                };
                let cursors = Cursors::new(shards, |shard| Cursor::after(before(shard).unwrap_or(0)));
                (cursors, Arc::new(extents.iter().map(|extent| (extent.shard, extent.head)).collect()))
            }
            UserStart::Latest => {
                let heads = feed.heads().await?;
                (Cursors::new(shards, |shard| Cursor::after(heads.get(&shard).copied().unwrap_or(0))), heads)
            }
            UserStart::After(cursors) => (cursors, feed.heads().await?),
        };
        let reading = Reading { payer, user, limit, cursors, heads, reader: None };
        if reading.cursors.iter().any(|(shard, cursor)| cursor > Cursor::after(reading.head(shard))) {
            // The rows of another time may be in memory.
            feed.check(&reading.cursors).await.inspect_err(|_| self.tails.drop_unused(Instant::now()))?;
        }
        Ok(reading)
    }

    /// The next events, at most as many as the call asks for, as JSON; or a page without events if there are so many rows
    /// without any that the call should be made again. `None` if there are no more.
    ///
    /// # Errors
    /// 410 if events after the cursor are removed, 429, 503.
    pub(crate) async fn page(&self, reading: &mut Reading<'_>) -> Result<Option<Utf8Bytes>, ApiError> {
        let _permit = self.permit(reading.payer, 1).await?;
        let context = PageContext {
            feed: &self.deps.feed,
            tails: &self.tails,
            memberships: &self.deps.memberships,
            budgets: &self.deps.budgets,
            deadline: self.deps.deadline,
        };
        user_page::next(context, reading).await
    }

    /// The page of a call that has found nothing.
    ///
    /// # Errors
    /// 500 if it cannot be rendered, which does not happen.
    pub(crate) fn empty_page(reading: &Reading<'_>) -> Result<Utf8Bytes, ApiError> {
        user_page::render(&[], &reading.cursors, false)
    }

    /// Waits until there is something to read: true. False at `until`, and when the gateway stops.
    pub(crate) async fn wait(&self, reading: &mut Reading<'_>, until: Instant) -> bool {
        let cursors = &reading.cursors;
        let is_newer = |(shard, head): (&u16, &u64)| *head > cursors.of(*shard).position;
        let shards = self.deps.feed.shards().get();
        let heads = self.deps.feed.wait_for(|newest| newest.range(..shards).any(is_newer), until).await;
        let is_due = heads.is_some();
        if let Some(heads) = heads {
            reading.heads = heads;
        }
        is_due
    }

    async fn permit(&self, payer: &Payer, units: u32) -> Result<ReadPermit, ApiError> {
        timeout(self.deps.deadline, payer.begin_read(units)).await.map_err(|_| payer.exceeded())
    }
}
