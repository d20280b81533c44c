//! A worker in this process on real stores, and its two ends: publishing like a gateway, and receiving events like one.

use std::collections::{BTreeSet, VecDeque};
use std::fmt::Debug;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use lapin::options::{BasicConsumeOptions, BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions};
use lapin::types::{FieldTable, ShortString};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties, Consumer};
use parking_lot::Mutex;
use proto::v1;
pub(crate) use proto::v1::event::Kind as Event;
use shared::amqp::Topology;
use shared::config;
use shared::conversation::{Conversation, Kind};
use shared::envelope;
use shared::ids::{ConnectionId, Seq, UserId};
use shared::message::Numbered;
use shared::message::fixture::numbered;
use shared::mysql::groups::{self, AddMembers, GroupPolicy};
use shared::mysql::timeline::{self, Direction};
use shared::mysql::{self, Ping, Pool};
use shared::permission::Actor;
use shared::redis::inbox::Inboxes;
use shared::shard::{ShardId, ShardLayout};
use testbed::stack::{Stores, Urls};
use worker::app::App;
use worker::config::{Commit, Config};

/// Short enough for quick tests, long compared with all other steps.
pub(crate) const GAP_TIMEOUT: Duration = Duration::from_millis(700);
const TIMEOUT: Duration = Duration::from_secs(60);
pub(crate) const SHARDS: u16 = 4;
/// A group with more than ten members is a large group.
pub(crate) const SIZES: GroupPolicy =
    GroupPolicy { large_above: 10, members_max: 100, has_system_entries: false, feed: None };

/// Settings of a worker on the servers at `urls`.
pub(crate) fn settings(urls: &Urls, amqp_prefix: &str) -> Config {
    Config {
        mysql: config::Mysql { url: urls.mysql.as_str().into(), ..Default::default() },
        redis: config::Redis { url: urls.redis.as_str().into(), ..Default::default() },
        amqp: config::Amqp {
            url: urls.amqp.as_str().into(),
            prefix: amqp_prefix.to_owned(),
            ..Default::default()
        },
        shards: config::Shards { count: Some(SHARDS) },
        ops: config::Ops { address: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), ..Default::default() },
        commit: Commit {
            hole_timeout_ms: u64::try_from(GAP_TIMEOUT.as_millis()).unwrap(),
            ..Commit::default()
        },
        ..Config::default()
    }
}

/// The two ends of the workers.
pub(crate) struct Ends {
    /// Settings of workers.
    pub(crate) settings: Config,
    /// The stores, unless a test has servers of its own.
    pub(crate) stores: Option<Stores>,
    pub(crate) pool: Pool,
    topology: Topology,
    channel: Channel,
    events: Consumer,
    /// Received and not read yet.
    received: VecDeque<Event>,
    /// Members of groups.
    joined: Mutex<BTreeSet<(Conversation, UserId)>>,
    _connection: Connection,
}

impl Ends {
    /// On shared servers, with a schema, a Redis and queue names of its own.
    pub(crate) async fn new() -> Self {
        let stores = Stores::for_test().await.unwrap();
        let urls = Urls {
            mysql: stores.mysql_url.clone(),
            redis: stores.redis_url.clone(),
            amqp: stores.amqp_url.clone(),
        };
        let ends = Self::on(settings(&urls, &stores.amqp_prefix)).await;
        Self { stores: Some(stores), ..ends }
    }

    /// Declares the topology and consumes events.
    pub(crate) async fn on(settings: Config) -> Self {
        let pool = mysql::connect(&settings.mysql, Ping::BeforeUse, TIMEOUT).await.unwrap();
        mysql::migrate(&pool).await.unwrap();
        let topology = Topology::new(&settings.amqp.prefix, ShardLayout::new(SHARDS).unwrap());
        let url = settings.amqp.url.expose();
        let connection = Connection::connect(url, ConnectionProperties::default()).await.unwrap();
        topology.declare(&connection).await.unwrap();
        let channel = connection.create_channel().await.unwrap();
        channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
        let listening = connection.create_channel().await.unwrap();
        let queue = topology.declare_push_queue(&listening, 1, 1).await.unwrap();
        let options = BasicConsumeOptions { no_ack: true, ..Default::default() };
        let events = listening
            .basic_consume(queue, ShortString::default(), options, FieldTable::default())
            .await
            .unwrap();
        let (received, joined) = (VecDeque::new(), Mutex::default());
        Self {
            settings,
            stores: None,
            pool,
            topology,
            channel,
            events,
            received,
            joined,
            _connection: connection,
        }
    }

