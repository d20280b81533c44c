//! Publishing the batches of one shard to its queue.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use shared::amqp::{Broker, ConfirmingPublisher, PublishError};
use shared::backoff::Backoff;
use shared::shard::ShardId;

/// Takes the batches of one shard. A trait, so that a simulation needs no broker.
pub(crate) trait PublishBatch: Send + 'static {
    /// Whether a batch can be published at once.
    fn is_ready(&self) -> bool;

    /// Waits until a batch can be published. May be dropped and called again.
    fn until_ready(&mut self) -> impl Future<Output = ()> + Send;

    /// Publishes a batch and waits for its confirm, at most `limit`.
    ///
    /// # Errors
    /// The broker is not known to have it. It may arrive all the same.
    fn publish(
        &mut self,
        body: &[u8],
        limit: Duration,
    ) -> impl Future<Output = Result<(), PublishError>> + Send;
}

/// Publishes to the queue of one shard, over a channel of its own.
#[derive(Debug)]
pub(crate) struct ShardPublisher {
    shard: ShardId,
    publisher: ConfirmingPublisher,
    broker: Arc<Broker>,
}

impl ShardPublisher {
    /// Opens its channel when it is first used.
    #[must_use]
    pub(crate) fn new(shard: ShardId, broker: Arc<Broker>) -> Self {
        Self { shard, publisher: ConfirmingPublisher::new(Arc::clone(&broker)), broker }
    }
}

impl PublishBatch for ShardPublisher {
    fn is_ready(&self) -> bool {
        self.publisher.is_ready()
    }

    async fn until_ready(&mut self) {
        let (mut backoff, mut link) = (Backoff::dependency(), self.broker.link());
        while self.publisher.ready().await.is_err() {
            // A blocked broker says when it is unblocked; one that is unavailable must be tried again.
            tokio::select! {
                () = tokio::time::sleep(backoff.next_delay()) => {}
                _ = link.changed() => {}
            }
        }
    }

    async fn publish(&mut self, body: &[u8], limit: Duration) -> Result<(), PublishError> {
        let topology = self.broker.topology();
        let (exchange, key) = (topology.messages_exchange(), topology.shard_key(self.shard));
        self.publisher.publish(exchange, key, body, None, limit).await
    }
}
