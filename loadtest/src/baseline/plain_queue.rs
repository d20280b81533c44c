//! The baseline "plain queue": for each message a sequence number and a publish without confirm, then the
//! acknowledgement. One consumer inserts one row per message. An acknowledged message may be lost.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use futures_util::StreamExt as _;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions, QueueDeclareOptions,
    QueueDeleteOptions,
};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties, Consumer};
use serde::{Deserialize, Serialize};
use tokio_util::task::AbortOnDropHandle;

use super::drive::{Accept, Message};
use super::sequences::Sequences;
use super::timeline::Timeline;

const QUEUE: &str = "im_compare";
/// Channels that publish.
const CHANNELS: usize = 4;
/// Unacknowledged deliveries of the consumer: enough that it never waits for the next one.
const PREFETCH: u16 = 256;
/// Messages survive a restart of the broker, as far as unconfirmed ones can.
const PERSISTENT: u8 = 2;

#[derive(Serialize, Deserialize)]
struct Body {
    seq: u64,
    message: Message,
}

/// The accepting side.
pub(super) struct PlainQueue {
    channels: Vec<Channel>,
    sequences: Sequences,
    chooser: ahash::RandomState,
    connection: Connection,
    consuming: Connection,
    timeline: Timeline,
}

/// The consumer, until it is dropped.
pub(super) struct Storing {
    stored: Arc<AtomicU64>,
    task: AbortOnDropHandle<anyhow::Result<()>>,
}

impl PlainQueue {
    pub(super) async fn connect(url: &str, sequences: Sequences, timeline: Timeline) -> anyhow::Result<Self> {
        let connect = || Connection::connect(url, ConnectionProperties::default());
        let connection = connect().await.context("RabbitMQ")?;
        let consuming = connect().await.context("RabbitMQ")?;
        let mut channels = Vec::new();
        for _ in 0..CHANNELS {
            channels.push(connection.create_channel().await?);
        }
        let chooser = ahash::RandomState::new();
        Ok(Self { channels, sequences, chooser, connection, consuming, timeline })
    }

    /// Declares the queue and starts its consumer.
    pub(super) async fn begin(&self) -> anyhow::Result<Storing> {
        let channel = self.consuming.create_channel().await?;
        let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
        channel.queue_declare(QUEUE.into(), durable, FieldTable::default()).await?;
        channel.basic_qos(PREFETCH, BasicQosOptions::default()).await?;
        let options = BasicConsumeOptions::default();
        let consumer = channel.basic_consume(QUEUE.into(), "".into(), options, FieldTable::default()).await?;
        let stored = Arc::new(AtomicU64::new(0));
        let task = tokio::spawn(store(consumer, self.timeline.clone(), Arc::clone(&stored)));
        Ok(Storing { stored, task: AbortOnDropHandle::new(task) })
    }

    /// Ends the consumer and deletes the queue with its backlog.
    pub(super) async fn end(&self, storing: Storing) -> anyhow::Result<()> {
        storing.task.abort();
        match storing.task.await {
            Ok(ended) => ended?,
            Err(error) if error.is_cancelled() => {}
            Err(error) => return Err(error.into()),
        }
        let channel = self.consuming.create_channel().await?;
        channel.queue_delete(QUEUE.into(), QueueDeleteOptions::default()).await?;
        Ok(channel.close(200, "done".into()).await?)
    }

    pub(super) async fn close(&self) -> anyhow::Result<()> {
        self.connection.close(200, "done".into()).await?;
        Ok(self.consuming.close(200, "done".into()).await?)
    }
}

impl Storing {
    /// Messages stored so far.
    pub(super) fn stored(&self) -> u64 {
        self.stored.load(Ordering::Relaxed)
    }

    /// Messages stored per second from now on, until `all` are stored or `timeout` is over.
    pub(super) async fn drain(&self, all: u64, timeout: Duration) -> Option<f64> {
        let (before, start) = (self.stored(), tokio::time::Instant::now());
        if before >= all {
            return None;
        }
        while self.stored() < all && start.elapsed() < timeout && !self.task.is_finished() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Some(super::rounds::per_second(self.stored() - before, start.elapsed()))
    }
}

impl Accept for PlainQueue {
    async fn accept(&self, message: Message) -> anyhow::Result<()> {
        let seq = self.sequences.next(&message.conversation).await?;
        // One channel for each sender keeps its order.
        let place = self.chooser.hash_one(&message.sender) % CHANNELS as u64;
        let channel = &self.channels[usize::try_from(place)?];
        let body = serde_json::to_vec(&Body { seq, message })?;
        let properties = BasicProperties::default().with_delivery_mode(PERSISTENT);
        let options = BasicPublishOptions::default();
        channel.basic_publish("".into(), QUEUE.into(), options, &body, properties).await?;
        Ok(())
    }
}

async fn store(mut consumer: Consumer, timeline: Timeline, stored: Arc<AtomicU64>) -> anyhow::Result<()> {
    while let Some(delivery) = consumer.next().await {
        let delivery = delivery?;
        let Body { seq, message } = serde_json::from_slice(&delivery.data)?;
        timeline.insert(&message, seq).await?;
        stored.fetch_add(1, Ordering::Relaxed);
        delivery.ack(BasicAckOptions::default()).await?;
    }
    anyhow::bail!("RabbitMQ ended the consumer")
}
