//! A connection as the hub knows it.

use std::sync::Arc;

use shared::ids::UserId;

use crate::outbox::Outbox;

/// A connection as the hub knows it. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Member {
    /// The user that is logged in.
    pub user: UserId,
    /// [`shared::ids::ConnectionId::connection`]
    pub connection: u64,
    /// The connection's outbox.
    pub outbox: Arc<Outbox>,
}
