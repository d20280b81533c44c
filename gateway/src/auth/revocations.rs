//! Tokens that are good no more before their time.
//!
//! A revocation is a row in MySQL, then an event to all gateways, which close the connections that a revoked token has
//! opened. A gateway that misses the event finds the row: it reads what has changed every two seconds. All revocations are
//! also kept in memory, because every token is compared with them.

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

/// How often what has changed is read.
const READ_INTERVAL: Duration = Duration::from_secs(2);
/// A row may become visible so much later than the time that it carries: it is committed after its statement ran.
const COMMIT_DELAY_MS: i64 = 10_000;

/// Until when the tokens of each user are revoked: by the time at which they were issued.
#[derive(Debug, Default)]
pub struct Revoked(RwLock<AHashMap<UserId, i64>>);

impl Revoked {
    /// Whether a token of `user` that was issued then is good no more.
    #[must_use]
    pub fn is_revoked(&self, user: &UserId, issued_at_ms: i64) -> bool {
        self.0.read().get(user).is_some_and(|not_before_ms| issued_at_ms <= *not_before_ms)
    }

    /// Notes a revocation; true if it says more than what was known.
    pub fn note(&self, user: &UserId, not_before_ms: i64) -> bool {
        // The usual row has been seen two seconds ago.
        if self.is_revoked(user, not_before_ms) {
            return false;
        }
        let mut all = self.0.write();
        let known = all.entry(user.clone()).or_insert(i64::MIN);
        let news = not_before_ms > *known;
        *known = not_before_ms.max(*known);
        news
    }
}

/// Revokes, hears of revocations, and closes connections.
#[derive(Debug)]
pub struct Revocations {
    pool: Pool,
    announcer: Announcer,
    hub: Arc<Hub>,
    revoked: Arc<Revoked>,
    /// The newest row that was read, by the clock of the database.
    read_to: Mutex<i64>,
}

impl Revocations {
    /// Reads all that there are.
    ///
    /// # Errors
    /// As the database says.
    pub async fn load(
        pool: Pool,
        announcer: Announcer,
        hub: Arc<Hub>,
        revoked: Arc<Revoked>,
    ) -> Result<Self, mysql::Error> {
        let this = Self { pool, announcer, hub, revoked, read_to: Mutex::new(0) };
        this.read().await?;
        Ok(this)
    }

    /// All tokens of `user` that were made so far are good no more. Returns until when, in milliseconds since 1970.
    ///
    /// # Errors
    /// 503 where the database is away.
    pub async fn revoke(&self, user: &UserId) -> Result<i64, ApiError> {
        let not_before_ms = unix_millis();
        revocations::revoke(&self.pool, user, not_before_ms).await.map_err(|e| ApiError::database(&e))?;
        tracing::info!(user = user.as_str(), "tokens revoked");
        // Here at once, so that the caller's own next request is refused; elsewhere by the event.
        self.take(user, not_before_ms);
        let event = v1::TokensRevoked { user_id: user.as_str().to_owned(), not_before_ms };
        self.announcer.announce(v1::event::Kind::TokensRevoked(event));
        Ok(not_before_ms)
    }

    /// Tokens of `user` issued up to then are good no more; true if that concerns anyone here.
    pub fn take(&self, user: &UserId, not_before_ms: i64) -> bool {
        self.revoked.note(user, not_before_ms)
            && self.hub.each_of(user.as_str(), |member| member.outbox.revoke(not_before_ms))
    }

    /// Whether a token of `user` that was issued then is good no more.
    #[must_use]
    pub fn is_revoked(&self, user: &UserId, issued_at_ms: i64) -> bool {
        self.revoked.is_revoked(user, issued_at_ms)
    }

    /// Reads what has changed again and again.
    pub async fn follow(self: Arc<Self>, shutdown: Shutdown) {
        let mut failing = false;
        while shutdown.sleep(READ_INTERVAL).await {
            let Some(read) = shutdown.run_until_stopped(self.read()).await else { return };
            match read {
                Ok(()) => failing = false,
                Err(error) if !failing => {
                    tracing::warn!(%error, "cannot read revoked tokens: going on with what is known");
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
                    self.take(&user, row.not_before_ms);
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
    fn a_revocation_ends_what_was_issued_before_and_never_moves_back() {
        let revoked = Revoked::default();
        let (alice, bob) = (UserId::parse("alice").unwrap(), UserId::parse("bob").unwrap());
        assert!(!revoked.is_revoked(&alice, 0));
        assert!(revoked.note(&alice, 100));
        assert!(!revoked.note(&alice, 100) && !revoked.note(&alice, 50));
        assert!(revoked.is_revoked(&alice, 0) && revoked.is_revoked(&alice, 100));
        assert!(!revoked.is_revoked(&alice, 101) && !revoked.is_revoked(&bob, 0));
        assert!(revoked.note(&alice, 200));
        assert!(revoked.is_revoked(&alice, 200));
    }
}
