//! Publishing numbered events to all gateways.

use std::sync::Arc;
use std::time::Duration;

use lapin::options::BasicPublishOptions;
use lapin::types::ShortString;
use lapin::{BasicProperties, Channel};
use proto::v1;

use super::Broker;
use crate::envelope;

/// A write that takes longer is given up: what it would have told can be pulled.
const PATIENCE: Duration = Duration::from_secs(1);

/// How often an idle stream says which number was its last.
pub const BEACON_INTERVAL: Duration = Duration::from_secs(1);

/// One stream of events with rising numbers. Nothing here fails: an event that cannot be published leaves a gap in the
/// numbers, and whoever sees the gap tells its clients to pull.
#[derive(Debug)]
pub struct EventStream {
    broker: Arc<Broker>,
    channel: Option<Channel>,
    stream: u64,
    shard: Option<u32>,
    number: u64,
}

impl EventStream {
    /// A new stream, about one shard or about none.
    #[must_use]
    pub fn new(broker: Arc<Broker>, shard: Option<u32>) -> Self {
        Self { broker, channel: None, stream: rand::random(), shard, number: 0 }
    }

    /// Publishes `events` under the next number.
    pub async fn publish(&mut self, events: Vec<v1::Event>) {
        self.number += 1;
        self.send(events).await;
    }

    /// Repeats the last number without events, so that the loss of the last batch before a silence is noticed.
    pub async fn beacon(&mut self) {
        self.send(Vec::new()).await;
    }

    async fn send(&mut self, events: Vec<v1::Event>) {
        if self.broker.is_blocked() {
            // Each write would cost the whole patience, and hold up what is announced.
            return;
        }
        let batch = v1::EventBatch { stream: self.stream, shard: self.shard, number: self.number, events };
        let body = envelope::encode_events(&batch);
        match tokio::time::timeout(PATIENCE, self.write(&body)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::warn!(number = self.number, shard = self.shard, %error, "events not published");
                self.channel = None;
            }
            Err(_) => {
                tracing::warn!(number = self.number, shard = self.shard, "events not published in time");
                self.channel = None;
            }
        }
    }

    async fn write(&mut self, body: &[u8]) -> Result<(), super::broker::BrokerError> {
        // No confirms on this channel: an un-awaited one would be kept by lapin for ever.
        let channel = match self.channel.take().filter(|channel| channel.status().connected()) {
            Some(open) => self.channel.insert(open),
            None => self.channel.insert(self.broker.channel().await?),
        };
        let to = self.broker.topology().push_exchange();
        let options = BasicPublishOptions::default();
        channel.basic_publish(to, ShortString::default(), options, body, BasicProperties::default()).await?;
        Ok(())
    }
}
