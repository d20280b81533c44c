//! One shard's queue: deliveries come in, checked messages and acknowledgements go out.
//!
//! The broker delivers a bounded number of bodies ahead. They gather in the channel's buffer while a batch is being
//! committed, and the next batch takes them together.

use std::num::NonZeroUsize;
use std::time::Duration;

use futures_util::{FutureExt as _, StreamExt as _};
use lapin::message::Delivery;
use lapin::options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions};
use lapin::types::{FieldTable, ShortString};
use lapin::{Channel, Consumer};
use shared::amqp::Broker;
use shared::amqp::broker::BrokerError;
use shared::envelope;
use shared::message::Numbered;
use shared::shard::{ShardCount, ShardId};

use crate::commit::pending::{DeliveryTag, Pending};
use crate::settle::Ack;

/// Longest that subscribing may take.
const OPEN_TIMEOUT: Duration = Duration::from_secs(5);

/// Why deliveries come no more. The remedy is always a new channel; what was not acknowledged is delivered again.
#[derive(Debug, thiserror::Error)]
pub enum ConsumeError {
    /// No channel.
    #[error(transparent)]
    Broker(#[from] BrokerError),
    /// As lapin says.
    #[error("RabbitMQ: {0}")]
    Lapin(#[from] lapin::Error),
    /// No answer in time.
    #[error("RabbitMQ did not answer within {} s", OPEN_TIMEOUT.as_secs())]
    Timeout,
    /// The broker ended the subscription: the queue was deleted, or its node went away.
    #[error("RabbitMQ cancelled the consumer")]
    Cancelled,
}

/// Something that can never be stored.
#[derive(Debug)]
pub struct Refused {
    /// Which delivery brought it.
    pub delivery: DeliveryTag,
    /// Why, in a sentence.
    pub reason: String,
    /// What to keep of it: a body that can be published again once the reason is gone.
    pub body: Vec<u8>,
}

/// What one call gathered.
#[derive(Debug, Default)]
pub struct Gathered {
    /// Each delivery and the number of messages in it, refused ones included.
    pub deliveries: Vec<(DeliveryTag, usize)>,
    /// What can be stored, in order of delivery.
    pub messages: Vec<Pending>,
    /// What cannot.
    pub refused: Vec<Refused>,
    /// Nothing else has been delivered.
    pub caught_up: bool,
}

/// The subscription to one shard's queue.
#[derive(Debug)]
pub struct ShardConsumer {
    channel: Channel,
    consumer: Consumer,
    decoder: Decoder,
}

impl ShardConsumer {
    /// Subscribes. While another worker is the queue's active consumer, nothing comes.
    ///
    /// # Errors
    /// [`ConsumeError`]: try again after a while.
    pub async fn open(broker: &Broker, shard: ShardId, prefetch_bodies: u16) -> Result<Self, ConsumeError> {
        // A quorum queue without a leader (its node has just started) may leave the question unanswered for ever.
        let opening = Self::subscribe(broker, shard, prefetch_bodies);
        tokio::time::timeout(OPEN_TIMEOUT, opening).await.unwrap_or(Err(ConsumeError::Timeout))
    }

    async fn subscribe(broker: &Broker, shard: ShardId, prefetch_bodies: u16) -> Result<Self, ConsumeError> {
        let channel = broker.channel().await?;
        channel.basic_qos(prefetch_bodies, BasicQosOptions::default()).await?;
        let queue = broker.topology().shard_queue(shard);
        let options = BasicConsumeOptions::default();
        let consumer =
            channel.basic_consume(queue, ShortString::default(), options, FieldTable::default()).await?;
        Ok(Self { channel, consumer, decoder: Decoder::new(broker.topology().shards()) })
    }

    /// Waits for a delivery and takes all that have gathered, until there are `messages_max` messages or more (a body is
    /// never divided). Cancel safe.
    ///
    /// # Errors
    /// [`ConsumeError`]: this consumer is at its end.
    pub async fn gather(&mut self, messages_max: NonZeroUsize) -> Result<Gathered, ConsumeError> {
        let mut gathered = Gathered::default();
        // The only wait; from here on nothing is lost when the future is dropped, because nothing awaits.
        let mut next = self.consumer.next().await;
        loop {
            let delivery = next.ok_or(ConsumeError::Cancelled)??;
            self.decoder.decode(delivery, &mut gathered);
            if gathered.messages.len() >= messages_max.get() {
                return Ok(gathered);
            }
            let Some(ready) = self.consumer.next().now_or_never() else {
                gathered.caught_up = true;
                return Ok(gathered);
            };
            next = ready;
        }
    }

    /// Adds what has been delivered meanwhile, without waiting.
    ///
    /// # Errors
    /// [`ConsumeError`]: this consumer is at its end.
    pub fn gather_more(
        &mut self,
        messages_max: NonZeroUsize,
        into: &mut Gathered,
    ) -> Result<(), ConsumeError> {
        while into.messages.len() < messages_max.get() {
            let Some(next) = self.consumer.next().now_or_never() else {
                into.caught_up = true;
                return Ok(());
            };
            let delivery = next.ok_or(ConsumeError::Cancelled)??;
            self.decoder.decode(delivery, into);
        }
        into.caught_up = false;
        Ok(())
    }

    /// Sends acknowledgements.
    ///
    /// # Errors
    /// [`ConsumeError::Lapin`]: they may be lost, and the bodies come again.
    pub async fn acknowledge(&self, acks: Vec<Ack>) -> Result<(), ConsumeError> {
        for Ack { tag, multiple } in acks {
            self.channel.basic_ack(tag, BasicAckOptions { multiple }).await?;
        }
        Ok(())
    }

    /// Whether deliveries can still be acknowledged.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.channel.status().connected()
    }

    /// Unsubscribes. What was not acknowledged goes back into the queue, in its old place.
    ///
    /// By closing the channel, which is one step for the broker. Cancelled first, the next worker would be given what
    /// stands behind the unacknowledged, as much as its window takes, and never what it waits for.
    pub async fn close(self) {
        // Should it fail, the channel is gone anyway.
        let _ = self.channel.close(200, "shard given up".into()).await;
    }
}

/// Turns bodies into messages.
#[derive(Debug)]
struct Decoder {
    shards: ShardCount,
    arrivals: u64,
}

impl Decoder {
    fn new(shards: ShardCount) -> Self {
        Self { shards, arrivals: 0 }
    }

