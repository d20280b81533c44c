//! What the operator's tools read from Redis. Nothing here is on the message path.
//!
//! Keys are searched with `SCAN`, in steps that do not block the server, until a deadline.

use std::time::Instant;

use fred::interfaces::{ClientLike as _, HashesInterface as _, KeysInterface as _};
use fred::types::InfoKind;
use fred::types::scan::Scanner as _;
use futures_util::future::try_join_all;
use futures_util::stream::BoxStream;
use futures_util::{StreamExt as _, TryStreamExt as _};

use super::client::Client;
use super::error::RedisError;
use super::keys;
use super::node::info_field;
use crate::conversation::Conversation;
use crate::ids::{DeviceId, MsgId, Seq, UserId};
use crate::message::Fingerprint;

/// Keys that the server looks at in one step of a search.
const SCAN_COUNT: u32 = 1_000;

/// What a search has found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found<T> {
    /// What was found before the end or the deadline.
    pub found: Vec<T>,
    /// All keys were looked at.
    pub is_complete: bool,
}

/// The counter of a conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Counter {
    /// Redis has no counter: the next message sets it from MySQL.
    Missing,
    /// The last sequence number that was assigned.
    At(Seq),
    /// A value that no message can have; it counts as missing.
    Unusable(String),
}

/// What Redis remembers about a message id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RememberedId {
    /// The sequence number that it has.
    pub seq: Seq,
    /// The message that it was assigned to; `None` after a renumbering, and for entries of earlier versions.
    pub fingerprint: Option<Fingerprint>,
    /// For how many more seconds the id is remembered.
    pub remaining_s: u64,
}

/// Reads for the operator. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Inspection {
    client: Client,
}

impl Inspection {
    /// Reads from this server.
    #[must_use]
    pub fn new(client: Client) -> Self {
        Self { client }
    }

    /// The version of the server: `7.0.15`, or `valkey 8.0.1`.
    ///
    /// # Errors
    /// Redis's.
    pub async fn server_version(&self) -> Result<String, RedisError> {
        let redis = self.client.each().into_iter().find(|redis| redis.is_connected());
        let text: String = redis.ok_or(RedisError::NoServer)?.info(Some(InfoKind::Server)).await?;
        let version = match info_field(&text, "valkey_version") {
            Some(version) => Some(format!("valkey {version}")),
            None => info_field(&text, "redis_version").map(str::to_owned),
        };
        version.ok_or_else(|| RedisError::Answer("INFO names no version".to_owned()))
    }

    /// The counter of a conversation.
    ///
    /// # Errors
    /// Redis's.
    pub async fn counter(&self, conversation: &Conversation) -> Result<Counter, RedisError> {
        // MGET, because GET fails on a value of another type.
        let key = &keys::seq(conversation);
        let read = |redis: fred::clients::Client| async move { redis.mget(vec![key.as_str()]).await };
        let values: Vec<Option<String>> = self.client.at(key, read).await?;
        Ok(match values.into_iter().next().flatten() {
            None => Counter::Missing,
            Some(text) => match text.parse() {
                Ok(seq) if seq <= Seq::MAX.0 => Counter::At(Seq(seq)),
                _ => Counter::Unusable(text),
            },
        })
    }

    /// The number that the id of a message has; `None` if Redis does not remember it.
    ///
    /// # Errors
    /// Redis's.
    pub async fn remembered(
        &self,
        conversation: &Conversation,
        sender: &UserId,
        msg_id: &MsgId,
    ) -> Result<Option<RememberedId>, RedisError> {
        let key = &keys::sent(conversation, sender, msg_id);
        let (value, remaining): (Option<String>, i64) = futures_util::try_join!(
            self.client.at(key, |redis| async move { redis.get(key).await }),
            self.client.at(key, |redis| async move { redis.ttl(key).await })
        )?;
        let remaining_s = u64::try_from(remaining).unwrap_or(0);
        Ok(value.and_then(|value| remembered(&value, remaining_s)))
    }

    /// The conversations and senders of messages with this id that Redis remembers.
    ///
    /// # Errors
    /// Redis's.
    pub async fn senders_of(
        &self,
        msg_id: &MsgId,
        until: Instant,
    ) -> Result<Found<(Conversation, UserId)>, RedisError> {
        let pattern = keys::sent_pattern(msg_id);
        let Found { found, is_complete } = self.scan(&pattern, until).await?;
        let mut senders: Vec<_> = found.iter().filter_map(|key| keys::parse_sent(key, msg_id)).collect();
        // A search may find a key twice.
        senders.sort_unstable();
        senders.dedup();
        Ok(Found { found: senders, is_complete })
    }

