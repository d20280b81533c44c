//! The consumer of events from workers and gateways, on a queue of this gateway.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::{FutureExt as _, Stream, StreamExt as _};
use lapin::message::Delivery;
use lapin::options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions};
use lapin::types::{FieldTable, ShortString};
use lapin::{Channel, Consumer};
use proto::v1;
use shared::amqp::Broker;
use shared::amqp::broker::{BrokerError, Link};
use shared::backoff::Backoff;
use shared::envelope;
use shared::health::Check;
use shared::shutdown::Shutdown;
use tokio::sync::watch;
use tokio::time::timeout;

use super::acknowledgements::{PREFETCH, Unacknowledged};
use super::fanout::Fanout;
use super::stream_numbers::{Header, Kind, StreamNumbers};

/// Deliveries that are handled at a time.
const GATHERED_MAX: usize = 100;
/// Without any event for this long the queue is considered lost: every gateway, this one included, sends a beacon each
/// second.
const SILENCE: Duration = Duration::from_secs(10);

/// Longest wait for an answer of the broker.
const BIND_TIMEOUT: Duration = Duration::from_secs(5);

/// The consumer of this gateway's push queue.
#[derive(Debug)]
pub(crate) struct Listener {
    broker: Arc<Broker>,
    gateway: u64,
    fanout: Fanout,
    check: Check,
    bound: watch::Sender<bool>,
}

impl Listener {
    /// Nothing is bound yet. `check` passes while the queue is consumed.
    #[must_use]
    pub(crate) fn new(broker: Arc<Broker>, gateway: u64, fanout: Fanout, check: Check) -> Self {
        Self { broker, gateway, fanout, check, bound: watch::Sender::new(false) }
    }

    /// Becomes true when the queue is bound: connections that are accepted later miss no event.
    #[must_use]
    pub(crate) fn bound(&self) -> watch::Receiver<bool> {
        self.bound.subscribe()
    }

    /// Consumes until the stop. If the queue is lost, it binds a new one and sends a resync to all clients.
    pub(crate) async fn run(self, shutdown: Shutdown) {
        let mut backoff = Backoff::dependency();
        for epoch in 0.. {
            // A queue that is bound before its exchange is declared again receives nothing.
            let mut declared = self.broker.declared();
            declared.mark_unchanged();
            match self.bind(epoch).await {
                Ok((_channel, consumer)) => {
                    backoff.reset();
                    if epoch > 0 {
                        tracing::warn!(
                            stream.epoch = epoch,
                            "Consuming a new push queue; events may be lost, and all clients are told to pull"
                        );
                        self.fanout.changes_lost();
                        self.fanout.resync_all();
                    }
                    self.check.pass();
                    self.bound.send_replace(true);
                    let consuming = async {
                        tokio::select! {
                            () = self.consume(consumer) => {}
                            _ = declared.changed() => {}
                        }
                    };
                    if shutdown.run_until_stopped(consuming).await.is_none() {
                        return;
                    }
                    self.check.fail("the push queue was lost");
                }
                Err(error) => self.check.fail(error.to_string()),
            }
            self.remove(epoch).await;
            if !shutdown.sleep(backoff.next_delay()).await {
                return;
            }
        }
    }

    async fn bind(&self, epoch: u64) -> Result<(Channel, Consumer), BrokerError> {
        let binding = async {
            let channel = self.broker.channel().await?;
            let queue = self.broker.topology().declare_push_queue(&channel, self.gateway, epoch).await?;
            channel.basic_qos(PREFETCH, BasicQosOptions::default()).await?;
            let options = BasicConsumeOptions { exclusive: true, ..Default::default() };
            let consumer =
                channel.basic_consume(queue, ShortString::default(), options, FieldTable::default()).await?;
            Ok((channel, consumer))
        };
        timeout(BIND_TIMEOUT, binding).await.unwrap_or(Err(BrokerError::Timeout))
    }

    /// Removes a queue that is not consumed (any more): it is exclusive to the connection, which may live on, and it may
    /// never have had the consumer with which it ends.
    async fn remove(&self, epoch: u64) {
        if *self.broker.link().borrow() == Link::Down {
            return;
        }
        let removing = async {
            let channel = self.broker.channel().await?;
            self.broker.topology().delete_push_queue(&channel, self.gateway, epoch).await?;
            Ok::<_, BrokerError>(())
        };
        // Otherwise it expires.
        let _ = timeout(BIND_TIMEOUT, removing).await;
    }

