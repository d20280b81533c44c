//! The parts of the gateway that connections use.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use shared::ids::ConnectionId;
use shared::shutdown::Shutdown;

use super::logins::Logins;
use super::settings::PresentSettings;
use crate::auth::revocations::Revocations;
use crate::auth::token::Tokens;
use crate::budget::Budgets;
use crate::devices::Devices;
use crate::hub::Hub;
use crate::membership::{Loaded, Memberships};
use crate::presence::Online;
use crate::read::Reads;
use crate::send::Sends;
use crate::typing::Typing;
use crate::watches::Watches;

/// The parts of the gateway that connections use.
#[derive(Debug)]
pub(crate) struct Deps {
    /// The id of this process, as in [`shared::ids::ConnectionId::gateway`].
    pub(crate) gateway: u64,
    pub(crate) settings: Arc<PresentSettings>,
    pub(crate) hub: Arc<Hub>,
    pub(crate) sends: Arc<Sends>,
    pub(crate) reads: Arc<Reads>,
    pub(crate) memberships: Arc<Memberships>,
    /// Of the users who connect.
    pub(crate) budgets: Arc<Budgets>,
    pub(crate) online: Online,
    pub(crate) devices: Arc<Devices>,
    pub(crate) typing: Arc<Typing>,
    pub(crate) watches: Arc<Watches>,
    pub(crate) logins: Arc<Logins<Loaded>>,
    pub(crate) tokens: Arc<Tokens>,
    pub(crate) revocations: Arc<Revocations>,
    /// Stops at a drain, which waits for all connections.
    pub(crate) shutdown: Shutdown,
}

impl Deps {
    /// The id of a new connection, or of an HTTP call that sends a message.
    pub(crate) fn new_connection_id(&self) -> ConnectionId {
        static CONNECTIONS: AtomicU64 = AtomicU64::new(1);
        ConnectionId { gateway: self.gateway, connection: CONNECTIONS.fetch_add(1, Ordering::Relaxed) }
    }
}
