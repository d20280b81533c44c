//! The reader of the change feed that plans notifications, and sends those of its shard.

use std::sync::Arc;
use std::time::Duration;

use ahash::{AHashMap, AHashSet};
use async_trait::async_trait;
use shared::conversation::{Conversation, Kind};
use shared::feed::{Cursor, FeedShards};
use shared::ids::UserId;
use shared::metrics::{
    GATEWAY_NOTIFICATIONS_BEHIND, GATEWAY_NOTIFICATIONS_DUE, GATEWAY_NOTIFICATIONS_OLDEST,
};
use shared::mysql::notifications::{self, Candidate, Planned};
use shared::mysql::{self, Pool, Transaction, Tx, feed, run_tx};
use tokio::sync::{Mutex, Notify};
use tokio::time::Instant;

use super::planner::{Noted, delayed, planned};
use super::rules::millis;
use super::service::Notifications;
use crate::feed::{FeedReader, Outside, ReadError, Start, Turn};

/// The name of the reader.
const NAME: &str = "notifications";
/// Events that are planned at once.
const EVENTS_MAX: usize = 500;
/// How long to wait for an event before the lease is looked at again.
const WAIT: Duration = Duration::from_secs(10);
/// The pause after a failure.
const PAUSE: Duration = Duration::from_secs(1);
/// Users whose connections are looked up at once.
const USERS_AT_ONCE: usize = 500;

/// Runs in each gateway; the leases of the shards decide which one works.
#[derive(Debug)]
pub(crate) struct NotificationReader(Arc<Notifications>);

impl NotificationReader {
    /// Adds the reader to the database, unless it is there: it begins with the next message.
    ///
    /// # Errors
    /// The database's.
    pub(crate) async fn open(
        notifications: Arc<Notifications>,
        pool: &Pool,
        shards: FeedShards,
    ) -> Result<Self, mysql::Error> {
        let mut connection = pool.acquire().await?;
        let added = feed::add_reader(&mut connection, NAME, shards).await;
        connection.finish(added)?;
        Ok(Self(notifications))
    }
}

#[async_trait]
impl FeedReader for NotificationReader {
    fn has(&self, name: &str) -> bool {
        name == NAME
    }

    async fn run(&self, turn: Turn) {
        let (shard, wake) = (turn.shard, Arc::new(Notify::new()));
        // Whoever runs the reader next counts what waits.
        scopeguard::defer! {
            for gauge in [GATEWAY_NOTIFICATIONS_BEHIND, GATEWAY_NOTIFICATIONS_DUE, GATEWAY_NOTIFICATIONS_OLDEST] {
                metrics::gauge!(gauge, "shard" => shard.to_string()).set(0.0);
            }
        }
        self.0.set_clock().await;
        tokio::select! {
            () = self.0.plan(turn, &wake) => {}
            () = self.0.send_due(shard, &wake) => {}
        }
    }
}

