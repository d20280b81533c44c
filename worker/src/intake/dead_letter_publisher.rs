//! Publishing what can never be stored to the dead-letter queue, with the reason, for an operator.
//!
//! One task publishes for all shards. Nothing is dropped: until the broker confirms, the delivery stays unacknowledged,
//! while the other messages of its queue go on.

use std::sync::Arc;
use std::time::Duration;

use lapin::types::{AMQPValue, FieldTable, ShortString};
use shared::amqp::{Broker, ConfirmingPublisher};
use shared::backoff::Backoff;
use shared::envelope;
use shared::ids::unix_millis;
use shared::shard::ShardId;
use shared::shutdown::Shutdown;
use tokio::sync::{mpsc, oneshot};

/// Dead letters that may wait for the publishing task; [`DeadLetterPublisher::publish`] waits beyond.
const WAITING_MAX: usize = 64;
/// A publish that is not confirmed within this time is repeated; the queue may then hold the dead letter twice.
const CONFIRM_TIMEOUT: Duration = Duration::from_secs(10);

/// Headers of a dead letter.
pub(super) const REASON: &str = "x-im-reason";
pub(super) const SHARD: &str = "x-im-shard";
pub(super) const TIME_MS: &str = "x-im-time-ms";
/// The reason is cut to this length, so that all headers fit into one frame.
const REASON_CHARS_MAX: usize = 500;

struct DeadLetter {
    shard: ShardId,
    reason: String,
    body: Vec<u8>,
    confirmed: oneshot::Sender<()>,
}

/// Handle to the publishing task. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct DeadLetterPublisher {
    queue: mpsc::Sender<DeadLetter>,
}

impl DeadLetterPublisher {
    /// Starts the publishing task. It ends at `stop`, or when the last handle is dropped.
    #[must_use]
    pub(crate) fn start(broker: Arc<Broker>, stop: &Shutdown) -> Self {
        let (queue, waiting) = mpsc::channel(WAITING_MAX);
        let publishing = publish_all(broker, waiting);
        let until = stop.clone();
        stop.spawn_essential("dead letters", async move { until.run_until_stopped(publishing).await });
        Self { queue }
    }

    /// Publishes `body`, and waits for the broker's confirmation. False if the worker stops before that.
    pub(crate) async fn publish(&self, shard: ShardId, reason: String, body: Vec<u8>) -> bool {
        let trace_id = envelope::trace_id(&body);
        tracing::error!(
            shard.id = %shard, %reason, size_bytes = body.len(), trace_id = trace_id.map(tracing::field::display),
            "A message of shard {shard} cannot be stored ({reason}); it is published to the dead-letter queue"
        );
        let (confirmed, confirmation) = oneshot::channel();
        let letter = DeadLetter { shard, reason, body, confirmed };
        self.queue.send(letter).await.is_ok() && confirmation.await.is_ok()
    }
}

async fn publish_all(broker: Arc<Broker>, mut waiting: mpsc::Receiver<DeadLetter>) {
    let mut publisher = ConfirmingPublisher::new(Arc::clone(&broker));
    let mut backoff = Backoff::dependency();
    while let Some(letter) = waiting.recv().await {
        let headers = headers(&letter);
        let mut failed = false;
        loop {
            let queue = broker.topology().dead_queue();
            let published = publisher.publish(
                queue,
                ShortString::default(),
                &letter.body,
                Some(headers.clone()),
                CONFIRM_TIMEOUT,
            );
            match published.await {
                Ok(()) => break,
                Err(error) => {
                    if !std::mem::replace(&mut failed, true) {
                        tracing::warn!(
                            shard.id = %letter.shard, %error,
                            "Cannot publish a dead letter of shard {}; retrying, its delivery stays unacknowledged",
                            letter.shard
                        );
                    }
                    tokio::time::sleep(backoff.next_delay()).await;
                }
            }
        }
        backoff.reset();
        metrics::counter!(shared::metrics::WORKER_DEAD).increment(1);
        // The receiver is gone if the shard's channel was lost: the body is delivered, and published here, again.
        let _ = letter.confirmed.send(());
    }
}

fn headers(letter: &DeadLetter) -> FieldTable {
    let reason: String = letter.reason.chars().take(REASON_CHARS_MAX).collect();
    let mut headers = FieldTable::default();
    headers.insert(REASON.into(), AMQPValue::LongString(reason.into()));
    headers.insert(SHARD.into(), AMQPValue::LongUInt(letter.shard.0));
    headers.insert(TIME_MS.into(), AMQPValue::LongLongInt(unix_millis()));
    headers
}
