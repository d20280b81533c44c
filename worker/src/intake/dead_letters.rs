//! What can never be stored is kept in the dead-letter queue with the reason, for an operator to look at.
//!
//! One task publishes for all shards. Nothing is dropped: while the broker does not confirm, the delivery stays
//! unacknowledged, and its queue's other messages go on.

use std::sync::Arc;
use std::time::Duration;

use lapin::types::{AMQPValue, FieldTable, ShortString};
use shared::amqp::{Broker, ConfirmingPublisher};
use shared::backoff::Backoff;
use shared::ids::unix_millis;
use shared::shard::ShardId;
use shared::shutdown::Shutdown;
use tokio::sync::{mpsc, oneshot};

/// Letters that may wait for the publisher; whoever has one more waits too.
const WAITING_MAX: usize = 64;
/// A publish that is not confirmed by then is tried again; the letter may then be there twice.
const CONFIRM_PATIENCE: Duration = Duration::from_secs(10);

/// Headers of a dead letter.
pub(super) const REASON: &str = "x-im-reason";
pub(super) const SHARD: &str = "x-im-shard";
pub(super) const TIME_MS: &str = "x-im-time-ms";
/// AMQP short strings bound the names; the reason is cut so that the header frame stays small.
const REASON_CHARS_MAX: usize = 500;

struct Letter {
    shard: ShardId,
    reason: String,
    body: Vec<u8>,
    kept: oneshot::Sender<()>,
}

/// Where to bring what cannot be stored. Cheap to clone.
#[derive(Debug, Clone)]
pub struct DeadLetters {
    letters: mpsc::Sender<Letter>,
}

impl DeadLetters {
    /// Starts the publishing task, which ends when `stop` asks for it or every handle is gone.
    #[must_use]
    pub fn start(broker: Arc<Broker>, stop: &Shutdown) -> Self {
        let (letters, waiting) = mpsc::channel(WAITING_MAX);
        let publishing = publish_all(broker, waiting);
        let until = stop.clone();
        stop.spawn(async move { until.run_until_stopped(publishing).await });
        Self { letters }
    }

    /// Keeps `body`. True once the broker has confirmed it; false if the worker stops before.
    pub async fn bury(&self, shard: ShardId, reason: String, body: Vec<u8>) -> bool {
        tracing::error!(%shard, %reason, bytes = body.len(), "message can never be stored");
        let (kept, confirmed) = oneshot::channel();
        self.letters.send(Letter { shard, reason, body, kept }).await.is_ok() && confirmed.await.is_ok()
    }
}

async fn publish_all(broker: Arc<Broker>, mut waiting: mpsc::Receiver<Letter>) {
    let mut publisher = ConfirmingPublisher::new(Arc::clone(&broker));
    let mut backoff = Backoff::dependency();
    while let Some(letter) = waiting.recv().await {
        let headers = headers(&letter);
        loop {
            let exchange = broker.topology().dead_queue();
            let published = publisher.publish(
                exchange,
                ShortString::default(),
                &letter.body,
                Some(headers.clone()),
                CONFIRM_PATIENCE,
            );
            match published.await {
                Ok(()) => break,
                Err(error) => {
                    tracing::warn!(shard = %letter.shard, %error, "dead letter not kept yet");
                    tokio::time::sleep(backoff.next_delay()).await;
                }
            }
        }
        backoff.reset();
        metrics::counter!(shared::metrics::WORKER_DEAD).increment(1);
        // Nobody waits if the shard's channel was lost meanwhile: the body comes again, and is kept again.
        let _ = letter.kept.send(());
    }
}

fn headers(letter: &Letter) -> FieldTable {
    let reason: String = letter.reason.chars().take(REASON_CHARS_MAX).collect();
    let mut headers = FieldTable::default();
    headers.insert(REASON.into(), AMQPValue::LongString(reason.into()));
    headers.insert(SHARD.into(), AMQPValue::LongUInt(u32::from(letter.shard.0)));
    headers.insert(TIME_MS.into(), AMQPValue::LongLongInt(unix_millis()));
    headers
}
