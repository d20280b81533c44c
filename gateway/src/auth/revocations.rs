//! Token revocation.
//!
//! A revocation is a row in MySQL, followed by an event to all gateways, which close the connections with a revoked token.
//! Every gateway also reads new rows every two seconds, in case an event is lost. All revocations are kept in memory,
//! because every token is checked against them.

use std::sync::Arc;
use std::time::Duration;

use ahash::AHashMap;
use parking_lot::{Mutex, RwLock};
use proto::v1;
use shared::ids::{UserId, unix_millis};
use shared::mysql::{self, Pool, revocations};
use shared::shutdown::Shutdown;

use crate::announce::Announcer;
use crate::hub::Hub;
use crate::wire::api_error::ApiError;

/// How often new rows are read.
const READ_INTERVAL: Duration = Duration::from_secs(2);
/// The longest delay between the time in a row and its commit, after which the row is visible.
const COMMIT_DELAY_MS: i64 = 10_000;

/// The revoked users, each with the time up to which issued tokens are revoked.
#[derive(Debug, Default)]
pub(crate) struct Revoked(RwLock<AHashMap<UserId, i64>>);

impl Revoked {
    /// Whether a token of `user` that was issued at `issued_at_ms` is revoked.
    #[must_use]
    pub(crate) fn is_revoked(&self, user: &UserId, issued_at_ms: i64) -> bool {
        self.0.read().get(user).is_some_and(|not_before_ms| issued_at_ms <= *not_before_ms)
    }

    /// Records a revocation; false if it is not newer than the recorded one.
    pub(crate) fn insert(&self, user: &UserId, not_before_ms: i64) -> bool {
        // A shared lock suffices for the usual case: the row was read before.
        if self.is_revoked(user, not_before_ms) {
            return false;
        }
        let mut all = self.0.write();
        let recorded = all.entry(user.clone()).or_insert(i64::MIN);
        let is_newer = not_before_ms > *recorded;
        *recorded = not_before_ms.max(*recorded);
        is_newer
    }
}

/// Revokes tokens, applies the revocations of other gateways, and closes connections.
#[derive(Debug)]
pub(crate) struct Revocations {
    pool: Pool,
    announcer: Announcer,
    hub: Arc<Hub>,
    revoked: Arc<Revoked>,
    /// Time of the newest row read, by the clock of the database.
    read_to: Mutex<i64>,
}

impl Revocations {
    /// Reads all revocations.
    ///
    /// # Errors
    /// The database is unavailable.
    pub(crate) async fn load(
        pool: Pool,
        announcer: Announcer,
        hub: Arc<Hub>,
        revoked: Arc<Revoked>,
    ) -> Result<Self, mysql::Error> {
        let this = Self { pool, announcer, hub, revoked, read_to: Mutex::new(0) };
        this.read().await?;
        Ok(this)
    }

    /// Revokes all tokens of `user` that were issued up to now. Returns this time, in milliseconds since 1970.
    ///
    /// # Errors
    /// 503 if the database is unavailable.
    pub(crate) async fn revoke(&self, user: &UserId) -> Result<i64, ApiError> {
        let not_before_ms = unix_millis();
        revocations::revoke(&self.pool, user, not_before_ms).await.map_err(|e| ApiError::database(&e))?;
        self.revoked(user, not_before_ms);
        Ok(not_before_ms)
    }

    /// Applies and announces a revocation that is committed.
    pub(crate) fn revoked(&self, user: &UserId, not_before_ms: i64) {
        tracing::info!(user = user.as_str(), "tokens revoked");
        // On this gateway at once, so that the caller's next request is refused; on the others by the event.
        self.apply(user, not_before_ms);
        let event = v1::TokensRevoked { user_id: user.as_str().to_owned(), not_before_ms };
        self.announcer.announce(v1::event::Kind::TokensRevoked(event));
    }

    /// Applies a revocation; true if it is new and the user has a connection here.
    pub(crate) fn apply(&self, user: &UserId, not_before_ms: i64) -> bool {
        self.revoked.insert(user, not_before_ms)
            && self.hub.each_of(user.as_str(), |member| member.outbox.revoke(not_before_ms))
    }

    /// Whether a token of `user` that was issued at `issued_at_ms` is revoked.
    #[must_use]
    pub(crate) fn is_revoked(&self, user: &UserId, issued_at_ms: i64) -> bool {
        self.revoked.is_revoked(user, issued_at_ms)
    }

    /// Reads new revocations until the stop.
    pub(crate) async fn follow(self: Arc<Self>, shutdown: Shutdown) {
        let mut failing = false;
        while shutdown.sleep(READ_INTERVAL).await {
            let Some(read) = shutdown.run_until_stopped(self.read()).await else { return };
            match read {
                Ok(()) => failing = false,
                Err(error) if !failing => {
                    tracing::warn!(%error, "revoked tokens could not be read: known revocations stay in effect");
                    failing = true;
                }
                Err(_) => {}
            }
        }
    }

    async fn read(&self) -> Result<(), mysql::Error> {
        let (mut from, mut after) = (*self.read_to.lock() - COMMIT_DELAY_MS, String::new());
        loop {
            let rows = revocations::changed_since(&self.pool, from, &after).await?;
            for row in &rows {
                if let Ok(user) = UserId::parse(&row.user) {
                    self.apply(&user, row.not_before_ms);
                }
            }
            let (Some(last), read) = (rows.last(), rows.len()) else { return Ok(()) };
            (from, after) = (last.changed_at, last.user.clone());
            *self.read_to.lock() = from;
            if read < revocations::STEP_ROWS_MAX {
                return Ok(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_revocation_ends_earlier_tokens_and_never_moves_back() {
        let revoked = Revoked::default();
        let (alice, bob) = (UserId::parse("alice").unwrap(), UserId::parse("bob").unwrap());
        assert!(!revoked.is_revoked(&alice, 0));
        assert!(revoked.insert(&alice, 100));
        assert!(!revoked.insert(&alice, 100) && !revoked.insert(&alice, 50));
        assert!(revoked.is_revoked(&alice, 0) && revoked.is_revoked(&alice, 100));
        assert!(!revoked.is_revoked(&alice, 101) && !revoked.is_revoked(&bob, 0));
        assert!(revoked.insert(&alice, 200));
        assert!(revoked.is_revoked(&alice, 200));
    }
}
