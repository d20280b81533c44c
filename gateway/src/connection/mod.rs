//! One client's connection: from the upgrade to the close.

pub mod logins;
pub mod session;
pub mod socket;
pub mod task;
pub mod upgrade;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use shared::ids::{DeviceId, Origin, UserId};
use shared::shutdown::Shutdown;

use crate::auth::token::Tokens;
use crate::config::Config;
use crate::hub::Hub;
use crate::membership::Memberships;
use crate::read::Reads;
use crate::send::Sends;
use logins::Logins;

/// Who is on the other side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The user.
    pub user: UserId,
    /// Its device.
    pub device: DeviceId,
    /// This connection.
    pub origin: Origin,
}

/// What a connection may use. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Services {
    /// This process's number, as in [`Origin::gateway`].
    pub gateway: u64,
    /// The settings.
    pub config: Arc<Config>,
    /// Where connections register.
    pub hub: Arc<Hub>,
    /// Takes messages.
    pub sends: Arc<Sends>,
    /// Answers reads.
    pub reads: Arc<Reads>,
    /// Knows who is in which group.
    pub memberships: Arc<Memberships>,
    /// Lets a bounded number of logins ask the database.
    pub logins: Arc<Logins>,
    /// Checks tokens.
    pub tokens: Arc<Tokens>,
    /// Asked to stop when nothing new is to be taken; waits for all connections.
    pub shutdown: Shutdown,
}

impl Services {
    fn identify(&self, user: UserId, device: Option<DeviceId>) -> Identity {
        static CONNECTIONS: AtomicU64 = AtomicU64::new(1);
        let connection = CONNECTIONS.fetch_add(1, Ordering::Relaxed);
        let origin = Origin { gateway: self.gateway, connection };
        Identity { user, device: device.unwrap_or_else(DeviceId::generate), origin }
    }
}
