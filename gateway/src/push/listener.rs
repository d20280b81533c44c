//! Hears the events of workers and gateways, on a queue of this gateway's own.

use std::sync::Arc;
use std::time::Instant;

use futures_util::{FutureExt as _, StreamExt as _};
use lapin::message::Delivery;
use lapin::options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions};
use lapin::types::{FieldTable, ShortString};
use lapin::{Channel, Consumer};
use shared::amqp::Broker;
use shared::amqp::broker::BrokerError;
use shared::backoff::Backoff;
use shared::envelope;
use shared::health::Check;
use shared::shutdown::Shutdown;
use tokio::sync::watch;

use super::fanout::Fanout;
use super::stream_numbers::StreamNumbers;

/// Batches that the broker sends ahead of their acknowledgement: bounds the memory for a slow gateway.
const PREFETCH: u16 = 500;
/// Batches after which an acknowledgement is sent even if more are waiting.
const ACK_EVERY: usize = 100;

/// The consumer of this gateway's push queue.
#[derive(Debug)]
pub struct Listener {
    broker: Arc<Broker>,
    gateway: u64,
    fanout: Fanout,
    check: Check,
    bound: watch::Sender<bool>,
}

impl Listener {
    /// Nothing is bound yet. `check` passes while the queue is consumed.
    #[must_use]
    pub fn new(broker: Arc<Broker>, gateway: u64, fanout: Fanout, check: Check) -> Self {
        Self { broker, gateway, fanout, check, bound: watch::Sender::new(false) }
    }

    /// Becomes true once the queue is bound: connections that are accepted from then on miss nothing.
    #[must_use]
    pub fn bound(&self) -> watch::Receiver<bool> {
        self.bound.subscribe()
    }

    /// Listens until the stop. Whenever the queue is lost, a new one is bound, and all clients are told to pull.
    pub async fn run(self, shutdown: Shutdown) {
        let mut backoff = Backoff::dependency();
        for epoch in 0.. {
            match self.bind(epoch).await {
                Ok((_channel, consumer)) => {
                    backoff.reset();
                    if epoch > 0 {
                        tracing::warn!(epoch, "push queue bound again: telling all clients to pull");
                        self.fanout.changes_lost();
                        self.fanout.resync_all();
                    }
                    self.check.pass();
                    self.bound.send_replace(true);
                    if shutdown.run_until_stopped(self.consume(consumer)).await.is_none() {
                        return;
                    }
                    self.check.fail("the push queue was lost");
                }
                Err(error) => self.check.fail(error.to_string()),
            }
            if !shutdown.sleep(backoff.next_delay()).await {
                return;
            }
        }
    }

    async fn bind(&self, epoch: u64) -> Result<(Channel, Consumer), BrokerError> {
        let channel = self.broker.channel().await?;
        let queue = self.broker.topology().declare_push_queue(&channel, self.gateway, epoch).await?;
        channel.basic_qos(PREFETCH, BasicQosOptions::default()).await?;
        let options = BasicConsumeOptions { exclusive: true, ..Default::default() };
        let consumer =
            channel.basic_consume(queue, ShortString::default(), options, FieldTable::default()).await?;
        Ok((channel, consumer))
    }

    /// Until the consumer ends: its connection broke, or the queue was deleted.
    async fn consume(&self, mut consumer: Consumer) {
        let mut numbers = StreamNumbers::new(Instant::now());
        while let Some(Ok(mut delivery)) = consumer.next().await {
            let mut taken = 1;
            self.take(&delivery, &mut numbers);
            // One acknowledgement for everything that is there already.
            while taken < ACK_EVERY
                && let Some(Some(Ok(next))) = consumer.next().now_or_never()
            {
                self.take(&next, &mut numbers);
                delivery = next;
                taken += 1;
            }
            if delivery.ack(BasicAckOptions { multiple: true }).await.is_err() {
                return;
            }
        }
    }

    fn take(&self, delivery: &Delivery, numbers: &mut StreamNumbers) {
        let batch = match envelope::decode_events(&delivery.data) {
            Ok(batch) => batch,
            Err(error) => {
                tracing::warn!(%error, "events not decodable: telling all clients to pull");
                self.fanout.changes_lost();
                self.fanout.resync_all();
                return;
            }
        };
        let handed_over = batch.shard.is_some_and(|shard| numbers.speaks(batch.stream, shard));
        let gap = numbers.heard(batch.stream, batch.number, batch.events.is_empty(), Instant::now());
        if gap || handed_over {
            let (shard, number) = (batch.shard, batch.number);
            tracing::warn!(shard, number, gap, "events may be lost: telling all clients to pull");
            if shard.is_none() {
                self.fanout.changes_lost();
            }
            self.fanout.resync_all();
        }
        for kind in batch.events.into_iter().filter_map(|event| event.kind) {
            self.fanout.tell(kind);
        }
    }
}
