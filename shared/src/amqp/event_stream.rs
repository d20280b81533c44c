//! Publishing numbered events to all gateways.

use std::sync::Arc;
use std::time::Duration;

use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::types::ShortString;
use lapin::{BasicProperties, Channel, Confirmation, PublisherConfirm};
use proto::v1;

use super::Broker;
use super::broker::BrokerError;
use crate::envelope;
use crate::shard::ShardId;

/// Longest that one publish may take. The events of a batch that takes longer are dropped: what they say can be pulled.
const TIMEOUT: Duration = Duration::from_secs(1);

/// How often an idle stream repeats its last sequence number.
pub const BEACON_INTERVAL: Duration = Duration::from_secs(1);

/// One stream of event batches with rising sequence numbers. No method fails: a batch that cannot be published leaves a
/// gap in the sequence, and a gateway that finds the gap tells its clients to pull.
#[derive(Debug)]
pub struct EventStream {
    broker: Arc<Broker>,
    channel: Option<Channel>,
    stream: u64,
    shard: Option<u32>,
    /// Sequence number of the last batch; 0 before the first.
    seq: u64,
    /// The last publish failed, and that is logged.
    is_failing: bool,
}

impl EventStream {
    /// A new stream, of one shard, or of a gateway (`None`).
    #[must_use]
    pub fn new(broker: Arc<Broker>, shard: Option<u32>) -> Self {
        Self { broker, channel: None, stream: rand::random(), shard, seq: 0, is_failing: false }
    }

    /// Publishes `events` under the next sequence number.
    pub async fn publish(&mut self, events: Vec<v1::Event>) {
        self.seq += 1;
        let batch = self.batch(events, false);
        self.send(&batch).await;
    }

    /// Repeats the last sequence number without events, so that gateways notice if the last batch before a silence was
    /// lost.
    pub async fn beacon(&mut self) {
        let batch = self.batch(Vec::new(), false);
        self.send(&batch).await;
    }

    /// Leaves a gap in the sequence: something may have been committed that was not announced.
    pub fn leave_gap(&mut self) {
        self.seq += 1;
    }

    /// Publishes that the stream ends in order, and waits until the broker has put that into the queues of all
    /// gateways. To be called once, after the last batch and before the shard is released: then every gateway receives
    /// the end before it receives anything that the next owner of the shard commits. Without a confirmation in time,
    /// gateways treat the stream as one that broke off, and tell their clients to pull.
    pub async fn end(&mut self) {
        let batch = self.batch(Vec::new(), true);
        if self.broker.is_blocked() {
            return;
        }
        let confirmed = tokio::time::timeout(TIMEOUT, self.confirm(&envelope::encode_events(&batch))).await;
        let reason = match confirmed {
            Ok(Ok(Confirmation::Ack(_))) => return,
            Ok(Ok(Confirmation::Nack(_) | Confirmation::NotRequested)) => "RabbitMQ refused it".to_owned(),
            Ok(Err(error)) => error.to_string(),
            Err(_) => "RabbitMQ did not confirm it in time".to_owned(),
        };
        tracing::warn!(
            shard.id = self.shard, stream.number = self.seq, %reason,
            "Cannot publish the end of an event stream; gateways tell all clients to pull"
        );
    }

    /// Publishes an empty batch to the work queue of a shard, whose consumer must receive it. Returns whether the broker was
    /// sent it.
    pub async fn probe_work_queue(&mut self, shard: ShardId) -> bool {
        if self.broker.is_blocked() {
            return false;
        }
        let body = envelope::encode_batch(shard, std::iter::empty());
        let topology = self.broker.topology();
        let (to, key) = (topology.messages_exchange(), topology.shard_key(shard));
        let written = tokio::time::timeout(TIMEOUT, self.write_to(to, key, &body)).await;
        written.is_ok_and(|written| written.is_ok())
    }

    fn batch(&self, events: Vec<v1::Event>, ends: bool) -> v1::EventBatch {
        v1::EventBatch { stream: self.stream, shard: self.shard, number: self.seq, events, ends }
    }

    async fn send(&mut self, batch: &v1::EventBatch) {
        if self.broker.is_blocked() {
            // Each write would take the whole timeout, and delay what is announced next.
            return;
        }
        let body = envelope::encode_events(batch);
        let reason = match tokio::time::timeout(TIMEOUT, self.write(&body)).await {
            Ok(Ok(_)) => {
                if std::mem::take(&mut self.is_failing) {
                    tracing::info!(
                        shard.id = self.shard,
                        stream.number = self.seq,
                        "Events are published again"
                    );
                }
                return;
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => "RabbitMQ did not accept them in time".to_owned(),
        };
        self.channel = None;
        if !std::mem::replace(&mut self.is_failing, true) {
            tracing::warn!(
                shard.id = self.shard, stream.number = self.seq, %reason,
                "Cannot publish events; gateways tell all clients to pull when the next ones arrive"
            );
        }
    }

    async fn write(&mut self, body: &[u8]) -> Result<PublisherConfirm, BrokerError> {
        let to = self.broker.topology().push_exchange();
        self.write_to(to, ShortString::default(), body).await
    }

    async fn write_to(
        &mut self,
        to: ShortString,
        key: ShortString,
        body: &[u8],
    ) -> Result<PublisherConfirm, BrokerError> {
        // No confirms on this channel: lapin would keep each one that is not awaited.
        let channel = self.open().await?;
        let (options, properties) = (BasicPublishOptions::default(), BasicProperties::default());
        Ok(channel.basic_publish(to, key, options, body, properties).await?)
    }

    /// On the channel of the batches before, so that its confirmation is about those too.
    async fn confirm(&mut self, body: &[u8]) -> Result<Confirmation, BrokerError> {
        self.open().await?.confirm_select(ConfirmSelectOptions::default()).await?;
        Ok(self.write(body).await?.await?)
    }

    async fn open(&mut self) -> Result<&mut Channel, BrokerError> {
        let usable = self.channel.take().filter(|channel| channel.status().connected());
        let channel = match usable {
            Some(channel) => channel,
            None => self.broker.channel().await?,
        };
        Ok(self.channel.insert(channel))
    }
}
