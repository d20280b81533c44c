//! A connection as the hub knows it.

use std::sync::Arc;

use shared::ids::UserId;

use crate::outbox::Outbox;

/// A connection as the hub knows it. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Member {
    /// Whose it is.
    pub user: UserId,
    /// [`shared::ids::Origin::connection`]
    pub connection: u64,
    /// Its outbox.
    pub outbox: Arc<Outbox>,
}

/// The user has as many connections as allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooMany;