impl Notifications {
    /// Plans what the feed has, until the lease is lost. After a failure it ends too: the next turn begins at the stored place.
    async fn plan(&self, mut turn: Turn, wake: &Notify) {
        loop {
            let now = self.now();
            let read =
                self.deps.feed.read(turn.shard, Start::After(turn.cursor), EVENTS_MAX, |page, has_more| {
                    (Noted::of(page, now), has_more)
                });
            let (noted, has_more) = match read.await {
                Ok(read) => read,
                Err(ReadError::Outside { why, go_on }) => {
                    let skipped = match why {
                        Outside::Removed { .. } => "messages in between are not notified of",
                        Outside::Ahead => "messages are notified of from its end on",
                    };
                    tracing::warn!(
                        shard = turn.shard,
                        position = go_on,
                        "Notifications go on at another place of the change feed, {skipped}: {why}"
                    );
                    (Noted { next: Cursor::after(go_on), ..Noted::default() }, true)
                }
                Err(ReadError::Unavailable(_)) => {
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
            };
            let behind_s = if has_more && noted.last_at > 0 { (now - noted.last_at).max(0) } else { 0 };
            #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
            metrics::gauge!(GATEWAY_NOTIFICATIONS_BEHIND, "shard" => turn.shard.to_string())
                .set(behind_s as f64 / 1_000.0);
            if noted.next == turn.cursor {
                self.deps.feed.wait(turn.shard, turn.cursor, Instant::now() + WAIT).await;
                continue;
            }
            match self.record(&mut turn, &noted, now).await {
                Ok(true) if noted.is_empty() => {}
                Ok(true) => wake.notify_one(),
                Ok(false) => return,
                Err(error) => {
                    tracing::warn!(shard = turn.shard, %error, "Notifications cannot be planned; they are planned again");
                    tokio::time::sleep(PAUSE).await;
                    return;
                }
            }
        }
    }

    /// Records what `noted` calls for with the place of the reader. False if the lease is lost.
    async fn record(&self, turn: &mut Turn, noted: &Noted, now: i64) -> Result<bool, mysql::Error> {
        let rows = self.rows(noted, now).await?;
        let (from, shard) = (turn.cursor, turn.shard);
        let interval_ms = millis(self.config().interval());
        run_tx(
            &self.deps.pool,
            &Record { turn: Mutex::new(turn), from, shard, noted, rows, interval_ms, now },
        )
        .await
    }

    /// A row for each user and conversation.
    async fn rows(&self, noted: &Noted, now: i64) -> Result<Vec<Planned>, mysql::Error> {
        let pool = &self.deps.pool;
        let mut rows = Vec::new();
        let (mut groups, mut chats): (Vec<&Conversation>, Vec<&Conversation>) = Default::default();
        for conversation in noted.calling.keys() {
            if conversation.kind() == Kind::Group { &mut groups } else { &mut chats }.push(conversation);
        }
        let mut add = |conversation: &Conversation, candidate: &Candidate| {
            let calling = noted.calling.get(conversation).map_or(&[][..], Vec::as_slice);
            rows.extend(planned(conversation, calling, candidate, now));
        };
        if !chats.is_empty() {
            for (chat, candidate) in notifications::of_private_chats(pool, &chats).await? {
                add(chat, &candidate);
            }
        }
        for group in groups {
            for candidate in notifications::of_group(pool, group).await? {
                add(group, &candidate);
            }
        }
        self.delay_connected(&mut rows, now).await;
        // In the order of the key, so that two transactions lock rows in the same order.
        rows.sort_unstable_by(|a, b| (&a.user, &a.conversation).cmp(&(&b.user, &b.conversation)));
        Ok(rows)
    }

    /// Users with a connection read first. While that cannot be looked up, all users do.
    async fn delay_connected(&self, rows: &mut [Planned], now: i64) {
        let users: AHashSet<UserId> = rows.iter().map(|row| row.user.clone()).collect();
        let users: Vec<UserId> = users.into_iter().collect();
        let mut connected: AHashMap<&UserId, bool> = AHashMap::with_capacity(users.len());
        for users in users.chunks(USERS_AT_ONCE) {
            match self.deps.online.among(users).await {
                Ok(found) => connected.extend(users.iter().zip(found)),
                Err(error) => {
                    tracing::warn!(%error, "Presence cannot be read from Redis; all users are notified after push.delay_s");
                    break;
                }
            }
        }
        let delay = self.config().delay();
        for row in rows {
            if connected.get(&row.user).copied().unwrap_or(true) {
                delayed(row, delay, now);
            }
        }
    }
}

/// The transaction that makes each message planned once.
struct Record<'r> {
    turn: Mutex<&'r mut Turn>,
    from: Cursor,
    shard: u16,
    noted: &'r Noted,
    rows: Vec<Planned>,
    interval_ms: i64,
    now: i64,
}

impl Transaction for Record<'_> {
    type Output = bool;
    type Error = mysql::Error;

    const NAME: &'static str = "plan notifications";

    async fn run(&self, tx: &mut Tx) -> Result<bool, mysql::Error> {
        let mut turn = self.turn.lock().await;
        // An earlier run was rolled back.
        turn.cursor = self.from;
        if !turn.advance(tx, self.noted.next).await? {
            return Ok(false);
        }
        notifications::upsert(tx, self.shard, &self.rows, self.interval_ms).await?;
        for (conversation, target, recall) in &self.noted.recalls {
            notifications::recalled(tx, conversation, *target, *recall, self.now).await?;
        }
        for (conversation, users) in &self.noted.left {
            notifications::removed_members(tx, users, conversation).await?;
        }
        for conversation in &self.noted.changed {
            notifications::changed(tx, conversation, self.now).await?;
        }
        Ok(true)
    }
}
