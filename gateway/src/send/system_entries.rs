//! Sends the entries of timelines about changes of groups.
//!
//! The transaction of the change has written the entry into a table. It is sent like a message, and removed from there when
//! it is stored. A gateway that dies in between leaves it, and each gateway looks for such entries: one that is sent twice
//! is stored once, because its `msg_id` stays the same.
//!
//! The entries of one group are sent one after the other, each when those before it are stored. So they are in the timeline
//! in the order of the changes, also if two gateways send them.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use shared::conversation::Conversation;
use shared::ids::{ConnectionId, unix_millis};
use shared::mysql::system_entries::{self, EntryId, UnsentEntry};
use shared::mysql::{self, Pool};
use shared::shutdown::Shutdown;
use tokio::sync::Mutex;
use tokio::time::timeout;

use super::admission::Sends;
use crate::membership::SendEntries;
use crate::outbox::{Outbox, OutboxLimits};
use crate::wire::outcome::Outcome;

/// How long a change waits until its entry is stored. The entry is sent all the same.
const WAIT: Duration = Duration::from_secs(2);
/// How often a gateway looks for entries that were left.
const LOOK_INTERVAL: Duration = Duration::from_secs(5);
/// The age at which an entry counts as left: longer than a gateway in good health takes.
const LEFT_AFTER_MS: i64 = 10_000;
/// Groups whose entries are sent at the same time, roughly.
const LANES: usize = 64;

/// Sends entries.
#[derive(Debug)]
pub(crate) struct SystemEntries {
    pool: Pool,
    sends: Arc<Sends>,
    /// The origin of all entries: no connection has it, so that all connections of all members get the push.
    origin: ConnectionId,
    /// One holder per group sends its entries.
    lanes: Vec<Mutex<()>>,
    hasher: ahash::RandomState,
    tasks: Shutdown,
}

impl SystemEntries {
    /// Sends through `sends`. Entries that are being sent when `tasks` is stopped are left to other gateways.
    #[must_use]
    pub(crate) fn new(pool: Pool, sends: Arc<Sends>, origin: ConnectionId, tasks: Shutdown) -> Self {
        let lanes = (0..LANES).map(|_| Mutex::new(())).collect();
        Self { pool, sends, origin, lanes, hasher: ahash::RandomState::new(), tasks }
    }

    /// Sends entries that were left, until the tasks are stopped.
    pub(crate) async fn run(self: Arc<Self>) {
        while self.tasks.sleep(LOOK_INTERVAL).await {
            if let Err(error) = self.send_left().await {
                tracing::warn!(%error, "reading unsent system entries failed: trying again");
            }
        }
    }

    async fn send_left(&self) -> Result<(), mysql::Error> {
        for (group, last) in system_entries::overdue(&self.pool, unix_millis() - LEFT_AFTER_MS).await? {
            tracing::info!(conversation.id = %group, "sending system entries that another gateway has left");
            self.send_up_to(&group, last).await;
        }
        Ok(())
    }

    async fn send_up_to(&self, group: &Conversation, last: EntryId) {
        #[expect(clippy::cast_possible_truncation, reason = "the remainder is below 64")]
        let lane = (self.hasher.hash_one(group.key()) % LANES as u64) as usize;
        let _lane = self.lanes[lane].lock().await;
        loop {
            let entries = match system_entries::of_group(&self.pool, group, last).await {
                Ok(entries) if entries.is_empty() => return,
                Ok(entries) => entries,
                Err(error) => {
                    tracing::warn!(conversation.id = %group, %error, "reading system entries failed: they are sent later");
                    return;
                }
            };
            for entry in entries {
                if !self.send_one(group, entry).await {
                    return;
                }
            }
        }
    }

    /// Returns whether the entry is stored and removed.
    async fn send_one(&self, group: &Conversation, entry: UnsentEntry) -> bool {
        // The reply has ids and numbers only.
        let outbox = Outbox::new(OutboxLimits { replies: 1, reply_bytes: 4_096, push_bytes: 0 });
        self.sends.submit_system(entry.message, self.origin, outbox.reserve());
        let outcome = Outcome::of(&outbox.one_reply().await);
        if outcome.as_ref().is_none_or(|outcome| outcome.code != 0) {
            tracing::warn!(conversation.id = %group, ?outcome, "a system entry was not stored: it is sent again later");
            return false;
        }
        let removed = system_entries::remove(&self.pool, entry.id).await;
        if let Err(error) = &removed {
            tracing::warn!(conversation.id = %group, %error, "removing a stored system entry failed: it is sent again later");
        }
        removed.is_ok()
    }
}

impl SendEntries for Arc<SystemEntries> {
    fn send(&self, group: &Conversation, last: EntryId) -> BoxFuture<'static, ()> {
        let (entries, group) = (Self::clone(self), group.clone());
        let sending = self.tasks.spawn(async move { entries.send_up_to(&group, last).await });
        async move {
            // It goes on after that.
            let _ = timeout(WAIT, sending).await;
        }
        .boxed()
    }
}
