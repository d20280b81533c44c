//! The task that delivers a shard of the change feed to an endpoint.

use std::sync::Arc;
use std::time::Duration;

use metrics::{counter, histogram};
use shared::backoff::Backoff;
use shared::feed::Cursor;
use shared::ids::unix_millis;
use shared::metrics::{
    GATEWAY_WEBHOOK_CALLS, GATEWAY_WEBHOOK_EVENTS, GATEWAY_WEBHOOK_SKIPPED, GATEWAY_WEBHOOK_TIME,
};
use shared::mysql;
use shared::webhook::WebhookId;
use tokio::time::Instant;

use super::batch::{Batch, Limits, Selection, skipped};
use super::call::CallError;
use super::definitions::Definition;
use super::lag::Lag;
use super::service::Webhooks;
use crate::feed::{Outside, ReadError, Start, Turn};
use crate::wire::api_error::ApiError;

/// The first and the longest delay after a failed call.
const DELAYS: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(300));
/// The longest delay that an endpoint may ask for.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(3_600);
/// How often the place is stored while events are read that the endpoint does not get.
const STORE_INTERVAL: Duration = Duration::from_secs(1);
/// How long a task waits for events before it looks again.
const WAIT: Duration = Duration::from_secs(30);
/// How often a task that waits for its next attempt looks whether the webhook was changed.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// Events that are read at once for a filter.
const FILTERED_PAGE: usize = 500;

/// Delivers a shard to an endpoint, as long as this gateway has the lease.
pub(super) struct Delivery<'a> {
    webhooks: &'a Webhooks,
    id: WebhookId,
    turn: Turn,
    lag: Lag,
    /// The place up to which events were looked at: after the stored one if there was nothing for the endpoint.
    seen: Cursor,
    /// When the place was stored last.
    stored_at: Instant,
    /// After failed calls.
    backoff: Backoff,
    /// After failed statements.
    database: Backoff,
    /// The end of the batch that failed.
    failed_end: Option<Cursor>,
}

/// Why a task ends, or pauses.
enum Stop {
    /// The lease is lost, or the webhook is removed.
    Ended,
    /// A statement failed, which is logged.
    Database,
}

impl From<mysql::Error> for Stop {
    fn from(error: mysql::Error) -> Self {
        tracing::warn!(%error, "A statement for a webhook failed; it is tried again");
        Self::Database
    }
}

impl<'a> Delivery<'a> {
    pub(super) fn new(webhooks: &'a Webhooks, id: WebhookId, turn: Turn) -> Self {
        Self {
            lag: webhooks.lags.enter(id.clone(), turn.shard),
            seen: turn.cursor,
            stored_at: Instant::now(),
            backoff: Backoff::new(DELAYS.0, DELAYS.1),
            database: Backoff::dependency(),
            failed_end: None,
            webhooks,
            id,
            turn,
        }
    }

    /// Delivers until the lease is lost.
    pub(super) async fn run(mut self) {
        loop {
            match self.step().await {
                Ok(()) => self.database.reset(),
                Err(Stop::Ended) => return,
                Err(Stop::Database) => tokio::time::sleep(self.database.next_delay()).await,
            }
        }
    }

    async fn step(&mut self) -> Result<(), Stop> {
        let definition = self.definition().await?;
        match self.select(&definition).await {
            Ok(Selection { batch: Some(batch), .. }) => self.send(&definition, batch).await,
            Ok(Selection { batch: None, seen, has_more }) => self.pass(seen, has_more).await,
            Err(ReadError::Outside { why, go_on }) => self.skip(&definition, why, go_on).await,
            Err(ReadError::Unavailable(_)) => Err(Stop::Database),
        }
    }

    async fn definition(&self) -> Result<Arc<Definition>, Stop> {
        let found = self.webhooks.definitions.get(&self.id, &self.webhooks.outgoing).await?;
        found.ok_or(Stop::Ended)
    }

    async fn select(&self, definition: &Definition) -> Result<Selection, ReadError> {
        let limits = Limits::of(&definition.webhook, self.failed_end);
        let page = if limits.filter.is_all() { limits.events } else { FILTERED_PAGE };
        // It is never closed.
        let _permit = self.webhooks.statements.acquire().await;
        let (start, shard) = (Start::After(self.seen), self.turn.shard);
        let selected = self
            .webhooks
            .feed
            .read(shard, start, page, |page, has_more| limits.select(shard, page, has_more))
            .await?;
        selected.map_err(|error| {
            tracing::error!(%error, webhook.id = self.id.as_str(), "An event cannot be rendered for a webhook");
            ReadError::Unavailable(ApiError::Internal)
        })
    }

    /// Calls the endpoint, and moves the place; or waits for the next attempt.
    async fn send(&mut self, definition: &Definition, batch: Batch) -> Result<(), Stop> {
        self.lag.set_oldest(Some(batch.oldest));
        let begun = Instant::now();
        let called = match &definition.target {
            Err(why) => Err(CallError::Unusable(why.clone())),
            Ok(target) => {
                let call = (batch.id.as_str(), batch.body.clone());
                target.post(&self.webhooks.outgoing, call, self.webhooks.timeout()).await
            }
        };
        histogram!(GATEWAY_WEBHOOK_TIME).record(begun.elapsed());
        let outcome = called.as_ref().map_or_else(CallError::outcome, |_| "delivered");
        counter!(GATEWAY_WEBHOOK_CALLS, "outcome" => outcome).increment(1);
        match called {
            Ok(_) => self.delivered(&batch).await,
            Err(error) => self.failed(definition, &error, batch.end).await,
        }
    }