    /// Starts a worker and waits until it consumes its shards.
    pub(crate) async fn start_worker(&self) -> App {
        let app = App::start(self.settings.clone()).await.unwrap();
        ready(&app).await;
        app
    }

    /// Publishes one body, after its senders have joined their groups.
    pub(crate) async fn publish(&self, messages: &[Numbered]) {
        for message in messages {
            self.join(&message.conversation, &[message.sender.as_str()]).await;
        }
        self.publish_as_is(messages).await;
    }

    /// Adds users to a group, which is created for the first of them. Users who have joined before are skipped.
    pub(crate) async fn join(&self, group: &Conversation, users: &[&str]) {
        let users = users.iter().map(|id| UserId::parse(id).unwrap());
        let new = |user: &UserId| self.joined.lock().insert((group.clone(), user.clone()));
        let new: Vec<UserId> = users.filter(new).collect();
        if group.kind() == Kind::Group && !new.is_empty() {
            groups::create_open(&self.pool, group, SIZES).await.unwrap();
            let addition = AddMembers { by: &Actor::Operator, users: &new };
            groups::change(&self.pool, group, SIZES, &addition).await.unwrap();
        }
    }

    /// Publishes one body, confirmed, into the queue of its first message's conversation.
    pub(crate) async fn publish_as_is(&self, messages: &[Numbered]) {
        let shard = self.topology.shards().of(&messages[0].conversation);
        self.publish_raw(shard, &envelope::encode_batch(shard, messages.iter())).await;
    }

    pub(crate) async fn publish_raw(&self, shard: ShardId, body: &[u8]) {
        let (exchange, key) = (self.topology.messages_exchange(), self.topology.shard_key(shard));
        let properties = BasicProperties::default().with_delivery_mode(2);
        let options = BasicPublishOptions { mandatory: true, ..Default::default() };
        let confirm = self.channel.basic_publish(exchange, key, options, body, properties).await.unwrap();
        assert!(matches!(confirm.await.unwrap(), lapin::Confirmation::Ack(None)));
    }

