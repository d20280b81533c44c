//! Builds the change feed, and the gateway's own readers of it.

use std::sync::Arc;
use std::time::Duration;

use shared::config::ConfigError;
use shared::shutdown::Shutdown;

use super::feed_parts::FeedParts;
use super::gauges::set_gauges;
use super::parts::Builder;
use crate::connection;
use crate::feed::{ChangeFeed, FeedReader, Readers, UserFeed, UserFeedDeps};
use crate::membership::Memberships;
use crate::notifications::{NotificationDeps, NotificationReader, Notifications};
use crate::outgoing::Outgoing;
use crate::presence::Online;
use crate::read::Reads;
use crate::webhooks::Webhooks;

impl Builder {
    /// The change feed, if it is on, with the gateway's own readers of it, which begin to run.
    ///
    /// # Errors
    /// A key of a push service or `outgoing.tls_ca` is unusable, or the database fails.
    pub(super) async fn feed_parts(
        &self,
        listening: &Shutdown,
        connections: &Arc<connection::Deps>,
    ) -> anyhow::Result<FeedParts> {
        let connection::Deps { online, reads, memberships, .. } = &**connections;
        let feed = self.feed(listening);
        let (mut notifications, mut webhooks) = (None, None);
        if let Some(feed) = &feed {
            let outgoing = Outgoing::new(&self.config.outgoing)?;
            if self.config.push.enabled {
                notifications = Some(self.notifications(feed, online, reads, outgoing.clone())?);
            }
            let (pool, live) = (self.stores.pool.clone(), Arc::clone(&self.live));
            webhooks = Some(Arc::new(Webhooks::new(pool, Arc::clone(feed), outgoing, live)));
        }
        self.run_feed_readers(listening, notifications.as_ref(), webhooks.as_ref()).await?;
        let gauges = set_gauges(Arc::clone(connections), webhooks.clone(), self.tasks.clone());
        self.tasks.spawn_essential("gauges", gauges);
        let feed = feed.map(|feed| self.user_feed(feed, memberships));
        Ok(FeedParts { feed, notifications, webhooks })
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

    /// Notifications; keys of push services are followed from here on.
    ///
    /// # Errors
    /// A key is unusable.
    fn notifications(
        &self,
        feed: &Arc<ChangeFeed>,
        online: &Online,
        reads: &Arc<Reads>,
        outgoing: Outgoing,
    ) -> Result<Arc<Notifications>, ConfigError> {
        let deps = NotificationDeps {
            pool: self.stores.pool.clone(),
            feed: Arc::clone(feed),
            online: online.clone(),
            reads: Arc::clone(reads),
            outgoing,
            tasks: self.tasks.clone(),
        };
        let notifications = Arc::new(Notifications::new(&self.config, deps)?);
        self.live.follow(&notifications, |notifications, config, tasks| {
            notifications.set(&config.push, tasks);
        });
        let following = Arc::clone(&notifications).follow_files(self.tasks.clone());
        self.tasks.spawn_essential("keys of push services", following);
        Ok(notifications)
    }

    /// Runs the gateway's own readers of the feed until it drains: then other gateways run them.
    async fn run_feed_readers(
        &self,
        listening: &Shutdown,
        notifications: Option<&Arc<Notifications>>,
        webhooks: Option<&Arc<Webhooks>>,
    ) -> anyhow::Result<()> {
        let mut kinds: Vec<Arc<dyn FeedReader>> = Vec::new();
        if let Some(webhooks) = webhooks {
            kinds.push(Arc::clone(webhooks) as Arc<dyn FeedReader>);
        }
        if let (Some(notifications), Some(shards)) = (notifications, self.stores.feed) {
            let pool = &self.stores.pool;
            kinds.push(Arc::new(NotificationReader::open(Arc::clone(notifications), pool, shards).await?));
        }
        if !kinds.is_empty() {
            let readers = Readers::new(self.stores.pool.clone(), self.gateway, kinds);
            listening.spawn_essential("readers of the change feed", readers.follow(listening.clone()));
        }
        Ok(())
    }
}