    async fn delivered(&mut self, batch: &Batch) -> Result<(), Stop> {
        counter!(GATEWAY_WEBHOOK_EVENTS).increment(batch.events);
        // The endpoint has them: what it is not asked about again is stored, however long that takes.
        while let Err(stop) = self.store(batch.end, true).await {
            match stop {
                Stop::Ended => return Err(Stop::Ended),
                Stop::Database => tokio::time::sleep(self.database.next_delay()).await,
            }
        }
        if self.failed_end.take().is_some() {
            let (id, shard) = (self.id.as_str(), self.turn.shard);
            tracing::info!(webhook.id = id, shard.id = shard, "Webhook {id} receives shard {shard} again");
            self.lag.set_failing(false);
        }
        self.backoff.reset();
        Ok(())
    }

    /// Records the failure, and waits for the next attempt, or until the webhook is changed.
    async fn failed(&mut self, definition: &Definition, error: &CallError, end: Cursor) -> Result<(), Stop> {
        let delay = delay(self.backoff.next_delay(), error.retry_after());
        if self.failed_end.replace(end).is_none() {
            let (id, shard) = (self.id.as_str(), self.turn.shard);
            tracing::warn!(
                %error,
                webhook.id = id,
                shard.id = shard,
                "Webhook {id} does not receive shard {shard}; it is tried again until it does"
            );
            self.lag.set_failing(true);
        }
        let next = unix_millis() + i64::try_from(delay.as_millis()).unwrap_or(0);
        self.record(&error.to_string(), next).await?;
        let until = Instant::now() + delay;
        while Instant::now() < until {
            tokio::time::sleep_until(until.min(Instant::now() + LOOK_INTERVAL)).await;
            // If the database is away, it waits on.
            let now = self.webhooks.definitions.get(&self.id, &self.webhooks.outgoing).await;
            match now {
                Ok(None) => return Err(Stop::Ended),
                Ok(Some(now)) if now.webhook.updated_at != definition.webhook.updated_at => {
                    self.backoff.reset();
                    return Ok(());
                }
                Ok(Some(_)) | Err(_) => {}
            }
        }
        Ok(())
    }

    /// Goes on after events that the endpoint does not get, and waits at the end.
    async fn pass(&mut self, seen: Cursor, has_more: bool) -> Result<(), Stop> {
        self.seen = seen;
        self.failed_end = None;
        self.lag.set_failing(false);
        let is_stored = self.seen == self.turn.cursor;
        let store_at = self.stored_at + STORE_INTERVAL;
        if !is_stored && Instant::now() >= store_at {
            self.store(seen, false).await?;
        }
        if has_more {
            return Ok(());
        }
        self.lag.set_oldest(None);
        let until = if self.seen == self.turn.cursor { Instant::now() + WAIT } else { store_at };
        let is_there = self.webhooks.feed.wait(self.turn.shard, self.seen, until).await;
        if !is_there && Instant::now() < until {
            // The gateway drains.
            self.turn.stop.stopping().await;
            return Err(Stop::Ended);
        }
        Ok(())
    }

    /// Tells the endpoint that events are removed, or that the feed was cut, and goes on.
    async fn skip(&mut self, definition: &Definition, why: Outside, go_on: u64) -> Result<(), Stop> {
        let (id, shard) = (self.id.as_str(), self.turn.shard);
        let (from, to) = (self.turn.cursor, Cursor::after(go_on));
        if self.failed_end.is_none() {
            tracing::warn!(
                webhook.id = id,
                shard.id = shard,
                %from,
                %to,
                "Webhook {id} misses events of shard {shard}: {why}; it is told so, and goes on with what there is"
            );
        }
        let batch = skipped(&self.id, shard, from, to).map_err(|_| Stop::Database)?;
        self.send(definition, batch).await?;
        if self.turn.cursor == to {
            self.seen = to;
            counter!(GATEWAY_WEBHOOK_SKIPPED).increment(to.position.saturating_sub(from.position));
        }
        Ok(())
    }

    /// Moves the stored place.
    async fn store(&mut self, to: Cursor, is_success: bool) -> Result<(), Stop> {
        let _permit = self.webhooks.statements.acquire().await;
        let mut connection = self.webhooks.pool.acquire().await?;
        let moved = if is_success {
            self.turn.succeed(&mut connection, to).await
        } else {
            self.turn.advance(&mut connection, to).await
        };
        if !connection.finish(moved)? {
            return Err(Stop::Ended);
        }
        self.stored_at = Instant::now();
        self.seen = to;
        Ok(())
    }

    async fn record(&self, error: &str, next_attempt_at: i64) -> Result<(), Stop> {
        let _permit = self.webhooks.statements.acquire().await;
        let mut connection = self.webhooks.pool.acquire().await?;
        let recorded = self.turn.fail(&mut connection, error, next_attempt_at).await;
        if connection.finish(recorded)? { Ok(()) } else { Err(Stop::Ended) }
    }
}

/// The delay before the next attempt: what the endpoint asks for, but no more than an hour, and no less than the back-off.
fn delay(backoff: Duration, retry_after: Option<Duration>) -> Duration {
    retry_after.map_or(backoff, |asked| asked.min(RETRY_AFTER_MAX).max(backoff))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_may_ask_for_up_to_an_hour() {
        let s = Duration::from_secs;
        assert_eq!(delay(s(3), None), s(3));
        assert_eq!(delay(s(3), Some(s(1))), s(3));
        assert_eq!(delay(s(3), Some(s(60))), s(60));
        assert_eq!(delay(s(300), Some(s(1_000_000))), s(3_600));
    }
}
