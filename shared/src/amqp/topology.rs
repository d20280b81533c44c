//! Every exchange and queue, with all arguments. No other file names one.
//!
//! Arguments whose server default differs between RabbitMQ 3.10 and 4.x are set explicitly.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use lapin::options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions, QueueDeleteOptions};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{Channel, Connection, ExchangeKind};
use parking_lot::RwLock;

use crate::shard::{ShardId, ShardLayout};
use crate::shard_state::ShardState;

/// The number of deliveries after which the broker drops a batch. It must never do so: an outage that kills workers
/// repeatedly is no reason to lose messages. The default of RabbitMQ 4 is 20.
const DELIVERY_LIMIT: i32 = 1_000_000;
/// The age at which an unconsumed event is dropped: by then the gateway has sent a resync to its clients.
const PUSH_TTL_MS: i32 = 30_000;
/// Most batches in the queue of one gateway. The oldest are dropped first, and the gateway detects the gap.
const PUSH_QUEUE_BATCHES_MAX: i32 = 20_000;
/// The same in bytes.
const PUSH_QUEUE_BYTES_MAX: i64 = 64 << 20;
/// The time after which the push queue of a gateway without a consumer is removed.
const PUSH_QUEUE_EXPIRES_MS: i32 = 60_000;

/// The names of one deployment.
#[derive(Debug, Clone)]
pub struct Topology {
    prefix: String,
    /// Shared by all clones.
    state: Arc<RwLock<ShardState>>,
    /// The queue that was declared last has the arguments of an earlier version.
    has_earlier_arguments: Arc<AtomicBool>,
}

/// What became of a queue that was to be removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Removal {
    /// It does not exist (any more).
    Gone,
    /// It has messages, and nobody consumes it.
    NotEmpty,
    /// It is consumed.
    InUse,
}

/// The arguments of durable queues. RabbitMQ refuses another declaration of an existing queue, so a queue keeps the arguments
/// that it was made with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Arguments {
    /// With `x-overflow`: a policy that limits the length of the queue without saying what happens at the limit makes RabbitMQ
    /// refuse publishes, and not drop the oldest bodies.
    Current,
    /// Without it.
    Earlier,
}

impl Topology {
    /// Names with this prefix.
    #[must_use]
    pub fn new(prefix: &str, shards: ShardLayout) -> Self {
        let state = Arc::new(RwLock::new(ShardState::stable(shards)));
        Self { prefix: prefix.to_owned(), state, has_earlier_arguments: Arc::default() }
    }

    /// Begins all names.
    pub(super) fn prefix(&self) -> &str {
        &self.prefix
    }

    /// Follows a change of the number of shards, in all clones.
    pub fn follow(&self, state: ShardState) {
        *self.state.write() = state;
    }

    /// The layout of which every shard has an owner.
    #[must_use]
    pub fn shards(&self) -> ShardLayout {
        self.state.read().main()
    }

    /// The layout of a shard that is consumed now.
    #[must_use]
    pub fn layout_of(&self, shard: ShardId) -> Option<ShardLayout> {
        self.state.read().consumes().into_iter().find(|layout| layout.has(shard))
    }

    /// The shards whose queues must exist.
    fn declared(&self) -> Vec<ShardId> {
        self.state.read().declares().into_iter().flat_map(ShardLayout::all).collect()
    }

    /// The direct exchange to which gateways publish batches, with [`shard_key`](Self::shard_key).
    #[must_use]
    pub fn messages_exchange(&self) -> ShortString {
        format!("{}.msg", self.prefix).into()
    }

    /// The routing key of a shard.
    #[must_use]
    pub fn shard_key(&self, shard: ShardId) -> ShortString {
        shard.to_string().into()
    }

    /// The work queue of a shard: durable, quorum, with a single active consumer.
    #[must_use]
    pub fn shard_queue(&self, shard: ShardId) -> ShortString {
        format!("{}.msg.{shard}", self.prefix).into()
    }

    /// The fanout exchange to which the push queue of every gateway is bound.
    #[must_use]
    pub(crate) fn push_exchange(&self) -> ShortString {
        format!("{}.push", self.prefix).into()
    }

    /// The direct exchange to which the push queue of every gateway is bound, with its [`gateway_key`](Self::gateway_key).
    #[must_use]
    pub(crate) fn gateway_exchange(&self) -> ShortString {
        format!("{}.push.gateway", self.prefix).into()
    }

    /// The routing key of a gateway.
    #[must_use]
    pub(crate) fn gateway_key(&self, gateway: u64) -> ShortString {
        format!("{gateway:016x}").into()
    }

