//! The dead-letter queue as an operator uses it: list, replay and drop dead letters.
//!
//! A dead letter that was taken and not acknowledged returns to the queue when the connection is closed. A quorum queue
//! counts these returns (RabbitMQ 4 drops a message after 20), so a dead letter that was returned a few times is
//! published anew, which resets the count.

use std::borrow::Cow;
use std::time::Duration;

use lapin::message::BasicGetMessage;
use lapin::options::{BasicAckOptions, BasicGetOptions, BasicPublishOptions, ConfirmSelectOptions};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{BasicProperties, Channel, Confirmation, Connection};
use shared::amqp::Topology;
use shared::amqp::addresses::{Addresses, ConnectError};
use shared::config::{Amqp, ConfigError};
use shared::envelope;
use shared::shard::{ShardId, ShardLayout};
use tokio::time::timeout;
use xxhash_rust::xxh64::xxh64;

use super::dead_letter_publisher::{REASON, SHARD, TIME_MS};

/// Longest wait for each answer of the broker.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Header in which a quorum queue counts returns.
const DELIVERY_COUNT: &str = "x-delivery-count";
/// A dead letter with this many returns is published anew.
const REPUBLISH_AFTER: i64 = 5;

/// Why an operation on the dead-letter queue failed.
#[derive(Debug, thiserror::Error)]
pub enum DeadLetterError {
    /// `amqp.url` is not an AMQP address.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// No address answers.
    #[error("RabbitMQ: {0}")]
    Connect(#[from] ConnectError),
    /// The connection or channel failed.
    #[error("RabbitMQ: {0}")]
    Lapin(#[from] lapin::Error),
    /// RabbitMQ did not answer in time.
    #[error("RabbitMQ did not answer within {} s", TIMEOUT.as_secs())]
    Timeout(#[from] tokio::time::error::Elapsed),
    /// RabbitMQ did not accept the dead letter; it remains in the queue.
    #[error("RabbitMQ did not accept dead letter {0}: it remains in the dead-letter queue")]
    Refused(String),
    /// The dead letter does not name an existing shard.
    #[error("dead letter {id} names no shard below {shards}: it cannot be replayed")]
    NoShard {
        /// Id of the dead letter.
        id: String,
        /// Number of shards.
        shards: u16,
    },
}

/// A message, or a body of messages, that could not be stored.
#[derive(Debug)]
pub struct DeadLetter {
    /// Hash of the body and the headers: the same each time it is listed, and the same for a copy.
    pub id: String,
    /// Why it could not be stored: as the worker wrote it, or why RabbitMQ moved it here.
    pub reason: String,
    /// The shard from whose queue it came, if it is known.
    pub shard: Option<u32>,
    /// When it was moved here, in milliseconds since 1970, if that is known.
    pub time_ms: Option<i64>,
    /// The body as it was published.
    pub body: Vec<u8>,
    delivery: u64,
    returns: i64,
    headers: FieldTable,
}

impl DeadLetter {
    fn new(got: BasicGetMessage) -> Self {
        let delivery = got.delivery;
        let mut headers = delivery.properties.headers().clone().unwrap_or_default();
        let returns = headers.inner().get(DELIVERY_COUNT).and_then(integer).unwrap_or(0);
        // The broker's counters change with each return; the id must not.
        headers = FieldTable::from(
            headers
                .inner()
                .iter()
                .filter(|(name, _)| {
                    !name.as_str().starts_with("x-delivery") && name.as_str() != "x-acquired-count"
                })
                .map(|(name, value)| (name.clone(), value.clone()))
                .collect::<std::collections::BTreeMap<_, _>>(),
        );
        let header = |name: &str| headers.inner().get(name);
        let text = |value: &AMQPValue| Some(value.as_long_string()?.to_string());
        let reason = header(REASON)
            .and_then(text)
            .or_else(|| header("x-first-death-reason").and_then(text).map(|why| format!("RabbitMQ: {why}")));
        let mut hashed = delivery.data.clone();
        hashed.extend(format!("{headers:?}").into_bytes());
        Self {
            id: format!("{:016x}", xxh64(&hashed, 0)),
            reason: reason.unwrap_or_else(|| "unknown: it was not published by a worker".to_owned()),
            shard: header(SHARD).and_then(integer).and_then(|shard| u32::try_from(shard).ok()),
            time_ms: header(TIME_MS).and_then(integer),
            body: delivery.data,
            delivery: delivery.delivery_tag,
            returns,
            headers,
        }
    }

    /// How many messages it holds; 0 if the body cannot be decoded.
    #[must_use]
    pub fn messages(&self) -> usize {
        envelope::decode_batch(&self.body).map_or(0, |batch| batch.messages.len() + batch.refused.len())
    }

    /// The shard it belongs to: a body that can be decoded says so itself.
    fn destination(&self) -> Option<u32> {
        envelope::decode_batch(&self.body).map_or(self.shard, |batch| Some(batch.shard))
    }

    /// Its shard in `layout`, and the body for it. Messages of an earlier layout get the shard of their conversation; `None` if
    /// they have several, or cannot be decoded.
    fn for_layout(&self, layout: ShardLayout) -> Option<(ShardId, Cow<'_, [u8]>)> {
        if let Some(shard) = self.destination().map(ShardId).filter(|shard| layout.has(*shard)) {
            return Some((shard, Cow::Borrowed(&self.body)));
        }
        let batch = envelope::decode_batch(&self.body).ok().filter(|batch| batch.refused.is_empty())?;
        let mut shards = batch.messages.iter().map(|message| layout.of(&message.conversation));
        let shard = shards.next().filter(|first| shards.all(|shard| shard == *first))?;
        Some((shard, Cow::Owned(envelope::encode_batch(shard, batch.messages.iter()))))
    }
}

fn integer(value: &AMQPValue) -> Option<i64> {
    match value {
        AMQPValue::LongLongInt(n) => Some(*n),
        AMQPValue::LongInt(n) => Some(i64::from(*n)),
        AMQPValue::LongUInt(n) => Some(i64::from(*n)),
        AMQPValue::ShortInt(n) => Some(i64::from(*n)),
        AMQPValue::ShortUInt(n) => Some(i64::from(*n)),
        AMQPValue::ShortShortInt(n) => Some(i64::from(*n)),
        AMQPValue::ShortShortUInt(n) => Some(i64::from(*n)),
        _ => None,
    }
}

/// A connection to the dead-letter queue.
#[derive(Debug)]
pub struct DeadLetterQueue {
    connection: Connection,
    channel: Channel,
    topology: Topology,
}

impl DeadLetterQueue {
    /// Connects. Declares nothing.
    ///
    /// # Errors
    /// RabbitMQ cannot be reached, or the queue does not exist because no worker was ever started on this broker.
    pub async fn open(settings: &Amqp, topology: Topology) -> Result<Self, DeadLetterError> {
        let connection = Addresses::new(settings)?.connect("worker, dead letters", TIMEOUT).await?;
        let channel = timeout(TIMEOUT, connection.create_channel()).await??;
        timeout(TIMEOUT, topology.check_dead_queue(&channel)).await??;
        timeout(TIMEOUT, channel.confirm_select(ConfirmSelectOptions::default())).await??;
        Ok(Self { connection, channel, topology })
    }

    /// Takes up to `max` dead letters, the oldest first.
    ///
    /// # Errors
    /// [`DeadLetterError`]; those that were taken return to the queue.
    pub async fn take(&self, max: usize) -> Result<Vec<DeadLetter>, DeadLetterError> {
        let mut letters = Vec::new();
        while letters.len() < max {
            let got = self.channel.basic_get(self.topology.dead_queue(), BasicGetOptions::default());
            let Some(got) = timeout(TIMEOUT, got).await?? else { break };
            letters.push(DeadLetter::new(got));
        }
        Ok(letters)
    }

    /// Publishes the body for the workers again, and removes the dead letter once the broker has confirmed. A message
    /// that is stored already is recognized by its id; a message that still cannot be stored becomes a dead letter again.
    ///
    /// # Errors
    /// [`DeadLetterError`]; the dead letter remains.
    pub async fn replay(&self, letter: &DeadLetter) -> Result<(), DeadLetterError> {
        let layout = self.topology.shards();
        let Some((shard, body)) = letter.for_layout(layout) else {
            return Err(DeadLetterError::NoShard { id: letter.id.clone(), shards: layout.get() });
        };
        self.publish(&letter.id, &body, (self.topology.messages_exchange(), self.key(shard)), None).await?;
        self.discard(letter).await
    }

    fn key(&self, shard: ShardId) -> ShortString {
        self.topology.shard_key(shard)
    }

    /// Removes the dead letter for good.
    ///
    /// # Errors
    /// [`DeadLetterError`]; the dead letter remains.
    pub async fn discard(&self, letter: &DeadLetter) -> Result<(), DeadLetterError> {
        Ok(timeout(TIMEOUT, self.channel.basic_ack(letter.delivery, BasicAckOptions::default())).await??)
    }

    /// Closes the connection, which returns `remaining` to the queue. Those with many returns are published anew first.
    ///
    /// # Errors
    /// [`DeadLetterError`]; nothing is lost, but a dead letter may be in the queue twice.
    pub async fn close(self, remaining: &[DeadLetter]) -> Result<(), DeadLetterError> {
        for letter in remaining.iter().filter(|letter| letter.returns >= REPUBLISH_AFTER) {
            let (queue, headers) = (self.topology.dead_queue(), letter.headers.clone());
            self.publish(&letter.id, &letter.body, (queue, ShortString::default()), Some(headers)).await?;
            self.discard(letter).await?;
        }
        Ok(timeout(TIMEOUT, self.connection.close(200, "bye".into())).await??)
    }

    /// One at a time, so that a confirmation cannot belong to another publish.
    async fn publish(
        &self,
        id: &str,
        body: &[u8],
        (exchange, key): (ShortString, ShortString),
        headers: Option<FieldTable>,
    ) -> Result<(), DeadLetterError> {
        let options = BasicPublishOptions { mandatory: true, ..Default::default() };
        let mut properties = BasicProperties::default()
            .with_delivery_mode(2)
            .with_content_type("application/x-protobuf".into());
        if let Some(headers) = headers {
            properties = properties.with_headers(headers);
        }
        let published =
            async { self.channel.basic_publish(exchange, key, options, body, properties).await?.await };
        match timeout(TIMEOUT, published).await?? {
            Confirmation::Ack(None) => Ok(()),
            _ => Err(DeadLetterError::Refused(id.to_owned())),
        }
    }
}
