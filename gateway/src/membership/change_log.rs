//! Follows the list of changes in the database, in case an event was lost.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ahash::AHashMap;
use shared::conversation::{Conversation, Kind};
use shared::ids::UserId;
use shared::mysql::access::{self, CHANGES_KEPT_MS, Change};
use shared::mysql::{self, changes, members, views};
use shared::shutdown::Shutdown;

use super::log_position::LogPosition;
use super::memberships::Memberships;

/// How often the list is read.
const INTERVAL: Duration = Duration::from_secs(1);
/// A reading that takes longer has failed: the database does not answer.
const READ_TIMEOUT: Duration = Duration::from_secs(2);
/// How long the event of a change may take, before the database is asked what changed.
const EVENT_LATENCY: Duration = Duration::from_millis(100);
/// By how much the clocks of two gateways may differ, for finding the users that joined.
const CLOCK_SKEW_MS: i64 = 3_600_000;
/// How often old changes are removed.
const CLEAN_INTERVAL: Duration = Duration::from_secs(300);
/// After a longer time without a reading, changes may have been removed before they were read.
const SILENCE_MAX: Duration = Duration::from_millis(CHANGES_KEPT_MS.unsigned_abs() / 2);

/// Follows the list until the stop. To be started before the first client is accepted.
pub(crate) async fn follow_change_log(memberships: Arc<Memberships>, shutdown: Shutdown) {
    let now = Instant::now();
    let mut log = ChangeLog { memberships, position: None, last_read: None, last_cleaned: now };
    loop {
        log.read().await;
        log.clean().await;
        let pause = async {
            let _ = tokio::time::timeout(INTERVAL, log.memberships.view.freshness().invalidated()).await;
        };
        if shutdown.run_until_stopped(pause).await.is_none() {
            return;
        }
    }
}

/// A reader of the list.
struct ChangeLog {
    memberships: Arc<Memberships>,
    /// `None` before the first reading.
    position: Option<LogPosition>,
    last_read: Option<Instant>,
    last_cleaned: Instant,
}

/// The changes of one conversation, taken together.
#[derive(Debug, Clone, Copy)]
struct Merged {
    first: u64,
    last: u64,
    /// The time of the first of them, in milliseconds since 1970.
    since: i64,
}

impl ChangeLog {
    async fn read(&mut self) {
        let memberships = Arc::clone(&self.memberships);
        let freshness = memberships.view.freshness();
        freshness.begin();
        match tokio::time::timeout(READ_TIMEOUT, self.read_changes()).await {
            Ok(Ok(())) => {
                let now = Instant::now();
                let last_read = self.last_read.replace(now);
                if last_read.is_some_and(|last| now.duration_since(last) > SILENCE_MAX) {
                    tracing::warn!(
                        "changes may have been removed before they were read: reading all groups again"
                    );
                    memberships.reloader.start(memberships.view.invalidate(now));
                }
                freshness.succeed(now);
            }
            Ok(Err(error)) => {
                freshness.fail();
                tracing::warn!(%error, "reading the list of membership changes failed");
            }
            Err(_) => {
                freshness.fail();
                tracing::warn!(timeout = ?READ_TIMEOUT, "reading the list of membership changes timed out");
            }
        }
    }

    async fn clean(&mut self) {
        if self.last_cleaned.elapsed() > CLEAN_INTERVAL {
            self.last_cleaned = Instant::now();
            if let Err(error) = access::remove_old_changes(&self.memberships.pool).await {
                tracing::warn!(%error, "removing old membership changes failed");
            }
            if let Err(error) = changes::remove_old_unchanged(&self.memberships.pool).await {
                tracing::warn!(%error, "removing old entries that changed nothing failed");
            }
        }
    }

    async fn read_changes(&mut self) -> Result<(), mysql::Error> {
        let pool = &self.memberships.pool;
        // Later changes are for the next reading: where changes never cease, this one would never end.
        let newest = access::newest_change(pool).await?;
        // A login from here on reads all changes before.
        let position = self.position.get_or_insert_with(|| LogPosition::at(newest));
        loop {
            let changes = access::changes_after(pool, position.last(), &position.skipped()).await?;
            if changes.is_empty() {
                break;
            }
            // The events of these changes may be on their way.
            tokio::time::sleep(EVENT_LATENCY).await;
            for (conversation, changes) in merged(&changes) {
                apply(&self.memberships, conversation, changes).await?;
            }
            apply_clears(&self.memberships, &changes).await?;
            for change in &changes {
                position.advance(change.id, Instant::now());
            }
            if position.last() >= newest {
                break;
            }
        }
        position.expire(Instant::now());
        Ok(())
    }
}

fn merged(changes: &[Change]) -> AHashMap<&Conversation, Merged> {
    let mut all: AHashMap<&Conversation, Merged> = AHashMap::new();
    for change in changes.iter().filter(|change| change.cleared_by.is_none()) {
        let Change { version, changed_at, .. } = *change;
        let new = Merged { first: version, last: version, since: changed_at };
        let merged = all.entry(&change.conversation).or_insert(new);
        merged.first = merged.first.min(version);
        merged.last = merged.last.max(version);
        merged.since = merged.since.min(changed_at);
    }
    all
}

/// Reads again what those have cleared who are connected here and cleared something lately.
async fn apply_clears(memberships: &Memberships, changes: &[Change]) -> Result<(), mysql::Error> {
    let view = &memberships.view;
    let mut users: Vec<UserId> = changes.iter().filter_map(|change| change.cleared_by.clone()).collect();
    users.sort_unstable();
    users.dedup();
    users.retain(|user| view.hub().is_here(user.as_str()));
    for (user, cleared) in views::cleared_of(&memberships.pool, &users).await? {
        for (conversation, seq) in cleared {
            view.conversation_cleared(&user, &conversation, seq);
        }
    }
    Ok(())
}

async fn apply(
    memberships: &Arc<Memberships>,
    conversation: &Conversation,
    Merged { first, last, since }: Merged,
) -> Result<(), mysql::Error> {
    let (view, reloader) = (&memberships.view, &memberships.reloader);
    match conversation.kind() {
        Kind::Group => {
            let mut joined = Vec::new();
            if view.is_behind(conversation, first, last) {
                let since = since - CLOCK_SKEW_MS;
                joined = members::joined_since(&memberships.pool, conversation, since).await?;
                joined.retain(|user| view.hub().is_here(user.as_str()));
            }
            reloader.follow(view.group_logged(conversation, last, joined, Instant::now()));
        }
        Kind::Private(lo, hi) => {
            let users = [lo, hi].into_iter().filter_map(|id| UserId::parse(id).ok());
            reloader.start(users.filter_map(|user| view.blockers_changed(&user)));
        }
    }
    Ok(())
}
