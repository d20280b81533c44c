//! Builds what lets users log in.

use std::sync::Arc;

use anyhow::Context as _;
use futures_util::FutureExt as _;
use shared::ids::UserId;

use super::parts::Builder;
use super::stores::Stores;
use crate::announce::Announcer;
use crate::auth::accounts::Accounts;
use crate::auth::new_accounts::add_all_missing;
use crate::auth::revocations::{Revocations, Revoked};
use crate::connection;
use crate::id_profile::IdProfile;
use crate::membership::{Loaded, Memberships};

impl Builder {
    /// Revoked tokens, and the task that follows them.
    ///
    /// # Errors
    /// The database's.
    pub(super) async fn revocations(
        &self,
        announcer: &Announcer,
        revoked: Arc<Revoked>,
    ) -> anyhow::Result<Arc<Revocations>> {
        let (pool, hub) = (self.stores.pool.clone(), Arc::clone(&self.hub));
        let revocations = Revocations::load(pool, announcer.clone(), hub, revoked).await;
        let revocations = Arc::new(revocations.context("reading revoked tokens")?);
        self.tasks.spawn_essential("revocations", Arc::clone(&revocations).follow(self.tasks.clone()));
        Ok(revocations)
    }

    /// What loads the memberships of users that log in.
    pub(super) fn logins(&self, memberships: &Arc<Memberships>) -> Arc<connection::Logins<Loaded>> {
        let memberships = Arc::clone(memberships);
        let load = move |users: Vec<UserId>| {
            let memberships = Arc::clone(&memberships);
            async move { memberships.load(&users).await }.boxed()
        };
        let limits = &self.config.limits;
        let (concurrency, waiting_max) = (limits.logins_at_once, limits.logins_waiting_max);
        Arc::new(connection::Logins::new(concurrency, waiting_max, Box::new(load), self.tasks.clone()))
    }

    /// The built-in accounts, if they are switched on.
    ///
    /// # Errors
    /// The settings of passwords are unusable.
    pub(super) fn accounts(&self) -> anyhow::Result<Option<Arc<Accounts>>> {
        let Stores { pool, redis, .. } = &self.stores;
        let accounts = Accounts::new(&self.config, pool.clone(), redis.clone())?;
        if accounts.is_some() && self.config.auth.id_profile == IdProfile::Safe {
            self.tasks.spawn(add_all_missing(pool.clone(), self.tasks.clone()));
        }
        let accounts = accounts.map(Arc::new);
        if let Some(accounts) = &accounts {
            self.live.follow(accounts, |accounts, config, _| accounts.set_limits(&config.limits));
        }
        Ok(accounts)
    }
}
