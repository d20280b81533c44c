//! Builds the change feed, and the gateway's own readers of it.

use std::sync::Arc;
use std::time::Duration;

use shared::config::ConfigError;
use shared::shutdown::Shutdown;

use super::parts::Builder;
use crate::feed::{ChangeFeed, FeedReader, Readers, UserFeed, UserFeedDeps};
use crate::membership::Memberships;
use crate::notifications::{NotificationDeps, NotificationReader, Notifications};
use crate::outgoing::Outgoing;
use crate::presence::Online;
use crate::read::Reads;

impl Builder {
    /// The change feed, if it is on, with the gateway's own readers of it, which begin to run.
    ///
    /// # Errors
    /// A key of a push service is unusable, or the database fails.
    pub(super) async fn feed_readers(
        &self,
        listening: &Shutdown,
        online: &Online,
        reads: &Arc<Reads>,
        memberships: &Arc<Memberships>,
    ) -> anyhow::Result<(Option<Arc<UserFeed>>, Option<Arc<Notifications>>)> {
        let feed = self.feed(listening);
        let notifications = self.notifications(feed.as_ref(), online, reads)?;
        self.run_feed_readers(notifications.as_ref()).await?;
        Ok((feed.map(|feed| self.user_feed(feed, memberships)), notifications))
    }

    fn feed(&self, listening: &Shutdown) -> Option<Arc<ChangeFeed>> {
        let (pool, keep_s) = (self.stores.pool.clone(), self.config.feed.keep_s);
        let start = |shards| ChangeFeed::start(pool, shards, keep_s, (listening.clone(), &self.tasks));
        self.stores.feed.map(start)
    }

    fn user_feed(&self, feed: Arc<ChangeFeed>, memberships: &Arc<Memberships>) -> Arc<UserFeed> {
        let (memberships, budgets) = (Arc::clone(memberships), Arc::clone(&self.budgets));
        let deadline = Duration::from_millis(self.config.limits.request_deadline_ms);
        UserFeed::start(UserFeedDeps { feed, memberships, budgets, deadline }, &self.tasks)
    }

    /// Notifications, if they are on; keys of push services are followed from here on.
    ///
    /// # Errors
    /// A key is unusable.
    fn notifications(
        &self,
        feed: Option<&Arc<ChangeFeed>>,
        online: &Online,
        reads: &Arc<Reads>,
    ) -> Result<Option<Arc<Notifications>>, ConfigError> {
        let Some(feed) = feed.filter(|_| self.config.push.enabled) else { return Ok(None) };
        let deps = NotificationDeps {
            pool: self.stores.pool.clone(),
            feed: Arc::clone(feed),
            online: online.clone(),
            reads: Arc::clone(reads),
            outgoing: Outgoing::new(&self.config.outgoing)?,
            tasks: self.tasks.clone(),
        };
        let notifications = Arc::new(Notifications::new(&self.config, deps)?);
        self.live.follow(&notifications, |notifications, config, tasks| {
            notifications.set(&config.push, tasks);
        });
        let following = Arc::clone(&notifications).follow_files(self.tasks.clone());
        self.tasks.spawn_essential("keys of push services", following);
        Ok(Some(notifications))
    }

    async fn run_feed_readers(&self, notifications: Option<&Arc<Notifications>>) -> anyhow::Result<()> {
        let mut kinds: Vec<Arc<dyn FeedReader>> = Vec::new();
        if let (Some(notifications), Some(shards)) = (notifications, self.stores.feed) {
            let pool = &self.stores.pool;
            kinds.push(Arc::new(NotificationReader::open(Arc::clone(notifications), pool, shards).await?));
        }
        if !kinds.is_empty() {
            let readers = Readers::new(self.stores.pool.clone(), self.gateway, kinds);
            self.tasks.spawn_essential("readers of the change feed", readers.follow(self.tasks.clone()));
        }
        Ok(())
    }
}
