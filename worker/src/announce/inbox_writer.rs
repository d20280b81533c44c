//! Writing to inboxes beside the commits, with retries while Redis is unreachable.
//!
//! One round of writes runs at a time; updates that arrive meanwhile are merged in the
//! [`UpdateQueue`](super::update_queue). The delivery of a message is acknowledged only after the inboxes were written, so
//! a worker that dies leaves it to the next owner of the shard.

use std::sync::Arc;
use std::time::Instant;

use futures_util::future::try_join_all;
use futures_util::try_join;
use shared::backoff::Backoff;
use shared::conversation::Kind;
use shared::ids::UserId;
use shared::permission::Roster;
use shared::redis::RedisError;
use shared::redis::inbox::{Change, InboxUpdate, Inboxes};
use tokio::task::JoinHandle;

use super::update_queue::{ConversationUpdate, Readers, UpdateQueue};
use crate::commit::pending::DeliveryTag;

/// Inbox writes in flight at once. Those of all shards together must fit into the queue of the Redis connection.
const WRITES_AT_ONCE: usize = 500;

/// Records one shard's messages in inboxes.
#[derive(Debug)]
pub(crate) struct InboxWriter {
    inboxes: Inboxes,
    queue: UpdateQueue,
    round: Option<Round>,
    backoff: Backoff,
    /// After a failure: when the next round may start.
    not_before: Option<Instant>,
    /// Too many deliveries wait for their updates: write all of them, whatever the rate.
    hurry: bool,
}

/// Writes in flight.
#[derive(Debug)]
struct Round {
    updates: Arc<Vec<ConversationUpdate>>,
    written: JoinHandle<Written>,
}

impl InboxWriter {
    /// A writer without updates.
    #[must_use]
    pub(crate) fn new(inboxes: Inboxes) -> Self {
        let (queue, backoff) = (UpdateQueue::new(), Backoff::dependency());
        Self { inboxes, queue, round: None, backoff, not_before: None, hurry: false }
    }

    /// Writes `updates` as soon as their rate allows; with `hurry` at any rate.
    pub(crate) fn record(&mut self, updates: Vec<ConversationUpdate>, hurry: bool) {
        for update in updates {
            self.queue.add(update);
        }
        self.hurry = hurry;
        self.start(Instant::now());
    }

    /// Waits until updates are written, and returns the deliveries that are settled by that. Never completes while there
    /// are no updates. Cancel safe.
    pub(crate) async fn written(&mut self) -> Vec<DeliveryTag> {
        loop {
            if let Some(settled) = self.finish_round().await {
                self.start(Instant::now());
                if !settled.is_empty() {
                    return settled;
                }
                continue;
            }
            let Some(due) = self.next_start(Instant::now()) else { return std::future::pending().await };
            tokio::time::sleep_until(due.into()).await;
            self.start(Instant::now());
        }
    }

    /// Writes all updates, in one attempt, and returns the deliveries that are settled by that.
    pub(crate) async fn finish(&mut self) -> Vec<DeliveryTag> {
        let mut settled = self.finish_round().await.unwrap_or_default();
        (self.not_before, self.hurry) = (None, true);
        self.start(Instant::now());
        settled.extend(self.finish_round().await.unwrap_or_default());
        settled
    }

    /// Whether no delivery waits for an update.
    #[must_use]
    pub(crate) fn is_idle(&self) -> bool {
        self.round.is_none() && self.queue.is_empty()
    }

    fn next_start(&self, now: Instant) -> Option<Instant> {
        let due = self.queue.next_due(now)?;
        let due = if self.hurry { now } else { due };
        Some(self.not_before.map_or(due, |not_before| due.max(not_before)))
    }

    fn start(&mut self, now: Instant) {
        if self.round.is_some() || self.not_before.is_some_and(|not_before| now < not_before) {
            return;
        }
        let due = self.queue.take_due(self.hurry, now);
        if !due.is_empty() {
            let updates = Arc::new(due);
            #[expect(clippy::disallowed_methods, reason = "the round holds the task and waits for it")]
            let written = tokio::spawn(write_all(self.inboxes.clone(), Arc::clone(&updates)));
            self.round = Some(Round { updates, written });
        }
    }

