//! Declaring queues that exist with the arguments of an earlier version, on a real RabbitMQ.

use lapin::options::{ExchangeDeclareOptions, QueueDeclareOptions, QueueDeleteOptions};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{Connection, ConnectionProperties, ExchangeKind};
use shared::amqp::{Inspector, Topology};
use shared::config::Amqp;
use shared::shard::ShardLayout;
use testbed::stack::{Stores, free_port};

const SHARDS: u16 = 3;

/// The arguments of version 0.1.0.
fn earlier(prefix: &str, is_dead: bool) -> FieldTable {
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
    if !is_dead {
        arguments.insert("x-single-active-consumer".into(), AMQPValue::Boolean(true));
        arguments.insert("x-delivery-limit".into(), AMQPValue::LongInt(1_000_000));
        let dead = format!("{prefix}.dead");
        arguments.insert("x-dead-letter-exchange".into(), AMQPValue::LongString(dead.into()));
    }
    arguments
}

async fn declare(connection: &Connection, queue: &str, arguments: FieldTable) -> lapin::Result<lapin::Queue> {
    let channel = connection.create_channel().await?;
    let durable = QueueDeclareOptions { durable: true, ..Default::default() };
    channel.queue_declare(ShortString::from(queue), durable, arguments).await
}

#[tokio::test]
async fn queues_of_an_earlier_version_stay_as_they_are() {
    let stores = Stores::for_test().await.unwrap();
    let prefix = stores.amqp_prefix.as_str();
    let connection = Connection::connect(&stores.amqp_url, ConnectionProperties::default()).await.unwrap();
    let queue = |n: u16| format!("{prefix}.msg.{n}");
    let topology = || Topology::new(prefix, ShardLayout::new(SHARDS).unwrap());

    // All queues are earlier ones.
    declare(&connection, &format!("{prefix}.dead"), earlier(prefix, true)).await.unwrap();
    for n in 0..SHARDS {
        declare(&connection, &queue(n), earlier(prefix, false)).await.unwrap();
    }
    let long_lived = topology();
    for _ in 0..2 {
        long_lived.declare(&connection).await.unwrap();
        topology().declare(&connection).await.unwrap();
    }
    for n in 0..SHARDS {
        declare(&connection, &queue(n), earlier(prefix, false)).await.unwrap();
    }

    // One of them was deleted, and is made anew.
    let channel = connection.create_channel().await.unwrap();
    channel.queue_delete(queue(1).into(), QueueDeleteOptions::default()).await.unwrap();
    topology().declare(&connection).await.unwrap();
    long_lived.declare(&connection).await.unwrap();
    channel.queue_delete(format!("{prefix}.dead").into(), QueueDeleteOptions::default()).await.unwrap();
    topology().declare(&connection).await.unwrap();
    topology().declare(&connection).await.unwrap();

    // Another kind of queue is refused, by its name.
    channel.queue_delete(queue(2).into(), QueueDeleteOptions::default()).await.unwrap();
    declare(&connection, &queue(2), FieldTable::default()).await.unwrap();
    let refused = topology().declare(&connection).await.unwrap_err().to_string();
    assert!(refused.contains(&queue(2)), "{refused}");
}

#[tokio::test]
async fn a_new_queue_refuses_publishes_at_a_length_limit() {
    let stores = Stores::for_test().await.unwrap();
    let prefix = stores.amqp_prefix.as_str();
    let connection = Connection::connect(&stores.amqp_url, ConnectionProperties::default()).await.unwrap();
    let topology = Topology::new(prefix, ShardLayout::new(1).unwrap());
    // An exchange of the same name may exist.
    let channel = connection.create_channel().await.unwrap();
    let durable = ExchangeDeclareOptions { durable: true, ..Default::default() };
    let exchange = format!("{prefix}.msg").into();
    channel.exchange_declare(exchange, ExchangeKind::Direct, durable, FieldTable::default()).await.unwrap();
    topology.declare(&connection).await.unwrap();
    topology.declare(&connection).await.unwrap();
    for (queue, is_dead) in [(format!("{prefix}.msg.0"), false), (format!("{prefix}.dead"), true)] {
        let mut arguments = earlier(prefix, is_dead);
        assert!(
            declare(&connection, &queue, arguments.clone()).await.is_err(),
            "{queue} has other arguments"
        );
        arguments.insert("x-overflow".into(), AMQPValue::LongString("reject-publish".into()));
        declare(&connection, &queue, arguments).await.unwrap();
    }
}

#[tokio::test]
async fn an_inspector_tries_all_addresses() {
    let stores = Stores::for_test().await.unwrap();
    let (_, vhost) = stores.amqp_url.rsplit_once('/').unwrap();
    let closed = format!("amqp://guest:guest@127.0.0.1:{}/{vhost}", free_port().unwrap());
    for url in [format!("{closed},{}", stores.amqp_url), format!("{},{closed}", stores.amqp_url)] {
        let settings = Amqp { url: url.as_str().into(), ..Amqp::default() };
        let topology = Topology::new(&stores.amqp_prefix, ShardLayout::new(SHARDS).unwrap());
        let inspector = Inspector::open(&settings, topology, "test").await.unwrap();
        assert_eq!(inspector.dead_letters().await.unwrap(), None);
        inspector.close().await;
    }
}
