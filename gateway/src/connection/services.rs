//! What a connection may use.

use std::sync::Arc;

use shared::mysql::Pool;
use shared::shutdown::Shutdown;

use super::logins::Logins;
use crate::auth::accounts::Accounts;
use crate::auth::revocations::Revocations;
use crate::auth::token::Tokens;
use crate::config::Config;
use crate::hub::Hub;
use crate::membership::{GroupChanges, Loaded, Memberships};
use crate::presence::Online;
use crate::read::Reads;
use crate::send::Sends;
use crate::typing::Typing;

/// What a connection may use. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Services {
    /// This process's number, as in [`shared::ids::Origin::gateway`].
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
    /// Changes groups and blocks.
    pub changes: Arc<GroupChanges>,
    /// Knows who is online.
    pub online: Online,
    /// Passes typing notices on.
    pub typing: Arc<Typing>,
    /// For what needs no more than a statement.
    pub pool: Pool,
    /// Where logins ask the database, together.
    pub logins: Arc<Logins<Loaded>>,
    /// Makes and checks tokens.
    pub tokens: Arc<Tokens>,
    /// Ends tokens before their time.
    pub revocations: Arc<Revocations>,
    /// The built-in accounts, unless they are switched off.
    pub accounts: Option<Arc<Accounts>>,
    /// Asked to stop when nothing new is to be taken; waits for all connections.
    pub shutdown: Shutdown,
}