    /// Waits for the current round, if there is one.
    async fn finish_round(&mut self) -> Option<Vec<DeliveryTag>> {
        let round = self.round.as_mut()?;
        let written = (&mut round.written).await;
        let Round { updates, .. } = self.round.take()?;
        let (written, error) = written.unwrap_or_else(|error| {
            tracing::error!(%error, "The inbox writer of a shard panicked; its updates are retried");
            (Vec::new(), None)
        });
        let updates = Arc::unwrap_or_clone(updates);
        let (mut settled, mut failed) = (Vec::new(), 0);
        for (at, update) in updates.into_iter().enumerate() {
            if written.get(at).is_some_and(|written| *written) {
                settled.extend(update.deliveries);
            } else {
                failed += 1;
                self.queue.add(update);
            }
        }
        if failed == 0 {
            if self.not_before.take().is_some() {
                tracing::info!("Inboxes are updated again");
            }
            self.backoff.reset();
        } else {
            if let Some(error) = error.filter(|_| self.not_before.is_none()) {
                tracing::warn!(
                    conversations = failed, %error,
                    "Cannot update inboxes in Redis; retrying, the messages stay unacknowledged"
                );
            }
            metrics::counter!(shared::metrics::WORKER_INBOXES_FAILED).increment(failed);
            self.not_before = Some(Instant::now() + self.backoff.next_delay());
        }
        Some(settled)
    }
}

/// Which updates were written, and why the others were not.
type Written = (Vec<bool>, Option<RedisError>);

/// Writes `updates`. After a failure the rest is not tried.
async fn write_all(inboxes: Inboxes, updates: Arc<Vec<ConversationUpdate>>) -> Written {
    let mut written = Vec::with_capacity(updates.len());
    while written.len() < updates.len() {
        let rest = &updates[written.len()..];
        let mut writes = 0;
        let at_once = rest.iter().take_while(|update| {
            let first = writes == 0;
            writes += update.writes();
            first || writes <= WRITES_AT_ONCE
        });
        let at_once = &rest[..at_once.count()];
        if let Err(error) = write(&inboxes, at_once).await {
            written.resize(updates.len(), false);
            return (written, Some(error));
        }
        written.resize(written.len() + at_once.len(), true);
    }
    (written, None)
}

/// Writes all of `updates`. After an error any of them may be written.
async fn write(inboxes: &Inboxes, updates: &[ConversationUpdate]) -> Result<(), RedisError> {
    let pairs: Vec<Vec<UserId>> = updates.iter().map(pair).collect();
    let (mut inbox_updates, mut group_heads) = (Vec::new(), Vec::new());
    for (ConversationUpdate { conversation, last_seq, readers, .. }, pair) in updates.iter().zip(&pairs) {
        let update = |user| InboxUpdate { user, conversation, change: Change::Messages(*last_seq) };
        match readers {
            Readers::Pair => inbox_updates.extend(pair.iter().map(update)),
            Readers::Members(members) => {
                if let Roster::Group(group) = &members.roster {
                    inbox_updates.extend(group.members.keys().map(update));
                }
            }
            Readers::LargeGroup { .. } => {
                group_heads.push(inboxes.record_group_head(conversation, *last_seq))
            }
        }
    }
    let begun = Instant::now();
    try_join!(inboxes.record(inbox_updates.into_iter()), try_join_all(group_heads))?;
    metrics::histogram!(shared::metrics::WORKER_INBOX_TIME).record(begun.elapsed());
    let writes: usize = updates.iter().map(ConversationUpdate::writes).sum();
    metrics::counter!(shared::metrics::WORKER_INBOX_WRITES).increment(writes as u64);
    Ok(())
}

/// The users of a private conversation, each once; nobody for other readers.
fn pair(update: &ConversationUpdate) -> Vec<UserId> {
    let (Readers::Pair, Kind::Private(lo, hi)) = (&update.readers, update.conversation.kind()) else {
        return Vec::new();
    };
    let mut users: Vec<UserId> = [lo, hi].iter().filter_map(|user| UserId::parse(user).ok()).collect();
    users.dedup();
    users
}