    /// The devices of `user` that connected within a day, each with the time of its newest connection in milliseconds since
    /// 1970.
    ///
    /// # Errors
    /// Redis's.
    pub async fn devices(&self, user: &UserId, until: Instant) -> Result<Found<(String, u64)>, RedisError> {
        let prefix = keys::device_prefix(user);
        let pattern = format!("{}*", keys::escaped(&prefix));
        let Found { found, is_complete } = self.scan(&pattern, until).await?;
        let ids = found.iter().filter_map(|key| DeviceId::parse(key.strip_prefix(&prefix)?).ok());
        let asked = ids.map(|device| async move {
            let key = &keys::device_rank(user, &device);
            let rank: Option<u64> = self.client.at(key, |redis| async move { redis.get(key).await }).await?;
            Ok::<_, RedisError>(rank.map(|rank| (device.as_str().to_owned(), rank / 1_000)))
        });
        let mut devices: Vec<_> = try_join_all(asked).await?.into_iter().flatten().collect();
        devices.sort_unstable();
        devices.dedup();
        Ok(Found { found: devices, is_complete })
    }

    /// The `last_seq` of `conversation` in the inbox of each of `users`; `None` for a user without an inbox or an entry.
    ///
    /// # Errors
    /// Redis's.
    pub async fn inbox_seqs(
        &self,
        conversation: &Conversation,
        users: &[UserId],
    ) -> Result<Vec<Option<Seq>>, RedisError> {
        let asked = users.iter().map(|user| async move {
            let (key, field) = (&keys::inbox_heads(user), conversation.key());
            let seq: Option<u64> =
                self.client.at(key, |redis| async move { redis.hget(key, field).await }).await?;
            Ok(seq.map(Seq))
        });
        try_join_all(asked).await
    }

    /// All inboxes, some at a time: the user, and the keys of the conversations in it. One may come twice.
    pub fn inboxes(&self) -> BoxStream<'_, Result<(String, Vec<String>), RedisError>> {
        let keys = self.pages(keys::INBOX_HEADS_PATTERN);
        let users = keys.map_ok(|page| futures_util::stream::iter(page.into_iter().map(Ok))).try_flatten();
        users
            .and_then(move |key| async move {
                let read = |redis: fred::clients::Client| {
                    let key = key.clone();
                    async move { redis.hkeys(key).await }
                };
                let fields: Vec<String> = self.client.at(&key, read).await?;
                // The others are properties of the inbox.
                let conversations = fields.into_iter().filter(|field| !field.starts_with('#')).collect();
                Ok((keys::inbox_owner(&key).to_owned(), conversations))
            })
            .boxed()
    }

    async fn scan(&self, pattern: &str, until: Instant) -> Result<Found<String>, RedisError> {
        let mut pages = self.pages(pattern);
        let mut found = Vec::new();
        loop {
            match tokio::time::timeout_at(until.into(), pages.try_next()).await {
                Ok(Ok(Some(page))) => found.extend(page),
                Ok(Ok(None)) => return Ok(Found { found, is_complete: true }),
                Ok(Err(error)) => return Err(error),
                Err(_) => return Ok(Found { found, is_complete: false }),
            }
        }
    }

    /// The keys that match, page by page; in a cluster those of all masters.
    fn pages(&self, pattern: &str) -> BoxStream<'_, Result<Vec<String>, RedisError>> {
        let servers = self.client.each().into_iter();
        let scans = servers.map(|redis| redis.scan(pattern.to_owned(), Some(SCAN_COUNT), None));
        futures_util::stream::iter(scans.collect::<Vec<_>>())
            .flatten()
            .map(|page| {
                let mut page = page?;
                let keys = page.take_results().unwrap_or_default();
                // The next page is asked for when this one is dropped.
                Ok(keys.into_iter().filter_map(fred::types::Key::into_string).collect())
            })
            .boxed()
    }
}

/// Parses the value of an id, see `next_seq.lua`.
fn remembered(value: &str, remaining_s: u64) -> Option<RememberedId> {
    let (number, fraction) = value.split_once('.').unwrap_or((value, ""));
    let fingerprint = fraction.strip_prefix('0').and_then(|print| print.parse().ok());
    Some(RememberedId {
        seq: Seq(number.parse().ok()?),
        fingerprint: fingerprint.and_then(Fingerprint::from_number),
        remaining_s,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_value_of_an_id_is_read_with_and_without_a_fingerprint() {
        let read = |value| remembered(value, 7).map(|id| (id.seq.0, id.fingerprint.map(|f| f.to_string())));
        assert_eq!(read("12.0001234567"), Some((12, Some("001234567".to_owned()))));
        assert_eq!(read("12"), Some((12, None)));
        assert_eq!(read("x"), None);
    }
}
