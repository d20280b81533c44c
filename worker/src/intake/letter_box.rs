//! What lies in the dead-letter queue, one by one: to be looked at, sent on its way again, or thrown away.
//!
//! Everything that is taken out and not answered for goes back when the box is closed. A quorum queue counts how often
//! that happens (RabbitMQ 4 throws a letter away after 20 times), so letters that came back a few times are put in anew.

use std::time::Duration;

use lapin::message::BasicGetMessage;
use lapin::options::{
    BasicAckOptions, BasicGetOptions, BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::uri::AMQPUri;
use lapin::{BasicProperties, Channel, Confirmation, Connection, ConnectionProperties};
use shared::amqp::Topology;
use shared::config::{Amqp, ConfigError};
use shared::envelope;
use shared::shard::ShardId;
use tokio::time::timeout;
use xxhash_rust::xxh64::xxh64;

use super::dead_letters::{REASON, SHARD, TIME_MS};

/// For each answer of the broker.
const PATIENCE: Duration = Duration::from_secs(10);
/// Counted by the broker on a quorum queue.
const DELIVERY_COUNT: &str = "x-delivery-count";
/// A letter that was put back so often is put in anew.
const RENEW_AFTER: i64 = 5;

/// Why the box cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LetterBoxError {
    /// The address is none.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// As lapin says.
    #[error("RabbitMQ: {0}")]
    Lapin(#[from] lapin::Error),
    /// No answer.
    #[error("RabbitMQ did not answer within {} s", PATIENCE.as_secs())]
    Timeout(#[from] tokio::time::error::Elapsed),
    /// It is still where it was.
    #[error("RabbitMQ did not take letter {0}: it stays in the dead-letter queue")]
    Refused(String),
    /// It cannot go anywhere.
    #[error("letter {id} names no shard below {shards}: it cannot be replayed")]
    NoShard {
        /// Of the letter.
        id: String,
        /// How many there are.
        shards: u16,
    },
}

/// Something that could not be stored.
#[derive(Debug)]
pub struct Letter {
    /// Made of its body and headers: the same each time it is looked at, also for a copy of it.
    pub id: String,
    /// Why it is here, as the worker wrote it, or as the broker did.
    pub reason: String,
    /// The shard in whose queue it was.
    pub shard: Option<u32>,
    /// When it was put here, in milliseconds since 1970.
    pub time_ms: Option<i64>,
    /// As it was published.
    pub body: Vec<u8>,
    delivery: u64,
    returned: i64,
    headers: FieldTable,
}

impl Letter {
    fn new(got: BasicGetMessage) -> Self {
        let delivery = got.delivery;
        let mut headers = delivery.properties.headers().clone().unwrap_or_default();
        let returned = headers.inner().get(DELIVERY_COUNT).and_then(integer).unwrap_or(0);
        // The broker's own counting is not the letter's.
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
        let ours = header(REASON).and_then(text);
        let reason = ours
            .or_else(|| header("x-first-death-reason").and_then(text).map(|why| format!("RabbitMQ: {why}")));
        let mut all = delivery.data.clone();
        all.extend(format!("{headers:?}").into_bytes());
        Self {
            id: format!("{:016x}", xxh64(&all, 0)),
            reason: reason.unwrap_or_else(|| "unknown: it was not put here by a worker".to_owned()),
            shard: header(SHARD).and_then(integer).and_then(|shard| u32::try_from(shard).ok()),
            time_ms: header(TIME_MS).and_then(integer),
            body: delivery.data,
            delivery: delivery.delivery_tag,
            returned,
            headers,
        }
    }

    /// The messages in it, as far as they can be read.
    #[must_use]
    pub fn messages(&self) -> usize {
        envelope::decode_batch(&self.body).map_or(0, |batch| batch.messages.len() + batch.refused.len())
    }

    /// Where it belongs: what can be read says so itself.
    fn destination(&self) -> Option<u32> {
        envelope::decode_batch(&self.body).map_or(self.shard, |batch| Some(batch.shard))
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

/// The dead-letter queue, opened.
#[derive(Debug)]
pub struct LetterBox {
    connection: Connection,
    channel: Channel,
    topology: Topology,
}

impl LetterBox {
    /// Opens it. Declares nothing.
    ///
    /// # Errors
    /// No connection, or no such queue: no worker was ever started here.
    pub async fn open(settings: &Amqp, topology: Topology) -> Result<Self, LetterBoxError> {
        let mut uri: AMQPUri =
            settings.url.expose().parse().map_err(|e: String| ConfigError::key("amqp.url", e))?;
        uri.query.heartbeat.get_or_insert(settings.heartbeat_s);
        let properties = ConnectionProperties::default().with_connection_name("worker, dead letters".into());
        let connection = timeout(PATIENCE, Connection::connect_uri(uri, properties)).await??;
        let channel = timeout(PATIENCE, connection.create_channel()).await??;
        let passive = QueueDeclareOptions { passive: true, ..Default::default() };
        let queue = topology.dead_queue();
        timeout(PATIENCE, channel.queue_declare(queue, passive, FieldTable::default())).await??;
        timeout(PATIENCE, channel.confirm_select(ConfirmSelectOptions::default())).await??;
        Ok(Self { connection, channel, topology })
    }

    /// Takes out up to `most` letters, the oldest first.
    ///
    /// # Errors
    /// [`LetterBoxError`]; what was taken goes back.
    pub async fn take(&self, most: usize) -> Result<Vec<Letter>, LetterBoxError> {
        let mut letters = Vec::new();
        while letters.len() < most {
            let got = self.channel.basic_get(self.topology.dead_queue(), BasicGetOptions::default());
            let Some(got) = timeout(PATIENCE, got).await?? else { break };
            letters.push(Letter::new(got));
        }
        Ok(letters)
    }

    /// Publishes its body again for the workers, and takes it out once the broker has it. What was stored already is
    /// recognized by its id; what still cannot be stored comes back here.
    ///
    /// # Errors
    /// [`LetterBoxError`]; the letter stays.
    pub async fn replay(&self, letter: &Letter) -> Result<(), LetterBoxError> {
        let shards = self.topology.shards();
        let shard = letter.destination().and_then(|n| shards.all().find(|shard| u32::from(shard.0) == n));
        let Some(shard) = shard else {
            return Err(LetterBoxError::NoShard { id: letter.id.clone(), shards: shards.get() });
        };
        self.send(letter, self.topology.messages_exchange(), self.key(shard), None).await?;
        self.discard(letter).await
    }

    fn key(&self, shard: ShardId) -> ShortString {
        self.topology.shard_key(shard)
    }

    /// Throws it away.
    ///
    /// # Errors
    /// [`LetterBoxError`]; the letter stays.
    pub async fn discard(&self, letter: &Letter) -> Result<(), LetterBoxError> {
        Ok(timeout(PATIENCE, self.channel.basic_ack(letter.delivery, BasicAckOptions::default())).await??)
    }

    /// Puts everything else back. Those that came back often are put in anew, at the end of the queue.
    ///
    /// # Errors
    /// [`LetterBoxError`]; nothing is lost, a letter may be there twice.
    pub async fn close(self, letters: &[Letter]) -> Result<(), LetterBoxError> {
        for letter in letters.iter().filter(|letter| letter.returned >= RENEW_AFTER) {
            self.send(
                letter,
                self.topology.dead_queue(),
                ShortString::default(),
                Some(letter.headers.clone()),
            )
            .await?;
            self.discard(letter).await?;
        }
        Ok(timeout(PATIENCE, self.connection.close(200, "bye".into())).await??)
    }

    /// One at a time, so that an answer cannot be another one's.
    async fn send(
        &self,
        letter: &Letter,
        exchange: ShortString,
        key: ShortString,
        headers: Option<FieldTable>,
    ) -> Result<(), LetterBoxError> {
        let options = BasicPublishOptions { mandatory: true, ..Default::default() };
        let mut properties = BasicProperties::default()
            .with_delivery_mode(2)
            .with_content_type("application/x-protobuf".into());
        if let Some(headers) = headers {
            properties = properties.with_headers(headers);
        }
        let sent = async {
            self.channel.basic_publish(exchange, key, options, &letter.body, properties).await?.await
        };
        match timeout(PATIENCE, sent).await?? {
            Confirmation::Ack(None) => Ok(()),
            _ => Err(LetterBoxError::Refused(letter.id.clone())),
        }
    }
}
