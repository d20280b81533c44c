//! Bodies through the broker: confirmed, consumed, and fanned out to all gateways.

use std::sync::Arc;

use futures_util::{FutureExt as _, StreamExt as _};
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions, ConfirmSelectOptions,
    ExchangeDeclareOptions, QueueDeclareOptions, QueueDeleteOptions, QueuePurgeOptions,
};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{
    BasicProperties, Channel, Confirmation, Connection, ConnectionProperties, Consumer, ExchangeKind,
};
use tokio::sync::Semaphore;

use super::Settings;
use super::part::{Drive, Drivers, Part, measure};
use testbed::stack::Servers;

const CONFIRMED: &str = "bodies confirmed";
pub(super) const CARRIED: &str = "bodies consumed";
pub(super) const EVENTS: &str = "events fanned out";

/// As many queues as shards.
const QUEUES: usize = 8;
/// Publishers of each queue: one for each of two gateways, each with one body in flight.
const PUBLISHERS: usize = 2;
/// Unacknowledged bodies of a consumer.
const PREFETCH: u16 = 128;
/// Queues that get each event: one for each gateway.
const GATEWAYS: usize = 2;
/// Events in flight.
const EVENTS_WAITING: usize = 64;
/// Bytes of a message in a body beside its content: ids, sequence number, origin.
const OVERHEAD_BYTES: usize = 90;
const PERSISTENT: u8 = 2;
const EXCHANGE: &str = "limits.push";

fn body(settings: &Settings) -> Arc<[u8]> {
    vec![b'x'; settings.batch * (settings.size + OVERHEAD_BYTES)].into()
}

/// Published to quorum queues and confirmed, without consumers.
pub(super) async fn confirmed(settings: &Settings, url: &str, servers: &Servers) -> anyhow::Result<Part> {
    let what = "a message in a body that a quorum queue has confirmed";
    queued(settings, url, servers, (CONFIRMED, what), false).await
}

/// The same with consumers that acknowledge.
pub(super) async fn carried(settings: &Settings, url: &str, servers: &Servers) -> anyhow::Result<Part> {
    let what = "a message in a body that a quorum queue has confirmed and a consumer acknowledged";
    queued(settings, url, servers, (CARRIED, what), true).await
}

async fn queued(
    settings: &Settings,
    url: &str,
    servers: &Servers,
    name: (&'static str, &'static str),
    consume: bool,
) -> anyhow::Result<Part> {
    let publishing = Connection::connect(url, ConnectionProperties::default()).await?;
    let consuming = Connection::connect(url, ConnectionProperties::default()).await?;
    let drive = Arc::new(Drive::default());
    let (mut drivers, mut takers) = (Drivers::new(), Drivers::new());
    let control = consuming.create_channel().await?;
    for queue in 0..QUEUES {
        let queue: ShortString = format!("limits.{queue}").into();
        let mut arguments = FieldTable::default();
        arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
        let durable = QueueDeclareOptions { durable: true, ..Default::default() };
        control.queue_declare(queue.clone(), durable, arguments).await?;
        control.queue_purge(queue.clone(), QueuePurgeOptions::default()).await?;
        if consume {
            let consumer = subscribe(&consuming, &queue).await?;
            takers.spawn(take(consumer, None));
        }
        for _ in 0..PUBLISHERS {
            let channel = publishing.create_channel().await?;
            channel.confirm_select(ConfirmSelectOptions::default()).await?;
            let (body, batch) = (body(settings), settings.batch);
            drivers.spawn(publish(channel, queue.clone(), body, batch, Arc::clone(&drive)));
        }
    }
    let part = measure(name, settings.seconds, servers, &drive, drivers).await?;
    takers.abort_all();
    for queue in 0..QUEUES {
        control.queue_delete(format!("limits.{queue}").into(), QueueDeleteOptions::default()).await?;
    }
    // The measurement is complete; consumers that were just dropped may be closing their channels.
    let _ = publishing.close(200, "done".into()).await;
    let _ = consuming.close(200, "done".into()).await;
    Ok(part)
}