    fn decode(&mut self, delivery: Delivery, into: &mut Gathered) {
        let Delivery { delivery_tag: tag, redelivered, data, .. } = delivery;
        match envelope::decode_batch(&data) {
            Ok(batch) => {
                into.deliveries.push((tag, batch.messages.len() + batch.refused.len()));
                let refused = batch.refused.into_iter();
                into.refused.extend(refused.map(|(error, body)| Refused {
                    delivery: tag,
                    reason: error.to_string(),
                    body,
                }));
                for message in batch.messages {
                    match self.misrouted(batch.shard, &message) {
                        Some((reason, body)) => into.refused.push(Refused { delivery: tag, reason, body }),
                        None => {
                            self.arrivals += 1;
                            into.messages.push(Pending::new(message, tag, self.arrivals, redelivered));
                        }
                    }
                }
            }
            Err(error) => {
                into.deliveries.push((tag, 1));
                into.refused.push(Refused { delivery: tag, reason: error.to_string(), body: data });
            }
        }
    }

    /// A sender that hashes differently splits a conversation over two queues: its messages are not taken. (One that
    /// hashes as we do but stands in another queue, put there by hand, is: the row locks make that safe.)
    fn misrouted(&self, meant: u32, message: &Numbered) -> Option<(String, Vec<u8>)> {
        let shard = self.shards.of(&message.conversation);
        (u32::from(shard.0) != meant).then(|| {
            let count = self.shards.get();
            let reason =
                format!("sent to shard {meant}, but belongs to shard {shard} of {count}: check shards.count");
            (reason, envelope::encode_batch(shard, std::iter::once(message)))
        })
    }
}

#[cfg(test)]
mod tests {
    use shared::message::MessageKind;
    use shared::message::fixture::{numbered, with_kind};

    use super::*;

    /// A message of shard 7 of 8.
    fn message(seq: u64) -> Numbered {
        numbered("group_101", seq, "alice", &format!("m{seq}"))
    }

    fn decode(bodies: &[Vec<u8>]) -> Gathered {
        let mut decoder = Decoder::new(ShardCount::new(8).unwrap());
        let mut gathered = Gathered::default();
        for (tag, body) in (1..).zip(bodies) {
            let delivery =
                Delivery::mock(tag, ShortString::default(), ShortString::default(), tag == 2, body.clone());
            decoder.decode(delivery, &mut gathered);
        }
        gathered
    }

    #[test]
    fn messages_keep_the_order_of_delivery_and_know_where_they_came_from() {
        let bodies = [
            envelope::encode_batch(ShardId(7), [message(1), message(2)].iter()),
            envelope::encode_batch(ShardId(7), std::iter::once(&message(3))),
        ];
        let gathered = decode(&bodies);
        assert_eq!(gathered.deliveries, [(1, 2), (2, 1)]);
        let seen: Vec<_> =
            gathered.messages.iter().map(|p| (p.seq.0, p.delivery, p.arrival, p.redelivered)).collect();
        assert_eq!(seen, [(1, 1, 1, false), (2, 1, 2, false), (3, 2, 3, true)]);
        assert!(gathered.refused.is_empty());
    }

    #[test]
    fn what_cannot_be_stored_is_set_apart_and_its_neighbours_go_on() {
        let bad = with_kind(message(2), MessageKind::from_stored(1, String::new()));
        let bodies = [
            b"no protobuf at all".to_vec(),
            envelope::encode_batch(ShardId(7), [message(1), bad].iter()),
            envelope::encode_batch(ShardId(3), std::iter::once(&message(3))),
        ];
        let gathered = decode(&bodies);
        assert_eq!(gathered.deliveries, [(1, 1), (2, 2), (3, 1)]);
        assert_eq!(gathered.messages.len(), 1);
        let refused: Vec<_> = gathered.refused.iter().map(|r| (r.delivery, r.reason.as_str())).collect();
        assert!(matches!(refused[..], [(1, _), (2, "content is empty"), (3, _)]), "{refused:?}");
        assert!(refused[2].1.contains("sent to shard 3, but belongs to shard 7 of 8"), "{refused:?}");
        // What is kept of a misrouted message can be published again as it is.
        let again = envelope::decode_batch(&gathered.refused[2].body).unwrap();
        assert_eq!((again.shard, again.messages), (7, vec![message(3)]));
    }
}