    /// Locks the row of a conversation until the result is dropped.
    pub(crate) async fn lock_row(
        &self,
        conversation: &Conversation,
    ) -> sqlx::Transaction<'static, sqlx::MySql> {
        let mut lock = self.pool.sqlx_pool().begin().await.unwrap();
        let select = "SELECT last_seq FROM conversation WHERE conversation_id = ? FOR UPDATE";
        sqlx::query(select).bind(conversation.key()).execute(&mut *lock).await.unwrap();
        lock
    }

    /// Deletes a work queue, on a connection of its own.
    pub(crate) async fn delete_queue(&self, shard: ShardId) {
        let (_connection, channel) = self.open().await;
        channel.queue_delete(self.topology.shard_queue(shard), Default::default()).await.unwrap();
    }

    /// Deletes a work queue and declares it again at once.
    pub(crate) async fn replace_queue(&self, shard: ShardId) {
        let (connection, channel) = self.open().await;
        channel.queue_delete(self.topology.shard_queue(shard), Default::default()).await.unwrap();
        self.topology.declare(&connection).await.unwrap();
    }

    /// Waits until a work queue exists.
    pub(crate) async fn until_queue_exists(&self, shard: ShardId) {
        eventually("the queue", async || {
            let (_connection, channel) = self.open().await;
            self.topology.inspect_shard_queue(&channel, shard).await
        })
        .await;
    }

    /// Publishes messages one by one, on a connection of its own. Those that the broker does not confirm may be lost.
    pub(crate) async fn publish_or_lose(&self, messages: &[Numbered]) {
        let mut open = self.open().await;
        for message in messages {
            let shard = self.topology.shards().of(&message.conversation);
            let body = envelope::encode_batch(shard, std::iter::once(message));
            let (exchange, key) = (self.topology.messages_exchange(), self.topology.shard_key(shard));
            let properties = BasicProperties::default().with_delivery_mode(2);
            let confirm = open.1.basic_publish(exchange, key, Default::default(), &body, properties);
            if confirm.await.is_err() {
                open = self.open().await;
            }
        }
    }

    /// Publishes a message until the broker confirms it, on a connection of its own.
    pub(crate) async fn publish_until_confirmed(&self, message: &Numbered) {
        let shard = self.topology.shards().of(&message.conversation);
        let body = envelope::encode_batch(shard, std::iter::once(message));
        eventually("a confirm", async || {
            let (_connection, channel) = self.open().await;
            channel
                .confirm_select(ConfirmSelectOptions::default())
                .await
                .map_err(|error| error.to_string())?;
            let (exchange, key) = (self.topology.messages_exchange(), self.topology.shard_key(shard));
            let options = BasicPublishOptions { mandatory: true, ..Default::default() };
            let properties = BasicProperties::default().with_delivery_mode(2);
            let confirm = channel.basic_publish(exchange, key, options, &body, properties).await;
            let confirm =
                confirm.map_err(|error| error.to_string())?.await.map_err(|error| error.to_string())?;
            if matches!(confirm, lapin::Confirmation::Ack(None)) {
                Ok(())
            } else {
                Err(format!("{confirm:?}"))
            }
        })
        .await;
    }

    /// Waits until the newest message of the conversation is `last`.
    pub(crate) async fn expect_last(&self, conversation: &Conversation, last: &str) {
        eventually(last, async || {
            let now = self.timeline(conversation).await?;
            match now.last() {
                Some((_, id)) if id == last => Ok(()),
                other => {
                    let (_connection, channel) = self.open().await;
                    let queue =
                        self.topology.inspect_shard_queue(&channel, self.shard_of(conversation)).await;
                    Err(format!("{other:?}, and the queue has (ready, consumers) {queue:?}"))
                }
            }
        })
        .await;
    }

    async fn open(&self) -> (Connection, Channel) {
        let url = self.settings.amqp.url.expose();
        let connection = Connection::connect(url, ConnectionProperties::default()).await.unwrap();
        let channel = connection.create_channel().await.unwrap();
        (connection, channel)
    }

    /// Bodies in the queue that are not delivered.
    pub(crate) async fn ready_bodies(&self, shard: ShardId) -> u32 {
        let passive = lapin::options::QueueDeclareOptions { passive: true, ..Default::default() };
        let queue = self.topology.shard_queue(shard);
        self.channel.queue_declare(queue, passive, FieldTable::default()).await.unwrap().message_count()
    }

    pub(crate) fn shard_of(&self, conversation: &Conversation) -> ShardId {
        self.topology.shards().of(conversation)
    }

    /// Takes the next dead letter, as its body and its reason.
    pub(crate) async fn next_dead_letter(&self) -> (Vec<u8>, String) {
        let channel = &self.channel;
        eventually("a dead letter", async || {
            let got = channel.basic_get(self.topology.dead_queue(), Default::default()).await.unwrap();
            let Some(letter) = got else { return Err("queue is empty") };
            letter.acker.ack(Default::default()).await.unwrap();
            let headers = letter.properties.headers().clone().unwrap();
            let reason = headers.inner()["x-im-reason"].as_long_string().unwrap().to_string();
            Ok((letter.data.clone(), reason))
        })
        .await
    }

    /// Waits until the conversation has exactly the messages `expected`, as (seq, id) in order.
    pub(crate) async fn expect_timeline(&self, conversation: &Conversation, expected: &[(u64, &str)]) {
        let expected: Vec<(u64, String)> =
            expected.iter().map(|(seq, id)| (*seq, (*id).to_owned())).collect();
        eventually("the timeline", async || {
            let now = self.timeline(conversation).await;
            if now.as_ref().is_ok_and(|now| *now == expected) { Ok(()) } else { Err(now) }
        })
        .await;
    }

    /// The messages of the conversation, as (seq, id). An error while there is no table or no server.
    pub(crate) async fn timeline(&self, conversation: &Conversation) -> Result<Vec<(u64, String)>, String> {
        let read = timeline::read(&self.pool, conversation, Seq::ZERO, Direction::Forward, 100_000).await;
        let rows = read.map_err(|error| error.to_string())?;
        Ok(rows.into_iter().map(|row| (row.seq.0, row.msg_id.as_str().to_owned())).collect())
    }

    /// The next correction.
    pub(crate) async fn next_corrected(&mut self) -> v1::Corrected {
        loop {
            if let Event::Corrected(corrected) = self.next_event().await {
                return corrected;
            }
        }
    }

    /// The next event about committed messages.
    pub(crate) async fn next_committed(&mut self) -> v1::Committed {
        loop {
            if let Event::Committed(committed) = self.next_event().await {
                return committed;
            }
        }
    }

    /// The next refusal.
    pub(crate) async fn next_refused(&mut self) -> v1::Refused {
        loop {
            if let Event::Refused(refused) = self.next_event().await {
                return refused;
            }
        }
    }

    /// Stops the worker, which must have acknowledged all deliveries.
    pub(crate) async fn expect_all_acknowledged(&self, worker: App) {
        assert!(worker.stop().await);
        assert_eq!(self.bodies_left().await, 0);
    }

    /// How many bodies are in the queues while there is no consumer.
    pub(crate) async fn bodies_left(&self) -> u32 {
        let mut left = 0;
        for shard in self.topology.shards().all() {
            let options = QueueDeclareOptions { passive: true, ..Default::default() };
            let queue = self.topology.shard_queue(shard);
            let queue = self.channel.queue_declare(queue, options, FieldTable::default()).await.unwrap();
            left += queue.message_count();
        }
        left
    }

    /// A client of the inboxes.
    pub(crate) async fn inboxes(&self) -> Inboxes {
        let client = shared::redis::connect(&self.settings.redis, TIMEOUT).await.unwrap();
        Inboxes::new(client, 600)
    }

    pub(crate) async fn next_event(&mut self) -> Event {
        while self.received.is_empty() {
            let batch = self.next_batch().await;
            self.received.extend(batch.events.into_iter().filter_map(|event| event.kind));
        }
        self.received.pop_front().unwrap()
    }

    /// The next batch of events, beacons included.
    pub(crate) async fn next_batch(&mut self) -> v1::EventBatch {
        let next = tokio::time::timeout(TIMEOUT, self.events.next()).await.expect("an event in time");
        envelope::decode_events(&next.unwrap().unwrap().data).unwrap()
    }
}

/// Waits until the worker is ready.
pub(crate) async fn ready(app: &App) {
    eventually("the worker is ready", async || {
        let failing = app.health().failing();
        if failing.is_empty() { Ok(()) } else { Err(failing) }
    })
    .await;
}

/// Calls `ask` until it returns `Ok`.
pub(crate) async fn eventually<T, E: Debug>(what: &str, mut ask: impl AsyncFnMut() -> Result<T, E>) -> T {
    let until = Instant::now() + TIMEOUT;
    loop {
        match ask().await {
            Ok(value) => return value,
            Err(last) => assert!(Instant::now() < until, "{what}: {last:?}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

pub(crate) fn user(id: &str) -> UserId {
    UserId::parse(id).unwrap()
}

pub(crate) fn group(name: &str) -> Conversation {
    Conversation::from_key(name).unwrap()
}

/// A message that its sender sent on a connection to the first gateway.
pub(crate) fn message(conversation: &Conversation, seq: u64, sender: &str, id: &str) -> Numbered {
    Numbered {
        origin: Some(ConnectionId { gateway: 1, connection: u64::from(sender.as_bytes()[0]) }),
        ..numbered(conversation.key(), seq, sender, id)
    }
}
