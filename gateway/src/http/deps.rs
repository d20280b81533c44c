//! The parts of the gateway that HTTP calls use.

use std::sync::Arc;

use shared::ids::UserId;
use shared::live::Live;
use shared::mysql::Pool;
use shared::shutdown::Shutdown;

use super::settings::HttpSettings;
use crate::auth::accounts::Accounts;
use crate::auth::revocations::Revocations;
use crate::auth::token::Tokens;
use crate::budget::Budgets;
use crate::config::Config;
use crate::connection;
use crate::feed::UserFeed;
use crate::files::Files;
use crate::membership::{GroupChanges, Memberships, Quotas};
use crate::notifications::Notifications;
use crate::presence::Online;
use crate::processes::Processes;
use crate::rates::Rates;
use crate::read::Reads;
use crate::views::Views;
use crate::webhooks::Webhooks;

/// The parts of the gateway that HTTP calls use.
#[derive(Debug)]
pub(crate) struct Deps {
    pub(crate) settings: HttpSettings,
    /// The commit that the program was built from; "unknown" if the build did not say.
    pub(crate) commit: &'static str,
    /// For connections that begin with an upgrade of an HTTP request.
    pub(crate) connections: Arc<connection::Deps>,
    pub(crate) reads: Arc<Reads>,
    /// Of the users who call.
    pub(crate) budgets: Arc<Budgets>,
    pub(crate) memberships: Arc<Memberships>,
    pub(crate) changes: Arc<GroupChanges>,
    /// Of the users who change groups.
    pub(crate) quotas: Arc<Quotas>,
    /// What users set for their conversations.
    pub(crate) views: Views,
    /// What applies at the moment.
    pub(crate) live: Arc<Live<Config>>,
    /// Of the users who change their profiles.
    pub(crate) profile_changes: Arc<Rates<UserId>>,
    pub(crate) online: Online,
    pub(crate) pool: Pool,
    pub(crate) tokens: Arc<Tokens>,
    pub(crate) revocations: Arc<Revocations>,
    /// `None` if accounts are disabled.
    pub(crate) accounts: Option<Arc<Accounts>>,
    /// `None` without a store of files.
    pub(crate) files: Option<Arc<Files>>,
    /// `None` if it is off.
    pub(crate) feed: Option<Arc<UserFeed>>,
    /// `None` if they are off.
    pub(crate) notifications: Option<Arc<Notifications>>,
    /// `None` if the feed is off.
    pub(crate) webhooks: Option<Arc<Webhooks>>,
    /// For the operator.
    pub(crate) processes: Arc<Processes>,
    /// Stops at a drain, which waits for all calls.
    pub(crate) shutdown: Shutdown,
}
