//! Sends the notifications of a shard that are due.

use std::sync::Arc;
use std::time::Duration;

use ahash::AHashMap;
use shared::metrics::{GATEWAY_NOTIFICATIONS_DUE, GATEWAY_NOTIFICATIONS_OLDEST};
use shared::mysql;
use shared::mysql::notifications::{self, DueRow, Found, Key};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

use super::rules::{Look, Step, decide, look};
use super::service::Notifications;

/// Notifications of a shard that are in progress at the same time.
const AT_ONCE: usize = 64;
/// How often rows are looked for that other gateways have made due.
const POLL_INTERVAL: Duration = Duration::from_secs(1);
/// How often is counted what waits.
const COUNT_INTERVAL: Duration = Duration::from_secs(10);

type InProgress = AHashMap<Key, JoinHandle<()>>;

impl Notifications {
    /// Sends what is due, until it is dropped. What is being sent then ends by itself.
    pub(super) async fn send_due(self: &Arc<Self>, shard: u16, wake: &Arc<Notify>) {
        let mut in_progress = InProgress::new();
        let mut counted: Option<Instant> = None;
        loop {
            in_progress.retain(|_, task| !task.is_finished());
            let is_full = match self.begin_due(shard, wake, &mut in_progress).await {
                Ok(is_full) => is_full,
                Err(error) => {
                    tracing::warn!(shard, %error, "Due notifications cannot be read; they wait");
                    tokio::time::sleep(POLL_INTERVAL).await;
                    false
                }
            };
            if counted.is_none_or(|counted| counted.elapsed() >= COUNT_INTERVAL) {
                counted = Some(Instant::now());
                self.set_clock().await;
                self.count(shard).await;
            }
            if is_full && in_progress.len() < AT_ONCE {
                continue;
            }
            // Woken by a new plan, and by the end of one in progress.
            let _ = timeout(POLL_INTERVAL, wake.notified()).await;
        }
    }

    /// Begins rows that are due. True if there may be more.
    async fn begin_due(
        self: &Arc<Self>,
        shard: u16,
        wake: &Arc<Notify>,
        in_progress: &mut InProgress,
    ) -> Result<bool, mysql::Error> {
        let places = AT_ONCE.saturating_sub(in_progress.len());
        if places == 0 {
            return Ok(true);
        }
        // A row in progress is due again if it has changed.
        let limit = u32::try_from(AT_ONCE + in_progress.len()).unwrap_or(u32::MAX);
        let now = self.now();
        let mut rows = notifications::due(&self.deps.pool, shard, now, limit).await?;
        rows.retain(|(key, ..)| !in_progress.contains_key(key));
        let is_full = rows.len() >= places;
        let is_over = |row: &DueRow, found: &Found| {
            look(row, found, now) == Look::Over && decide(row, None, now, Duration::ZERO) == Step::Drop
        };
        // Most messages are read before their notification is due.
        let (over, rows): (Vec<_>, Vec<_>) =
            rows.into_iter().partition(|(_, row, found)| is_over(row, found));
        let over: Vec<_> = over.iter().map(|(key, row, _)| (key, row.version)).collect();
        notifications::remove(&self.deps.pool, &over).await?;
        for (key, row, found) in rows.into_iter().take(places) {
            let (this, name, wake) = (Arc::clone(self), key.clone(), Arc::clone(wake));
            let task = self.deps.tasks.spawn(async move {
                if let Err(error) = this.carry_out(&key, row, &found).await {
                    tracing::warn!(
                        user.id = %key.user, conversation.id = %key.conversation, %error,
                        "A notification of user {} about {} cannot be sent; it is sent again", key.user, key.conversation
                    );
                    tokio::time::sleep(POLL_INTERVAL).await;
                }
                wake.notify_one();
            });
            in_progress.insert(name, task);
        }
        Ok(is_full)
    }

    /// Does what the rules say about a row.
    async fn carry_out(&self, key: &Key, row: DueRow, found: &Found) -> Result<(), mysql::Error> {
        let Ok(_place) = self.places.semaphore().acquire().await else { return Ok(()) };
        let (pool, now) = (&self.deps.pool, self.now());
        let unread = match look(&row, found, now) {
            Look::Over => None,
            Look::Unread { mentions_only } => {
                let range = (found.read, row.last_seq);
                notifications::unread(pool, &key.conversation, &key.user, range, mentions_only).await?
            }
        };
        let newest = unread.as_ref().map(|unread| unread.newest.seq);
        match (decide(&row, newest, now, self.config().interval()), unread) {
            (Step::LookAgain { at, looks }, _) => {
                notifications::look_again(pool, key, row.version, at, looks).await
            }
            (Step::Withdraw, _) => self.withdraw(key, row).await,
            (Step::Show { seq, is_quiet, pending_only }, Some(unread)) => {
                self.show(key, row, &found.group_name, &unread, (seq, is_quiet, pending_only)).await
            }
            (Step::Drop | Step::Show { .. }, _) => notifications::remove(pool, &[(key, row.version)]).await,
        }
    }

    async fn count(&self, shard: u16) {
        let now = self.now();
        let Ok(overdue) = notifications::overdue(&self.deps.pool, shard, now).await else { return };
        let oldest_ms = overdue.oldest_due_at.map_or(0, |due_at| (now - due_at).max(0));
        let label = shard.to_string();
        #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
        let (rows, oldest_s) = (overdue.rows as f64, oldest_ms as f64 / 1_000.0);
        metrics::gauge!(GATEWAY_NOTIFICATIONS_DUE, "shard" => label.clone()).set(rows);
        metrics::gauge!(GATEWAY_NOTIFICATIONS_OLDEST, "shard" => label).set(oldest_s);
    }
}
