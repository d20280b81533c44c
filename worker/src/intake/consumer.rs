//! The consumer of one shard's queue: deliveries come in, checked messages and acknowledgements go out.
//!
//! The broker delivers a limited number of bodies ahead. They gather in the channel's buffer during a commit, and the
//! next batch takes them together.

use std::num::NonZeroUsize;
use std::time::Duration;

use futures_util::{FutureExt as _, StreamExt as _};
use lapin::message::Delivery;
use lapin::options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions};
use lapin::types::{FieldTable, ShortString};
use lapin::{Channel, Consumer};
use shared::amqp::broker::BrokerError;
use shared::amqp::{Broker, Topology};
use shared::envelope;
use shared::message::Numbered;
use shared::shard::{ShardId, ShardLayout};
use shared::shutdown::Shutdown;
use tokio::time::timeout;

use crate::commit::pending::{DeliveryTag, Pending};
use crate::commit::traces;
use crate::settle::Ack;

/// Longest wait for an answer, and for the socket to take an acknowledgement.
const OPEN_TIMEOUT: Duration = Duration::from_secs(5);

/// Why a consumer ended. The remedy is always a new channel: the broker delivers again what was not acknowledged.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConsumeError {
    /// No channel could be opened.
    #[error(transparent)]
    Broker(#[from] BrokerError),
    /// The connection or channel failed.
    #[error("RabbitMQ: {0}")]
    Lapin(#[from] lapin::Error),
    /// No answer in time.
    #[error("RabbitMQ did not answer within {} s", OPEN_TIMEOUT.as_secs())]
    Timeout,
    /// The broker cancelled the consumer: the queue was deleted, or its node is down.
    #[error("RabbitMQ cancelled the consumer")]
    Cancelled,
    /// Messages are ready, and the broker does not deliver them.
    #[error("RabbitMQ delivers nothing of what is published to the queue")]
    Silent,
}

/// A body, or a message of one, that can never be stored.
#[derive(Debug)]
pub(crate) struct Rejected {
    /// The delivery that it came with.
    pub(crate) delivery: DeliveryTag,
    /// Why, as a sentence.
    pub(crate) reason: String,
    /// The body of the dead letter, which can be published again once the cause is removed.
    pub(crate) body: Vec<u8>,
}

/// A delivery of which the messages are in an [`Intake`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Arrived {
    /// The broker's number of it.
    pub(crate) tag: DeliveryTag,
    /// The number of messages in it, rejected ones included.
    pub(crate) messages: usize,
    /// When it was published, in seconds since the Unix epoch. `None` if a gateway of an earlier version published it.
    pub(crate) published_s: Option<u64>,
}

/// Decoded deliveries, for one batch.
#[derive(Debug, Default)]
pub(crate) struct Intake {
    /// Each delivery.
    pub(crate) deliveries: Vec<Arrived>,
    /// Messages that can be stored, in order of delivery.
    pub(crate) messages: Vec<Pending>,
    /// What cannot be stored.
    pub(crate) rejected: Vec<Rejected>,
    /// Everything that has been delivered is in this or an earlier batch.
    pub(crate) caught_up: bool,
}

/// A subscription to one shard's queue.
#[derive(Debug)]
pub(crate) struct ShardConsumer {
    shard: ShardId,
    topology: Topology,
    channel: Channel,
    consumer: Consumer,
    decoder: Decoder,
}

impl ShardConsumer {
    /// Subscribes; `None` if a stop is requested before it has begun. Nothing is delivered while another worker is the active
    /// consumer of the queue.
    ///
    /// A subscription that has begun is waited for, also after `stop`, or its channel is closed: if its future is dropped before
    /// the broker answers, lapin keeps the consumer on a channel that nothing closes. Once it is the active consumer of the
    /// queue, the shard's messages go to it, and nobody reads them.
    ///
    /// # Errors
    /// [`ConsumeError`]: retry after a pause.
    pub(crate) async fn open(
        broker: &Broker,
        shard: ShardId,
        prefetch_bodies: u16,
        stop: &Shutdown,
    ) -> Option<Result<Self, ConsumeError>> {
        let channel = match stop.run_until_stopped(broker.channel()).await? {
            Ok(channel) => channel,
            Err(error) => return Some(Err(error.into())),
        };
        // A quorum queue without a leader (its node has just started) may never answer.
        let subscribing = Self::subscribe(broker, channel.clone(), shard, prefetch_bodies);
        let subscribed = timeout(OPEN_TIMEOUT, subscribing).await.unwrap_or(Err(ConsumeError::Timeout));
        if subscribed.is_err() {
            close(&channel).await;
        }
        Some(subscribed)
    }

    async fn subscribe(
        broker: &Broker,
        channel: Channel,
        shard: ShardId,
        prefetch_bodies: u16,
    ) -> Result<Self, ConsumeError> {
        channel.basic_qos(prefetch_bodies, BasicQosOptions::default()).await?;
        let queue = broker.topology().shard_queue(shard);
        let options = BasicConsumeOptions::default();
        let consumer =
            channel.basic_consume(queue, ShortString::default(), options, FieldTable::default()).await?;
        let topology = broker.topology().clone();
        // Without it every message would be rejected.
        let layout = topology.layout_of(shard).ok_or(ConsumeError::Cancelled)?;
        let decoder = Decoder::new(layout);
        Ok(Self { shard, topology, channel, consumer, decoder })
    }