    /// The dead-letter queue, and the exchange of the same name for dead letters of the broker itself.
    #[must_use]
    pub fn dead_queue(&self) -> ShortString {
        format!("{}.dead", self.prefix).into()
    }

    /// Declares all durable exchanges and queues. Idempotent. Queues that an earlier version made stay as they are.
    ///
    /// # Errors
    /// A `PRECONDITION_FAILED` names the queue whose arguments no version declares.
    pub async fn declare(&self, connection: &Connection) -> lapin::Result<()> {
        let mut channel = connection.create_channel().await?;
        let durable = ExchangeDeclareOptions { durable: true, ..Default::default() };
        for (name, kind) in self.exchanges() {
            channel.exchange_declare(name, kind, durable, FieldTable::default()).await?;
        }
        for queue in self.queues() {
            channel = self.declare_either(connection, channel, queue).await?;
        }
        self.bind(&channel, self.dead_queue(), self.dead_queue(), ShortString::default()).await?;
        for shard in self.declared() {
            self.bind(&channel, self.shard_queue(shard), self.messages_exchange(), self.shard_key(shard))
                .await?;
        }
        // The channel was only for the declaration: an error while closing it has no effect.
        let _ = channel.close(200, "declared".into()).await;
        Ok(())
    }

    /// Declares a queue with the arguments of this version, or of an earlier one. Returns an open channel.
    async fn declare_either(
        &self,
        connection: &Connection,
        mut channel: Channel,
        queue: ShortString,
    ) -> lapin::Result<Channel> {
        let arguments = match self.has_earlier_arguments.load(Ordering::Relaxed) {
            false => [Arguments::Current, Arguments::Earlier],
            true => [Arguments::Earlier, Arguments::Current],
        };
        let first = self.declare_queue(&channel, queue.clone(), arguments[0]).await;
        if let Err(error) = first {
            if !has_other_arguments(&error) {
                return Err(error);
            }
            // The error closed the channel.
            channel = connection.create_channel().await?;
            self.declare_queue(&channel, queue, arguments[1]).await?;
            self.has_earlier_arguments.store(arguments[1] == Arguments::Earlier, Ordering::Relaxed);
        }
        Ok(channel)
    }

    /// Declares a queue that exists, which shows whether its arguments are those of a version.
    ///
    /// # Errors
    /// A `PRECONDITION_FAILED` names the queue whose arguments no version declares.
    pub(super) async fn declare_existing(
        &self,
        connection: &Connection,
        queue: ShortString,
    ) -> lapin::Result<()> {
        let channel = connection.create_channel().await?;
        let channel = self.declare_either(connection, channel, queue).await?;
        let _ = channel.close(200, "declared".into()).await;
        Ok(())
    }

    /// The durable queues: those of the shards and the dead-letter queue.
    pub(super) fn queues(&self) -> Vec<ShortString> {
        let shards = self.declared().into_iter().map(|shard| self.shard_queue(shard));
        std::iter::once(self.dead_queue()).chain(shards).collect()
    }

    /// Checks that all durable exchanges and queues exist and answer. Declares nothing.
    ///
    /// # Errors
    /// `NOT_FOUND` names the one that is missing, and closes the channel.
    pub(super) async fn check(&self, channel: &Channel) -> lapin::Result<()> {
        let passive = ExchangeDeclareOptions { passive: true, ..Default::default() };
        for (name, kind) in self.exchanges() {
            channel.exchange_declare(name, kind, passive, FieldTable::default()).await?;
        }
        self.inspect(channel, self.dead_queue()).await?;
        for shard in self.declared() {
            self.inspect(channel, self.shard_queue(shard)).await?;
        }
        Ok(())
    }

    /// The number of messages that are ready in the queue of a shard, and of its consumers.
    ///
    /// # Errors
    /// `NOT_FOUND` closes the channel.
    pub async fn inspect_shard_queue(&self, channel: &Channel, shard: ShardId) -> lapin::Result<(u32, u32)> {
        let queue = self.inspect(channel, self.shard_queue(shard)).await?;
        Ok((queue.message_count(), queue.consumer_count()))
    }

