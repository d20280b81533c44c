//! Writing to inboxes beside the commits, and trying again while Redis is away.
//!
//! One round of writes is on its way at a time; what comes meanwhile gathers in [`touches`](super::touches). A message's
//! delivery is acknowledged only when its conversation is noted, so a worker that dies leaves it to its successor.

use std::sync::Arc;
use std::time::Instant;

use futures_util::future::try_join_all;
use futures_util::try_join;
use shared::backoff::Backoff;
use shared::conversation::Kind;
use shared::ids::UserId;
use shared::permission::Roster;
use shared::redis::RedisError;
use shared::redis::inbox::{self, Inboxes, Note};
use tokio::task::JoinHandle;

use super::touches::{Readers, Touch, Touches};
use crate::commit::pending::DeliveryTag;

/// Inboxes written at once; all shards together must stay below what the connection lets wait.
const WRITES_AT_ONCE: usize = 500;

/// Notes one shard's messages in inboxes.
#[derive(Debug)]
pub struct InboxWriter {
    inboxes: Inboxes,
    touches: Touches,
    round: Option<Round>,
    backoff: Backoff,
    /// Redis failed: not before then is it asked again.
    not_before: Option<Instant>,
    /// Too many deliveries wait for what is written here: no regard to how often.
    hurry: bool,
}

/// Writes on their way.
#[derive(Debug)]
struct Round {
    touches: Arc<Vec<Touch>>,
    /// Which of them were written.
    written: JoinHandle<Vec<bool>>,
}

impl InboxWriter {
    /// Nothing waits yet.
    #[must_use]
    pub fn new(inboxes: Inboxes) -> Self {
        let (touches, backoff) = (Touches::new(), Backoff::dependency());
        Self { inboxes, touches, round: None, backoff, not_before: None, hurry: false }
    }

    /// Notes `touches`, at once or as soon as it can be. `hurry`: without regard to how often.
    pub fn note(&mut self, touches: Vec<Touch>, hurry: bool) {
        for touch in touches {
            self.touches.add(touch);
        }
        self.hurry = hurry;
        self.start(Instant::now());
    }

    /// Waits until something is written and returns the deliveries that are settled by it. For ever if nothing waits.
    /// Cancel safe.
    pub async fn written(&mut self) -> Vec<DeliveryTag> {
        loop {
            if let Some(settled) = self.finish_round().await {
                // What gathered meanwhile follows at once.
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

    /// Writes all that waits, trying once, and returns the deliveries that are settled by it.
    pub async fn finish(&mut self) -> Vec<DeliveryTag> {
        let mut settled = self.finish_round().await.unwrap_or_default();
        (self.not_before, self.hurry) = (None, true);
        self.start(Instant::now());
        settled.extend(self.finish_round().await.unwrap_or_default());
        settled
    }

    /// Whether no delivery waits for anything here.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.round.is_none() && self.touches.is_empty()
    }

    fn next_start(&self, now: Instant) -> Option<Instant> {
        let due = self.touches.next_due(now)?;
        let due = if self.hurry { now } else { due };
        Some(self.not_before.map_or(due, |not_before| due.max(not_before)))
    }

    fn start(&mut self, now: Instant) {
        if self.round.is_some() || self.not_before.is_some_and(|not_before| now < not_before) {
            return;
        }
        let due = self.touches.take_due(self.hurry, now);
        if !due.is_empty() {
            let touches = Arc::new(due);
            #[expect(clippy::disallowed_methods, reason = "the round holds the task and waits for it")]
            let written = tokio::spawn(write_all(self.inboxes.clone(), Arc::clone(&touches)));
            self.round = Some(Round { touches, written });
        }
    }

    /// Waits for the round that is on its way, if there is one.
    async fn finish_round(&mut self) -> Option<Vec<DeliveryTag>> {
        let round = self.round.as_mut()?;
        let written = (&mut round.written).await;
        let Round { touches, .. } = self.round.take()?;
        let written = written.unwrap_or_else(|error| {
            tracing::error!(%error, "writing to inboxes ended badly");
            Vec::new()
        });
        let touches = Arc::unwrap_or_clone(touches);
        let (mut settled, mut failed) = (Vec::new(), 0);
        for (at, touch) in touches.into_iter().enumerate() {
            if written.get(at).is_some_and(|written| *written) {
                settled.extend(touch.deliveries);
            } else {
                failed += 1;
                self.touches.add(touch);
            }
        }
        if failed == 0 {
            self.backoff.reset();
            self.not_before = None;
        } else {
            metrics::counter!(shared::metrics::WORKER_INBOXES_FAILED).increment(failed);
            self.not_before = Some(Instant::now() + self.backoff.next_delay());
        }
        Some(settled)
    }
}

/// Writes `touches` and says of each whether that succeeded. After a failure the rest is not tried.
async fn write_all(inboxes: Inboxes, touches: Arc<Vec<Touch>>) -> Vec<bool> {
    let mut written = Vec::with_capacity(touches.len());
    while written.len() < touches.len() {
        let rest = &touches[written.len()..];
        let mut writes = 0;
        let at_once = rest.iter().take_while(|touch| {
            let first = writes == 0;
            writes += touch.writes();
            first || writes <= WRITES_AT_ONCE
        });
        let at_once = &rest[..at_once.count()];
        if let Err(error) = write(&inboxes, at_once).await {
            tracing::warn!(%error, "inboxes not written yet");
            written.resize(touches.len(), false);
        } else {
            written.resize(written.len() + at_once.len(), true);
        }
    }
    written
}

/// Writes all of `touches`, or it is not known which.
async fn write(inboxes: &Inboxes, touches: &[Touch]) -> Result<(), RedisError> {
    let pairs: Vec<Vec<UserId>> = touches.iter().map(pair).collect();
    let (mut notes, mut heads) = (Vec::new(), Vec::new());
    for (Touch { conversation, last_seq, readers, .. }, pair) in touches.iter().zip(&pairs) {
        let note = |user| Note { user, conversation, touch: inbox::Touch::Messages(*last_seq) };
        match readers {
            Readers::Pair => notes.extend(pair.iter().map(note)),
            Readers::Members(rights) => {
                if let Roster::Group(group) = &rights.roster {
                    notes.extend(group.members.keys().map(note));
                }
            }
            Readers::Head { .. } => heads.push(inboxes.touch_group(conversation, *last_seq)),
        }
    }
    try_join!(inboxes.touch(notes.into_iter()), try_join_all(heads))?;
    let writes: usize = touches.iter().map(Touch::writes).sum();
    metrics::counter!(shared::metrics::WORKER_INBOX_WRITES).increment(writes as u64);
    Ok(())
}

/// Whose inboxes a private conversation is noted in, each once.
fn pair(touch: &Touch) -> Vec<UserId> {
    let (Readers::Pair, Kind::Private(lo, hi)) = (&touch.readers, touch.conversation.kind()) else {
        return Vec::new();
    };
    let mut users: Vec<UserId> = [lo, hi].iter().filter_map(|user| UserId::parse(user).ok()).collect();
    users.dedup();
    users
}