    /// Consumes until the consumer ends (its connection broke, or the queue was deleted), or receives nothing for
    /// [`SILENCE`].
    async fn consume(&self, mut consumer: Consumer) {
        let (mut numbers, mut gathered) = (StreamNumbers::new(Instant::now()), Vec::new());
        let mut unacknowledged = Unacknowledged::default();
        loop {
            let gathering = gather(&mut consumer, GATHERED_MAX, &mut gathered);
            let Ok(goes_on) = timeout(SILENCE, gathering).await else {
                let (gateway, silence_s) = (self.gateway, SILENCE.as_secs());
                tracing::warn!(
                    gateway.id = format!("{gateway:016x}"),
                    silence_s,
                    "The push queue of gateway {gateway:016x} delivered no event for {silence_s} s; declaring it again"
                );
                return;
            };
            let now = Instant::now();
            for delivery in &gathered {
                self.take(delivery, &mut numbers);
                unacknowledged.add(delivery.data.len(), now);
            }
            // One acknowledgement for all of them.
            let acknowledged = match gathered.last() {
                Some(last) if unacknowledged.take_due(now) => {
                    let acknowledging = last.ack(BasicAckOptions { multiple: true });
                    timeout(BIND_TIMEOUT, acknowledging).await.is_ok_and(|acknowledged| acknowledged.is_ok())
                }
                _ => true,
            };
            gathered.clear();
            if !acknowledged || !goes_on {
                return;
            }
        }
    }

    fn take(&self, delivery: &Delivery, numbers: &mut StreamNumbers) {
        let batch = match envelope::decode_events(&delivery.data) {
            Ok(batch) => batch,
            Err(error) => {
                tracing::warn!(%error, "Cannot decode a batch of events; all clients are told to pull");
                self.fanout.changes_lost();
                self.fanout.resync_all();
                return;
            }
        };
        if let Some(loss) = numbers.heard(header(&batch, self.gateway), Instant::now()) {
            tracing::warn!(
                shard.id = batch.shard, stream.number = batch.number, %loss,
                "Events may be lost ({loss}); all clients are told to pull"
            );
            if batch.shard.is_none() {
                self.fanout.changes_lost();
            }
            self.fanout.resync_all();
        }
        for kind in batch.events.into_iter().filter_map(|event| event.kind) {
            self.fanout.handle(kind);
        }
    }
}

fn header(batch: &v1::EventBatch, gateway: u64) -> Header {
    let kind = match (batch.ends, batch.events.is_empty()) {
        (true, _) => Kind::End,
        (false, true) => Kind::Beacon,
        (false, false) => Kind::Events,
    };
    let (to_all, to_this) = match batch.gateway {
        Some(_) => (None, Some(batch.number)),
        None => {
            let named = batch.gateway_numbers.iter().flat_map(|numbers| &numbers.gateways);
            let own = named.into_iter().find(|of| of.gateway == gateway);
            (Some(batch.number), own.map(|own| own.number))
        }
    };
    Header { stream: batch.stream, shard: batch.shard, to_all, to_this, kind }
}

/// Waits for an item, and adds it and further available items to `into`, at most `max`. False if the stream has ended or
/// failed: lapin reports that once, and further polls stay pending.
async fn gather<T, E>(
    stream: &mut (impl Stream<Item = Result<T, E>> + Unpin),
    max: usize,
    into: &mut Vec<T>,
) -> bool {
    let mut next = stream.next().await;
    loop {
        let Some(Ok(item)) = next else { return false };
        into.push(item);
        if into.len() >= max {
            return true;
        }
        match stream.next().now_or_never() {
            Some(ready) => next = ready,
            None => return true,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use super::*;

    /// Like a consumer of lapin: the end is reported once.
    struct Once(VecDeque<Poll<Option<Result<u32, ()>>>>);

    impl Stream for Once {
        type Item = Result<u32, ()>;

        fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
            self.0.pop_front().unwrap_or(Poll::Pending)
        }
    }

    fn item(number: u32) -> Poll<Option<Result<u32, ()>>> {
        Poll::Ready(Some(Ok(number)))
    }

    #[test]
    fn an_end_right_after_an_item_is_reported() {
        for end in [None, Some(Err(()))] {
            let mut consumer = Once([item(1), item(2), Poll::Ready(end)].into());
            let mut gathered = Vec::new();
            let goes_on = gather(&mut consumer, 100, &mut gathered).now_or_never();
            assert_eq!((goes_on, gathered), (Some(false), vec![1, 2]));
        }
    }

    #[test]
    fn available_items_are_taken_up_to_a_limit() {
        let mut consumer = Once([item(1), item(2), item(3), Poll::Pending, item(4)].into());
        let mut gathered = Vec::new();
        assert_eq!(gather(&mut consumer, 2, &mut gathered).now_or_never(), Some(true));
        assert_eq!(std::mem::take(&mut gathered), [1, 2]);
        assert_eq!(gather(&mut consumer, 2, &mut gathered).now_or_never(), Some(true));
        assert_eq!(gathered, [3], "it does not wait if an item is available");
    }
}
