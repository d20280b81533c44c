//! The change feed and what reads it.

use std::sync::Arc;

use crate::feed::UserFeed;
use crate::notifications::Notifications;
use crate::webhooks::Webhooks;

/// The change feed and what reads it; all `None` if they are off.
pub(super) struct FeedParts {
    pub(super) feed: Option<Arc<UserFeed>>,
    pub(super) notifications: Option<Arc<Notifications>>,
    pub(super) webhooks: Option<Arc<Webhooks>>,
}