    /// Removes the queue of a shard of an earlier layout, if it is empty and unused. Nothing is lost: from the first step on
    /// nobody can publish to it. `channel` may be closed then.
    ///
    /// # Errors
    /// The broker's.
    pub async fn remove_shard_queue(&self, channel: &Channel, shard: ShardId) -> lapin::Result<Removal> {
        let queue = self.shard_queue(shard);
        // A quorum queue cannot be deleted on the condition that it is empty and unused.
        let (exchange, key) = (self.messages_exchange(), self.shard_key(shard));
        match channel.queue_unbind(queue.clone(), exchange, key, FieldTable::default()).await {
            Ok(()) => {}
            Err(error) if is_not_found(&error) => return Ok(Removal::Gone),
            Err(error) => return Err(error),
        }
        let state = match self.inspect(channel, queue.clone()).await {
            Ok(state) => state,
            Err(error) if is_not_found(&error) => return Ok(Removal::Gone),
            Err(error) => return Err(error),
        };
        Ok(match (state.consumer_count(), state.message_count()) {
            (0, 0) => {
                channel.queue_delete(queue, QueueDeleteOptions::default()).await?;
                Removal::Gone
            }
            (0, _) => Removal::NotEmpty,
            _ => Removal::InUse,
        })
    }

    /// The number of messages in the dead-letter queue that are ready.
    ///
    /// # Errors
    /// `NOT_FOUND` closes the channel.
    pub async fn dead_letters(&self, channel: &Channel) -> lapin::Result<u32> {
        Ok(self.inspect(channel, self.dead_queue()).await?.message_count())
    }

    /// The state of a queue.
    ///
    /// # Errors
    /// `NOT_FOUND` closes the channel.
    pub(super) async fn inspect(&self, channel: &Channel, queue: ShortString) -> lapin::Result<lapin::Queue> {
        let passive = QueueDeclareOptions { passive: true, ..Default::default() };
        channel.queue_declare(queue, passive, FieldTable::default()).await
    }

    fn exchanges(&self) -> [(ShortString, ExchangeKind); 4] {
        [
            (self.messages_exchange(), ExchangeKind::Direct),
            (self.push_exchange(), ExchangeKind::Fanout),
            (self.gateway_exchange(), ExchangeKind::Direct),
            (self.dead_queue(), ExchangeKind::Fanout),
        ]
    }

    /// Checks that the dead-letter queue exists. Declares nothing.
    ///
    /// # Errors
    /// `NOT_FOUND` if it does not: no worker was ever started on this broker.
    pub async fn check_dead_queue(&self, channel: &Channel) -> lapin::Result<()> {
        self.inspect(channel, self.dead_queue()).await.map(drop)
    }

    /// Declares and binds a push queue for one epoch of one gateway, and returns its name.
    ///
    /// The queue is exclusive to the connection of `channel` and removed with it. Each connection needs another name: the
    /// broker may keep the old queue for a moment after it lost the old connection.
    ///
    /// # Errors
    /// The broker's.
    pub async fn declare_push_queue(
        &self,
        channel: &Channel,
        gateway: u64,
        epoch: u64,
    ) -> lapin::Result<ShortString> {
        let name = self.push_queue(gateway, epoch);
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
        self.bind(channel, name.clone(), self.gateway_exchange(), self.gateway_key(gateway)).await?;
        Ok(name)
    }

    /// Removes a push queue, if it exists.
    ///
    /// # Errors
    /// The broker's.
    pub async fn delete_push_queue(&self, channel: &Channel, gateway: u64, epoch: u64) -> lapin::Result<()> {
        channel.queue_delete(self.push_queue(gateway, epoch), QueueDeleteOptions::default()).await.map(drop)
    }

    fn push_queue(&self, gateway: u64, epoch: u64) -> ShortString {
        format!("{}.push.{gateway:016x}.{epoch}", self.prefix).into()
    }

    async fn declare_queue(
        &self,
        channel: &Channel,
        name: ShortString,
        version: Arguments,
    ) -> lapin::Result<()> {
        let durable = QueueDeclareOptions { durable: true, ..Default::default() };
        let mut arguments = FieldTable::default();
        arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
        if version == Arguments::Current {
            arguments.insert("x-overflow".into(), AMQPValue::LongString("reject-publish".into()));
        }
        if name != self.dead_queue() {
            arguments.insert("x-single-active-consumer".into(), AMQPValue::Boolean(true));
            arguments.insert("x-delivery-limit".into(), AMQPValue::LongInt(DELIVERY_LIMIT));
            arguments.insert("x-dead-letter-exchange".into(), text(&self.dead_queue()));
        }
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

/// Whether an exchange or a queue does not exist (404).
pub(super) fn is_not_found(error: &lapin::Error) -> bool {
    matches!(error.kind(), lapin::ErrorKind::ProtocolError(error) if error.get_id() == 404)
}

/// Whether a queue exists with other arguments (406).
pub(super) fn has_other_arguments(error: &lapin::Error) -> bool {
    matches!(error.kind(), lapin::ErrorKind::ProtocolError(error) if error.get_id() == 406)
}

fn text(value: &ShortString) -> AMQPValue {
    AMQPValue::LongString(value.as_str().into())
}
