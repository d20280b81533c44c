//! The list of changes in the database, followed in case an event was lost.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use ahash::AHashMap;
use shared::conversation::{Conversation, Kind};
use shared::ids::UserId;
use shared::mysql::access::{self, CHANGES_KEPT_MS};
use shared::mysql::{self, members};
use shared::shutdown::Shutdown;

use super::memberships::Memberships;

/// How often the list is read.
const INTERVAL: Duration = Duration::from_secs(1);
/// A reading that takes longer has failed: the database hangs.
const READ_PATIENCE: Duration = Duration::from_secs(2);
/// A number that was skipped may belong to a transaction that is not committed yet: none lasts longer.
const SKIPPED_FOR: Duration = Duration::from_secs(60);
/// Numbers that are looked for again; of more, the lowest are given up first.
const SKIPPED_MAX: usize = 1_000;
/// How long the event of a change is given to come, before the database is asked what it was.
const EVENT_LATENCY: Duration = Duration::from_millis(100);
/// By how much the clocks of two gateways may differ, for finding out who was added.
const CLOCKS_DIFFER_MS: i64 = 3_600_000;
/// How often old changes are removed.
const CLEAN_INTERVAL: Duration = Duration::from_secs(300);

/// Follows the list until the stop. To be started before the first client comes.
pub async fn follow(memberships: Arc<Memberships>, shutdown: Shutdown) {
    let mut place: Option<Place> = None;
    let mut cleaned = Instant::now();
    loop {
        let doubted = memberships.freshness.doubted.swap(false, Ordering::Relaxed);
        if doubted {
            // Until it was read.
            memberships.freshness.read.lock().take();
        }
        let read = tokio::time::timeout(READ_PATIENCE, read(&memberships, &mut place)).await;
        let is_away = !matches!(read, Ok(Ok(())));
        memberships.freshness.database_away.store(is_away, Ordering::Relaxed);
        match read {
            Ok(Ok(())) => {
                let silence = memberships.freshness.read_now();
                if silence.as_millis() > u128::from(CHANGES_KEPT_MS.unsigned_abs() / 2) {
                    tracing::warn!(
                        "changes may have been removed before they were read: reading all groups again"
                    );
                    memberships.reload_all();
                }
            }
            Ok(Err(error)) => tracing::warn!(%error, "the list of membership changes could not be read"),
            Err(_) => tracing::warn!("the list of membership changes could not be read in time"),
        }
        if cleaned.elapsed() > CLEAN_INTERVAL {
            cleaned = Instant::now();
            if let Err(error) = access::remove_old_changes(&memberships.pool).await {
                tracing::warn!(%error, "old membership changes were not removed");
            }
        }
        let pause = async {
            tokio::select! {
                () = tokio::time::sleep(INTERVAL) => {}
                () = memberships.freshness.wake.notified() => {}
            }
        };
        if shutdown.run_until_stopped(pause).await.is_none() {
            return;
        }
    }
}

async fn read(memberships: &Arc<Memberships>, place: &mut Option<Place>) -> Result<(), mysql::Error> {
    let pool = &memberships.pool;
    // What comes later is for the next reading: where changes never cease, this one would never end.
    let newest = access::newest_change(pool).await?;
    // Whoever logs in from here on sees what came before.
    let place = place.get_or_insert_with(|| Place::at(newest));
    loop {
        let changes = access::changes_after(pool, place.last, &place.skipped()).await?;
        if changes.is_empty() {
            break;
        }
        // The events of these changes may be on their way.
        tokio::time::sleep(EVENT_LATENCY).await;
        let mut latest: AHashMap<&Conversation, Latest> = AHashMap::new();
        for change in &changes {
            let latest = latest.entry(&change.conversation).or_insert(Latest { version: 0, since: i64::MAX });
            latest.version = latest.version.max(change.version);
            latest.since = latest.since.min(change.changed_at);
        }
        for (conversation, latest) in latest {
            apply(memberships, conversation, latest).await?;
        }
        for change in &changes {
            place.saw(change.id, Instant::now());
        }
        if place.last >= newest {
            break;
        }
    }
    place.forget(Instant::now());
    Ok(())
}

/// The changes of one conversation, taken together.
#[derive(Debug, Clone, Copy)]
struct Latest {
    version: u64,
    since: i64,
}

async fn apply(
    memberships: &Arc<Memberships>,
    conversation: &Conversation,
    Latest { version, since }: Latest,
) -> Result<(), mysql::Error> {
    let (pool, hub) = (&memberships.pool, &memberships.hub);
    match conversation.kind() {
        Kind::Group => {
            let known = hub.version(conversation);
            if known.is_some_and(|known| known >= version) {
                return Ok(());
            }
            let mut joined = members::joined_since(pool, conversation, since - CLOCKS_DIFFER_MS).await?;
            joined.retain(|user| hub.is_here(user.as_str()));
            if known.is_some() || !joined.is_empty() {
                tracing::debug!(group = %conversation, version, "a membership event was lost, or is late");
                hub.set_heard(conversation, version);
                memberships.reload(conversation, &joined);
            }
        }
        Kind::Private(lo, hi) => {
            for id in [lo, hi] {
                let Ok(user) = UserId::parse(id) else { continue };
                if hub.is_here(id) {
                    memberships.reload_blockers(&user).await?;
                }
            }
        }
    }
    Ok(())
}

/// Where the reader of the list is.
#[derive(Debug)]
struct Place {
    last: u64,
    skipped: BTreeMap<u64, Instant>,
}

impl Place {
    fn at(last: u64) -> Self {
        Self { last, skipped: BTreeMap::new() }
    }

    fn skipped(&self) -> Vec<u64> {
        self.skipped.keys().copied().collect()
    }

    /// Numbers between the last one and `id` were given to transactions that are not committed, or never will be.
    fn saw(&mut self, id: u64, now: Instant) {
        self.skipped.remove(&id);
        if id <= self.last {
            return;
        }
        let first = (self.last + 1).max(id.saturating_sub(SKIPPED_MAX as u64));
        self.skipped.extend((first..id).map(|skipped| (skipped, now)));
        while self.skipped.len() > SKIPPED_MAX {
            self.skipped.pop_first();
        }
        self.last = id;
    }

    fn forget(&mut self, now: Instant) {
        self.skipped.retain(|_, since| now.duration_since(*since) < SKIPPED_FOR);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_skipped_is_looked_for_until_no_transaction_can_bring_it() {
        let now = Instant::now();
        let mut place = Place::at(10);
        place.saw(11, now);
        assert_eq!((place.last, place.skipped()), (11, vec![]));
        place.saw(14, now);
        assert_eq!((place.last, place.skipped()), (14, vec![12, 13]));
        place.saw(12, now);
        assert_eq!((place.last, place.skipped()), (14, vec![13]));
        place.forget(now + SKIPPED_FOR);
        assert_eq!(place.skipped(), [0; 0]);
        place.saw(1_000_000, now);
        assert_eq!(place.skipped().len(), SKIPPED_MAX, "bounded");
    }
}