    /// Waits for a delivery, and takes all that have gathered until there are `messages_max` messages or more (a body
    /// is never divided). Cancel safe.
    ///
    /// # Errors
    /// [`ConsumeError`]: this consumer has ended.
    pub(crate) async fn gather(&mut self, messages_max: NonZeroUsize) -> Result<Intake, ConsumeError> {
        let mut intake = Intake::default();
        // The only await: dropping the future loses no delivery.
        let mut next = self.consumer.next().await;
        loop {
            let delivery = next.ok_or(ConsumeError::Cancelled)??;
            self.decoder.decode(delivery, &mut intake);
            if intake.messages.len() >= messages_max.get() {
                return Ok(intake);
            }
            let Some(ready) = self.consumer.next().now_or_never() else {
                intake.caught_up = true;
                return Ok(intake);
            };
            next = ready;
        }
    }

    /// Adds what has been delivered since, without waiting.
    ///
    /// # Errors
    /// [`ConsumeError`]: this consumer has ended.
    pub(crate) fn gather_more(
        &mut self,
        messages_max: NonZeroUsize,
        intake: &mut Intake,
    ) -> Result<(), ConsumeError> {
        while intake.messages.len() < messages_max.get() {
            let Some(next) = self.consumer.next().now_or_never() else {
                intake.caught_up = true;
                return Ok(());
            };
            let delivery = next.ok_or(ConsumeError::Cancelled)??;
            self.decoder.decode(delivery, intake);
        }
        intake.caught_up = false;
        Ok(())
    }

    /// Sends acknowledgements.
    ///
    /// # Errors
    /// [`ConsumeError::Lapin`]: they may be lost, and the bodies be delivered again.
    pub(crate) async fn acknowledge(&self, acks: Vec<Ack>) -> Result<(), ConsumeError> {
        let sending = async {
            for Ack { tag, multiple } in acks {
                self.channel.basic_ack(tag, BasicAckOptions { multiple }).await?;
            }
            Ok(())
        };
        timeout(OPEN_TIMEOUT, sending).await.unwrap_or(Err(ConsumeError::Timeout))
    }

    /// The number of messages that are ready in the queue, and of its consumers.
    ///
    /// # Errors
    /// [`ConsumeError`]: this consumer has ended.
    pub(crate) async fn inspect(&self) -> Result<(u32, u32), ConsumeError> {
        let inspecting = self.topology.inspect_shard_queue(&self.channel, self.shard);
        Ok(timeout(OPEN_TIMEOUT, inspecting).await.map_err(|_| ConsumeError::Timeout)??)
    }

    /// Whether deliveries can still be acknowledged.
    #[must_use]
    pub(crate) fn is_open(&self) -> bool {
        self.channel.status().connected()
    }

    /// Unsubscribes. What was not acknowledged returns to its place in the queue.
    ///
    /// This closes the channel, which is one step for the broker. After a separate cancel, the next worker would first be
    /// given its whole window of later deliveries, without the unacknowledged ones that they wait for.
    pub(crate) async fn close(self) {
        close(&self.channel).await;
    }
}

async fn close(channel: &Channel) {
    // After a failure the channel is gone as well, or the broker does not answer.
    let _ = timeout(OPEN_TIMEOUT, channel.close(200, "shard released".into())).await;
}

/// Decodes bodies into messages.
#[derive(Debug)]
struct Decoder {
    shards: ShardLayout,
    arrivals: u64,
}

impl Decoder {
    fn new(shards: ShardLayout) -> Self {
        Self { shards, arrivals: 0 }
    }

    fn decode(&mut self, delivery: Delivery, intake: &mut Intake) {
        let Delivery { delivery_tag: tag, redelivered, data, properties, .. } = delivery;
        let arrived = |messages| Arrived { tag, messages, published_s: *properties.timestamp() };
        match envelope::decode_batch(&data) {
            Ok(batch) => {
                intake.deliveries.push(arrived(batch.messages.len() + batch.refused.len()));
                let rejected = batch.refused.into_iter();
                intake.rejected.extend(rejected.map(|(error, body)| Rejected {
                    delivery: tag,
                    reason: error.to_string(),
                    body,
                }));
                for mut message in batch.messages {
                    traces::delivered(&mut message, redelivered);
                    match self.misrouted(batch.shard, &message) {
                        Some((reason, body)) => {
                            intake.rejected.push(Rejected { delivery: tag, reason, body });
                        }
                        None => {
                            self.arrivals += 1;
                            intake.messages.push(Pending::new(message, tag, self.arrivals, redelivered));
                        }
                    }
                }
            }
            Err(error) => {
                intake.deliveries.push(arrived(1));
                intake.rejected.push(Rejected { delivery: tag, reason: error.to_string(), body: data });
            }
        }
    }

