//! Publishing numbered events to all gateways, or to some.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

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

/// A beacon names a gateway for this long after a batch for it alone. Within seconds it has missed none, or knows that it has;
/// longer, so that also a gateway whose queue was lost in between learns its number.
const NAMED_FOR: Duration = Duration::from_secs(3_600);

/// Events to be published together. Those of one conversation are all of one kind, or those to all come last.
#[derive(Debug, Default)]
pub struct Outgoing {
    /// Each with the ids of the gateways to which it goes.
    pub to_some: Vec<(BTreeSet<u64>, v1::Event)>,
    /// Those that go to all gateways.
    pub to_all: Vec<v1::Event>,
}

/// One stream of event batches with rising sequence numbers: a sequence of those for all gateways, and one for each gateway of
/// those for it alone. No method fails: a batch that cannot be published leaves a gap in its sequence, and a gateway that finds
/// the gap tells its clients to pull.
#[derive(Debug)]
pub struct EventStream {
    broker: Arc<Broker>,
    channel: Option<Channel>,
    stream: u64,
    shard: Option<u32>,
    /// Sequence number of the last batch for all; 0 before the first.
    seq: u64,
    /// The same of the batches for each gateway alone, and when the last one was published.
    gateways: BTreeMap<u64, (u64, Instant)>,
    /// The last publish failed, and that is logged.
    is_failing: bool,
}

impl EventStream {
    /// A new stream, of one shard, or of a gateway (`None`).
    #[must_use]
    pub fn new(broker: Arc<Broker>, shard: Option<u32>) -> Self {
        let stream = rand::random();
        Self { broker, channel: None, stream, shard, seq: 0, gateways: BTreeMap::new(), is_failing: false }
    }

    /// Publishes `events` to all gateways, under the next sequence number.
    pub async fn publish(&mut self, events: Vec<v1::Event>) {
        self.publish_to(Outgoing { to_all: events, ..Outgoing::default() }).await;
    }

    /// Publishes events to the gateways that each is for, in one batch for each gateway, and one for all. Returns whether that
    /// serves as a beacon: every gateway hears the stream, and there is no other sequence whose last number could be lost.
    pub async fn publish_to(&mut self, outgoing: Outgoing) -> bool {
        let Outgoing { to_some, to_all } = outgoing;
        let mut bodies = Vec::new();
        let gateways: BTreeSet<u64> = to_some.iter().flat_map(|(gateways, _)| gateways).copied().collect();
        for gateway in gateways {
            let (number, published) = self.gateways.entry(gateway).or_insert((0, Instant::now()));
            (*number, *published) = (*number + 1, Instant::now());
            let header = v1::EventBatch { number: *number, gateway: Some(gateway), ..self.header() };
            let events = to_some.iter().filter(|(of, _)| of.contains(&gateway)).map(|(_, event)| event);
            bodies.push((Some(gateway), envelope::encode_events(&header, events)));
        }
        if !to_all.is_empty() {
            self.seq += 1;
            bodies.push((None, envelope::encode_events(&self.header(), to_all.iter())));
        }
        self.send(&bodies).await;
        !to_all.is_empty() && self.gateways.is_empty()
    }

    /// Repeats the last sequence numbers without events, so that gateways notice if the last batch before a silence was
    /// lost.
    pub async fn beacon(&mut self) {
        let body = self.without_events(false);
        self.send(&[(None, body)]).await;
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
        let body = self.without_events(true);
        if self.broker.is_blocked() {
            return;
        }
        let confirmed = tokio::time::timeout(TIMEOUT, self.confirm(&body)).await;
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

    /// A batch without events, which has the last number of the sequence for all.
    fn header(&self) -> v1::EventBatch {
        let (stream, shard, number) = (self.stream, self.shard, self.seq);
        v1::EventBatch { stream, shard, number, ..v1::EventBatch::default() }
    }

    /// The body of a beacon, or of the end.
    fn without_events(&self, ends: bool) -> Vec<u8> {
        let named = self.gateways.iter().filter(|(_, (_, published))| published.elapsed() < NAMED_FOR);
        let gateways: Vec<v1::GatewayNumber> = named
            .map(|(gateway, (number, _))| v1::GatewayNumber { gateway: *gateway, number: *number })
            .collect();
        let gateway_numbers = (!gateways.is_empty()).then(|| Box::new(v1::GatewayNumbers { gateways }));
        let header = v1::EventBatch { ends, gateway_numbers, ..self.header() };
        envelope::encode_events(&header, std::iter::empty())
    }

    /// Sends bodies in this order, each to one gateway or to all.
    async fn send(&mut self, bodies: &[(Option<u64>, Vec<u8>)]) {
        if self.broker.is_blocked() {
            // Each write would take the whole timeout, and delay what is announced next.
            return;
        }
        let writing = async {
            for (gateway, body) in bodies {
                self.write(*gateway, body).await?;
            }
            Ok::<_, BrokerError>(())
        };
        let reason = match tokio::time::timeout(TIMEOUT, writing).await {
            Ok(Ok(())) => {
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

    async fn write(&mut self, gateway: Option<u64>, body: &[u8]) -> Result<PublisherConfirm, BrokerError> {
        let topology = self.broker.topology();
        let (to, key) = match gateway {
            Some(gateway) => (topology.gateway_exchange(), topology.gateway_key(gateway)),
            None => (topology.push_exchange(), ShortString::default()),
        };
        self.write_to(to, key, body).await
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
        Ok(self.write(None, body).await?.await?)
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