/// One body in flight at a time, as in a pipeline of the gateway.
async fn publish(
    channel: Channel,
    queue: ShortString,
    body: Arc<[u8]>,
    batch: usize,
    drive: Arc<Drive>,
) -> anyhow::Result<()> {
    let options = BasicPublishOptions { mandatory: true, ..Default::default() };
    while drive.goes_on() {
        let properties = BasicProperties::default().with_delivery_mode(PERSISTENT);
        let confirm =
            channel.basic_publish("".into(), queue.clone(), options, &body, properties).await?.await?;
        anyhow::ensure!(matches!(confirm, Confirmation::Ack(None)), "not confirmed: {confirm:?}");
        drive.done(batch);
    }
    Ok(())
}

async fn subscribe(connection: &Connection, queue: &ShortString) -> anyhow::Result<Consumer> {
    let channel = connection.create_channel().await?;
    channel.basic_qos(PREFETCH, BasicQosOptions::default()).await?;
    let options = BasicConsumeOptions::default();
    Ok(channel.basic_consume(queue.clone(), "".into(), options, FieldTable::default()).await?)
}

/// Consumes bodies; one acknowledgement for all that have arrived. `freed` gets a permit for each.
async fn take(mut consumer: Consumer, freed: Option<Arc<Semaphore>>) -> anyhow::Result<()> {
    while let Some(delivery) = consumer.next().await {
        let mut last = delivery?;
        let mut taken = 1;
        while let Some(Some(next)) = consumer.next().now_or_never() {
            last = next?;
            taken += 1;
        }
        if let Some(freed) = &freed {
            freed.add_permits(taken);
        }
        last.ack(BasicAckOptions { multiple: true }).await?;
    }
    Ok(())
}

/// Events of a batch, without confirms, to every gateway's queue.
pub(super) async fn events(settings: &Settings, url: &str, servers: &Servers) -> anyhow::Result<Part> {
    let publishing = Connection::connect(url, ConnectionProperties::default()).await?;
    let consuming = Connection::connect(url, ConnectionProperties::default()).await?;
    let control = consuming.create_channel().await?;
    let durable = ExchangeDeclareOptions { durable: true, ..Default::default() };
    control.exchange_declare(EXCHANGE.into(), ExchangeKind::Fanout, durable, FieldTable::default()).await?;
    let waiting = Arc::new(Semaphore::new(EVENTS_WAITING));
    let (mut drivers, mut takers) = (Drivers::new(), Drivers::new());
    for gateway in 0..GATEWAYS {
        let queue: ShortString = format!("limits.push.{gateway}").into();
        let options = QueueDeclareOptions { exclusive: true, auto_delete: true, ..Default::default() };
        control.queue_declare(queue.clone(), options, FieldTable::default()).await?;
        let all = FieldTable::default();
        control.queue_bind(queue.clone(), EXCHANGE.into(), "".into(), Default::default(), all).await?;
        let consumer = subscribe(&consuming, &queue).await?;
        takers.spawn(take(consumer, (gateway == 0).then(|| Arc::clone(&waiting))));
    }
    let drive = Arc::new(Drive::default());
    for _ in 0..QUEUES {
        let channel = publishing.create_channel().await?;
        let (body, batch, drive, waiting) =
            (body(settings), settings.batch, Arc::clone(&drive), Arc::clone(&waiting));
        drivers.spawn(async move {
            let options = BasicPublishOptions::default();
            while drive.goes_on() {
                waiting.acquire().await?.forget();
                let properties = BasicProperties::default();
                channel.basic_publish(EXCHANGE.into(), "".into(), options, &body, properties).await?.await?;
                drive.done(batch);
            }
            Ok(())
        });
    }
    let what = "a message in an event that every gateway's queue gets and its consumer acknowledges";
    let part = measure((EVENTS, what), settings.seconds, servers, &drive, drivers).await?;
    takers.abort_all();
    // The measurement is complete; consumers that were just dropped may be closing their channels.
    let _ = publishing.close(200, "done".into()).await;
    let _ = consuming.close(200, "done".into()).await;
    Ok(part)
}