    /// A gateway that computes another shard would split a conversation over two queues: its messages are rejected. A
    /// message with the right shard in the wrong queue (published by an operator) is accepted: row locks make that safe.
    fn misrouted(&self, meant: u32, message: &Numbered) -> Option<(String, Vec<u8>)> {
        let shard = self.shards.of(&message.conversation);
        (shard.0 != meant).then(|| {
            let count = self.shards.get();
            let reason = format!(
                "sent to shard {}, but belongs to shard {shard} of {count}: check shards.count",
                ShardId(meant)
            );
            (reason, envelope::encode_batch(shard, std::iter::once(message)))
        })
    }
}

#[cfg(test)]
mod tests {
    use shared::config::Amqp;
    use shared::health::Health;
    use shared::message::MessageKind;
    use shared::message::fixture::{numbered, with_kind};
    use testbed::stack::{Stores, wait_for};

    use super::*;

    /// A message of shard 7 of 8.
    fn message(seq: u64) -> Numbered {
        numbered("group_101", seq, "alice", &format!("m{seq}"))
    }

    fn decode(bodies: &[Vec<u8>]) -> Intake {
        let mut decoder = Decoder::new(ShardLayout::new(8).unwrap());
        let mut intake = Intake::default();
        for (tag, body) in (1..).zip(bodies) {
            let delivery =
                Delivery::mock(tag, ShortString::default(), ShortString::default(), tag == 2, body.clone());
            decoder.decode(delivery, &mut intake);
        }
        intake
    }

    fn sizes(intake: &Intake) -> Vec<(DeliveryTag, usize)> {
        intake.deliveries.iter().map(|arrived| (arrived.tag, arrived.messages)).collect()
    }

    #[test]
    fn messages_keep_the_order_and_the_tag_of_their_delivery() {
        let bodies = [
            envelope::encode_batch(ShardId(7), [message(1), message(2)].iter()),
            envelope::encode_batch(ShardId(7), std::iter::once(&message(3))),
        ];
        let intake = decode(&bodies);
        assert_eq!(sizes(&intake), [(1, 2), (2, 1)]);
        let seen: Vec<_> =
            intake.messages.iter().map(|p| (p.seq.0, p.delivery, p.arrival, p.redelivered)).collect();
        assert_eq!(seen, [(1, 1, 1, false), (2, 1, 2, false), (3, 2, 3, true)]);
        assert!(intake.rejected.is_empty());
    }

    #[test]
    fn messages_that_cannot_be_stored_are_rejected_and_the_others_are_taken() {
        let bad = with_kind(message(2), MessageKind::Text(shared::message::Body::default()));
        let bodies = [
            b"no protobuf at all".to_vec(),
            envelope::encode_batch(ShardId(7), [message(1), bad].iter()),
            envelope::encode_batch(ShardId(3), std::iter::once(&message(3))),
        ];
        let intake = decode(&bodies);
        assert_eq!(sizes(&intake), [(1, 1), (2, 2), (3, 1)]);
        assert_eq!(intake.messages.len(), 1);
        let rejected: Vec<_> = intake.rejected.iter().map(|r| (r.delivery, r.reason.as_str())).collect();
        assert!(matches!(rejected[..], [(1, _), (2, "content is empty"), (3, _)]), "{rejected:?}");
        assert!(rejected[2].1.contains("sent to shard 3, but belongs to shard 7 of 8"), "{rejected:?}");
        // The body of a misrouted message's dead letter can be published as it is.
        let again = envelope::decode_batch(&intake.rejected[2].body).unwrap();
        assert_eq!((again.shard, again.messages), (7, vec![message(3)]));
    }

    /// On a real broker: a shard that is released while it is acquired has no consumer afterwards.
    #[tokio::test]
    async fn a_stop_at_any_moment_of_the_subscription_leaves_no_consumer_behind() {
        let stores = Stores::for_test().await.unwrap();
        let settings = Amqp {
            url: stores.amqp_url.as_str().into(),
            prefix: stores.amqp_prefix.clone(),
            ..Amqp::default()
        };
        let topology = Topology::new(&settings.prefix, ShardLayout::new(1).unwrap());
        let check = Health::new().check("rabbitmq");
        let broker = Broker::new(&settings, topology.clone(), "worker, consuming", check).unwrap();
        let channel = broker.channel().await.unwrap();
        for n in 0..60 {
            let stop = Shutdown::new();
            let opening = ShardConsumer::open(&broker, ShardId(0), 16, &stop);
            let stopping = async {
                tokio::time::sleep(Duration::from_micros(n * 100)).await;
                stop.stop();
            };
            let (opened, ()) = tokio::join!(opening, stopping);
            if let Some(consumer) = opened {
                consumer.unwrap().close().await;
            }
        }
        wait_for("the end of all consumers", Duration::from_secs(20), async || {
            let (_, consumers) = topology.inspect_shard_queue(&channel, ShardId(0)).await?;
            anyhow::ensure!(consumers == 0, "{consumers} consumers are left");
            Ok(())
        })
        .await
        .unwrap();
    }
}
