//! Inboxes: the conversations of each user, by the version of their last change.
//!
//! An inbox is a sorted set of conversations by *version*, and a hash with the `last_seq` of each. A version is the Redis
//! clock in microseconds, or the last version plus one if that is higher: versions increase, also after an inbox was lost,
//! and stay below 2^53, which a score and a JavaScript number represent exactly. A conversation has one entry, however many
//! messages it got.
//!
//! Only users who sync have an inbox. It is stored in Redis alone: a gateway that finds it missing, or built before a
//! restart of the server, rebuilds it from MySQL.

use std::sync::LazyLock;

use fred::interfaces::HashesInterface as _;
use fred::types::scripts::Script;
use futures_util::future::try_join_all;

use super::client::Client;
use super::error::RedisError;
use super::keys;
use crate::conversation::Conversation;
use crate::ids::{Seq, UserId};

static RECORD: LazyLock<Script> = LazyLock::new(|| Script::from_lua(include_str!("lua/record_inbox.lua")));
static RECORD_GROUP_HEAD: LazyLock<Script> =
    LazyLock::new(|| Script::from_lua(include_str!("lua/record_group_head.lua")));
static READ: LazyLock<Script> = LazyLock::new(|| Script::from_lua(include_str!("lua/read_inbox.lua")));
static OPEN: LazyLock<Script> = LazyLock::new(|| Script::from_lua(include_str!("lua/open_inbox.lua")));
static FILL: LazyLock<Script> = LazyLock::new(|| Script::from_lua(include_str!("lua/fill_inbox.lua")));

/// The time after which an inbox expires that its user does not sync, in seconds.
pub const TTL_S_DEFAULT: u32 = 7 * 86_400;
/// The time by which a group head outlives an inbox: a client whose cursor is older than the head's last change must find
/// it.
const GROUP_HEAD_EXTRA_S: u32 = 86_400;
/// The time after which an inbox expires that was opened and not filled, in seconds.
const FILLING_S: u32 = 60;
/// Most entries that one call fills in: the script blocks other commands meanwhile.
const FILLED_PER_CALL_MAX: usize = 500;
/// Most inboxes that one call writes, likewise: some 5 us each.
const RECORDED_PER_CALL_MAX: usize = 50;
/// Group heads that are asked for at once: commands of other users wait behind them on the same connection.
const HEADS_AT_ONCE: usize = 100;

/// What changed about a conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// It has messages up to this sequence number.
    Messages(Seq),
    /// The user joined when it had messages up to this sequence number.
    Joined(Seq),
    /// Something else, such as the read position.
    Other,
}

/// A change to be recorded in one user's inbox. Updates of the same conversation take fewer arguments side by side.
#[derive(Debug, Clone, Copy)]
pub struct InboxUpdate<'u> {
    /// The owner of the inbox.
    pub user: &'u UserId,
    /// The conversation that changed.
    pub conversation: &'u Conversation,
    /// What changed.
    pub change: Change,
}

/// One conversation in an inbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The conversation.
    pub conversation: Conversation,
    /// The version of its last change.
    pub version: u64,
    /// Its `last_seq`, or a higher number.
    pub last_seq: Seq,
}

/// A page of an inbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// The server's clock: whatever is noted later gets at least this version.
    pub now: u64,
    /// `None`: the inbox is missing or invalid.
    pub inbox: Option<Inbox>,
}

/// The inbox of a [`Page`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inbox {
    /// The lowest cursor that the inbox can answer.
    pub floor: u64,
    /// The highest version in it.
    pub last: u64,
    /// The requested entries.
    pub entries: Vec<Entry>,
}

/// The order of a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Changes after a version, the oldest first.
    RisingAfter(u64),
    /// Changes before a version, the newest first.
    FallingBefore(u64),
}

/// All inboxes. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Inboxes {
    client: Client,
    ttl_s: u32,
}

impl Inboxes {
    /// Inboxes that expire after `ttl_s` seconds without a sync.
    #[must_use]
    pub fn new(client: Client, ttl_s: u32) -> Self {
        Self { client, ttl_s: ttl_s.max(1) }
    }

