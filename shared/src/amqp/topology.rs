//! Every exchange and queue, with all arguments. Nobody else names one.
//!
//! Arguments whose server default differs between RabbitMQ 3.10 and 4.x are set explicitly.

use lapin::options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{Channel, ExchangeKind};

use crate::shard::{ShardCount, ShardId};

/// How often a batch may be delivered before the broker gives up on it. It must never: an outage that kills workers
/// again and again is no reason to lose messages. 4.x gives up after 20 where nothing is said.
const DELIVERY_LIMIT: i32 = 1_000_000;
/// A push that no gateway took for so long is of no use: its clients have been told to pull.
const PUSH_TTL_MS: i32 = 30_000;
/// Batches that may wait for one gateway; the oldest go first, and the gateway notices by their numbers.
const PUSH_QUEUE_BATCHES_MAX: i32 = 20_000;
/// The same in bytes.
const PUSH_QUEUE_BYTES_MAX: i64 = 64 << 20;
/// A gateway's push queue that nobody consumes for so long is removed (its gateway has gone).
const PUSH_QUEUE_EXPIRES_MS: i32 = 60_000;

/// The names under one prefix.
#[derive(Debug, Clone)]
pub struct Topology {
    prefix: String,
    shards: ShardCount,
}

impl Topology {
    /// Names that begin with `prefix`.
    #[must_use]
    pub fn new(prefix: &str, shards: ShardCount) -> Self {
        Self { prefix: prefix.to_owned(), shards }
    }

    /// How many work queues there are.
    #[must_use]
    pub fn shards(&self) -> ShardCount {
        self.shards
    }

    /// Direct exchange that gateways publish batches to, with [`shard_key`](Self::shard_key).
    #[must_use]
    pub fn messages_exchange(&self) -> ShortString {
        format!("{}.msg", self.prefix).into()
    }

    /// Routing key of a shard.
    #[must_use]
    pub fn shard_key(&self, shard: ShardId) -> ShortString {
        shard.to_string().into()
    }

    /// Work queue of a shard: durable, quorum, one active consumer.
    #[must_use]
    pub fn shard_queue(&self, shard: ShardId) -> ShortString {
        format!("{}.msg.{shard}", self.prefix).into()
    }

    /// Fanout exchange that every gateway's push queue is bound to.
    #[must_use]
    pub fn push_exchange(&self) -> ShortString {
        format!("{}.push", self.prefix).into()
    }

    /// Queue (and direct exchange of the same name, for the broker's own dead-lettering) of what can never be stored.
    #[must_use]
    pub fn dead_queue(&self) -> ShortString {
        format!("{}.dead", self.prefix).into()
    }

    /// Declares everything durable. Idempotent.
    ///
    /// # Errors
    /// A `PRECONDITION_FAILED` names the queue whose arguments differ from an earlier declaration.
    pub async fn declare(&self, channel: &Channel) -> lapin::Result<()> {
        let durable = ExchangeDeclareOptions { durable: true, ..Default::default() };
        for (name, kind) in [
            (self.messages_exchange(), ExchangeKind::Direct),
            (self.push_exchange(), ExchangeKind::Fanout),
            (self.dead_queue(), ExchangeKind::Fanout),
        ] {
            channel.exchange_declare(name, kind, durable, FieldTable::default()).await?;
        }
        self.declare_queue(channel, self.dead_queue(), quorum()).await?;
        self.bind(channel, self.dead_queue(), self.dead_queue(), ShortString::default()).await?;
        for shard in self.shards.all() {
            let mut arguments = quorum();
            arguments.insert("x-single-active-consumer".into(), AMQPValue::Boolean(true));
            arguments.insert("x-delivery-limit".into(), AMQPValue::LongInt(DELIVERY_LIMIT));
            arguments.insert("x-dead-letter-exchange".into(), text(&self.dead_queue()));
            self.declare_queue(channel, self.shard_queue(shard), arguments).await?;
            self.bind(channel, self.shard_queue(shard), self.messages_exchange(), self.shard_key(shard))
                .await?;
        }
        Ok(())
    }

    /// Declares and binds a new push queue for one epoch of one gateway, and returns its name.
    ///
    /// It is exclusive to `channel`'s connection and gone with it. Each connection needs a name of its own: the broker
    /// may hold on to the old queue for a moment after it lost the old connection.
    ///
    /// # Errors
    /// As the broker says.
    pub async fn declare_push_queue(
        &self,
        channel: &Channel,
        gateway: u64,
        epoch: u64,
    ) -> lapin::Result<ShortString> {
        let name: ShortString = format!("{}.push.{gateway:016x}.{epoch}", self.prefix).into();
        let options = QueueDeclareOptions { exclusive: true, auto_delete: true, ..Default::default() };
        let mut arguments = FieldTable::default();
        arguments.insert("x-queue-type".into(), AMQPValue::LongString("classic".into()));
        arguments.insert("x-max-length".into(), AMQPValue::LongInt(PUSH_QUEUE_BATCHES_MAX));
        arguments.insert("x-max-length-bytes".into(), AMQPValue::LongLongInt(PUSH_QUEUE_BYTES_MAX));
        arguments.insert("x-overflow".into(), AMQPValue::LongString("drop-head".into()));
        arguments.insert("x-message-ttl".into(), AMQPValue::LongInt(PUSH_TTL_MS));
        arguments.insert("x-expires".into(), AMQPValue::LongInt(PUSH_QUEUE_EXPIRES_MS));
        channel.queue_declare(name.clone(), options, arguments).await?;
        self.bind(channel, name.clone(), self.push_exchange(), ShortString::default()).await?;
        Ok(name)
    }

    async fn declare_queue(
        &self,
        channel: &Channel,
        name: ShortString,
        arguments: FieldTable,
    ) -> lapin::Result<()> {
        let durable = QueueDeclareOptions { durable: true, ..Default::default() };
        channel.queue_declare(name, durable, arguments).await.map(drop)
    }

    async fn bind(
        &self,
        on: &Channel,
        queue: ShortString,
        to: ShortString,
        key: ShortString,
    ) -> lapin::Result<()> {
        on.queue_bind(queue, to, key, QueueBindOptions::default(), FieldTable::default()).await
    }
}

fn quorum() -> FieldTable {
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
    arguments
}

fn text(value: &ShortString) -> AMQPValue {
    AMQPValue::LongString(value.as_str().into())
}