    /// Records `updates` in one pipelined round trip, with few script calls.
    ///
    /// # Errors
    /// Some may have been recorded: record all of them again.
    pub async fn record<'u>(&self, updates: impl Iterator<Item = InboxUpdate<'u>>) -> Result<(), RedisError> {
        let updates: Vec<InboxUpdate<'u>> = updates.collect();
        let recorded = updates.chunks(self.client.keys_together(RECORDED_PER_CALL_MAX)).map(|updates| {
            let keys = updates.iter().flat_map(|update| inbox_keys(update.user)).collect();
            let alike = updates.chunk_by(|a, b| (a.conversation, a.change) == (b.conversation, b.change));
            let arguments = alike.flat_map(|updates| {
                let (conversation, change) = (updates[0].conversation, updates[0].change);
                let (seq, other) = match change {
                    Change::Messages(seq) => (seq.to_string(), ""),
                    Change::Joined(seq) => (seq.to_string(), "1"),
                    Change::Other => (String::new(), "1"),
                };
                [updates.len().to_string(), conversation.key().to_owned(), seq, other.to_owned()]
            });
            self.client.script::<i64>(&RECORD, keys, arguments.collect())
        });
        try_join_all(recorded).await.map(drop)
    }

    /// Records the last sequence number of a large group, which stands for updates of its members' inboxes.
    ///
    /// # Errors
    /// It may have been recorded: record it again.
    pub async fn record_group_head(&self, group: &Conversation, last_seq: Seq) -> Result<(), RedisError> {
        let ttl_s = self.ttl_s.saturating_add(GROUP_HEAD_EXTRA_S);
        let arguments = vec![last_seq.to_string(), ttl_s.to_string()];
        let recorded =
            self.client.script::<i64>(&RECORD_GROUP_HEAD, vec![keys::group_head(group)], arguments);
        recorded.await.map(drop)
    }

    /// Reads at most `limit` entries; with 0 only the properties of the inbox.
    ///
    /// # Errors
    /// Redis's.
    pub async fn read(&self, user: &UserId, order: Order, limit: usize) -> Result<Page, RedisError> {
        let (bound, falling) = match order {
            Order::RisingAfter(version) => (version, "0"),
            Order::FallingBefore(version) => (version, "1"),
        };
        let arguments =
            vec![bound.to_string(), limit.to_string(), falling.to_owned(), self.ttl_s.to_string()];
        let answer: Vec<String> = self.client.script(&READ, inbox_keys(user), arguments).await?;
        page(&answer).ok_or_else(|| RedisError::Answer(format!("{answer:?} for an inbox")))
    }

    /// The group heads of large groups: version and `last_seq`; `None` for a group without one.
    ///
    /// # Errors
    /// Redis's.
    pub async fn group_heads(&self, groups: &[Conversation]) -> Result<Vec<Option<(u64, Seq)>>, RedisError> {
        let mut heads = Vec::with_capacity(groups.len());
        for groups in groups.chunks(HEADS_AT_ONCE) {
            let asked = groups.iter().map(|group| async move {
                let key = &keys::group_head(group);
                let read = |redis: fred::clients::Client| async move {
                    redis.hmget(key, vec!["version", "seq"]).await
                };
                let answer: (Option<u64>, Option<u64>) = self.client.at(key, read).await?;
                Ok::<_, RedisError>(answer.0.zip(answer.1.map(Seq)))
            });
            heads.extend(try_join_all(asked).await?);
        }
        Ok(heads)
    }

    /// Starts a new inbox, which records updates from now on. Read the database next, then call [`fill`](Self::fill).
    ///
    /// # Errors
    /// Redis's.
    pub async fn open(&self, user: &UserId) -> Result<Opened, RedisError> {
        let token = uuid::Uuid::new_v4().to_string();
        let arguments = vec![token.clone(), FILLING_S.to_string()];
        let base: u64 = self.client.script(&OPEN, inbox_keys(user), arguments).await?;
        Ok(Opened { token, base })
    }

    /// Fills in all conversations of `user` with their `last_seq`, ordered by their last change. Returns false if the inbox
    /// was opened again by another caller: read it again.
    ///
    /// # Errors
    /// Redis's; the inbox is invalid then.
    pub async fn fill(
        &self,
        user: &UserId,
        opened: &Opened,
        conversations: &[(Conversation, Seq)],
    ) -> Result<bool, RedisError> {
        // The versions end at the base, directly below that of the first update.
        let floor = opened.base.saturating_sub(conversations.len() as u64);
        let mut chunks = conversations.chunks(FILLED_PER_CALL_MAX).peekable();
        let mut version = floor;
        loop {
            let chunk = chunks.next().unwrap_or_default();
            let is_last = chunks.peek().is_none();
            let end = if is_last { floor.to_string() } else { String::new() };
            let mut arguments = vec![opened.token.clone(), end, self.ttl_s.to_string()];
            for (conversation, last_seq) in chunk {
                version += 1;
                arguments.extend([conversation.key().to_owned(), last_seq.to_string(), version.to_string()]);
            }
            let filled: i64 = self.client.script(&FILL, inbox_keys(user), arguments).await?;
            if filled == 0 || is_last {
                return Ok(filled == 1);
            }
        }
    }
}

/// An inbox that records updates and is not filled yet.
#[derive(Debug, Clone)]
pub struct Opened {
    token: String,
    base: u64,
}

fn inbox_keys(user: &UserId) -> Vec<String> {
    vec![keys::inbox(user), keys::inbox_heads(user)]
}

fn page(answer: &[String]) -> Option<Page> {
    let (properties, rest) = answer.split_at_checked(4)?;
    let now = properties[0].parse().ok()?;
    if properties[1] != "1" {
        return Some(Page { now, inbox: None });
    }
    let entries = rest.chunks_exact(3).map(|entry| {
        Some(Entry {
            conversation: Conversation::from_key(&entry[0]).ok()?,
            version: entry[1].parse().ok()?,
            last_seq: Seq(entry[2].parse().ok()?),
        })
    });
    let entries = entries.collect::<Option<Vec<_>>>()?;
    Some(Page {
        now,
        inbox: Some(Inbox { floor: properties[2].parse().ok()?, last: properties[3].parse().ok()?, entries }),
    })
}
