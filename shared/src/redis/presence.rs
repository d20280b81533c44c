//! Presence: the gateways to which each user is connected.
//!
//! A gateway writes the entries of its own users. The entries of a gateway that died stay behind: they show a user as connected
//! only while the gateway is in the liveness registry. How workers use them to find the gateways of an event, and what that
//! needs, is in [`targeted_push`](crate::targeted_push).

use std::collections::BTreeSet;
use std::sync::LazyLock;

use fred::interfaces::{HashesInterface as _, KeysInterface as _};
use fred::types::Expiration;
use fred::types::scripts::Script;
use futures_util::future::try_join_all;

use super::client::Client;
use super::error::RedisError;
use super::keys;
use crate::ids::UserId;
use crate::targeted_push::{Found, Write};

static RECORD: LazyLock<Script> = LazyLock::new(|| Script::from_lua(include_str!("lua/record_presence.lua")));
static FIND: LazyLock<Script> = LazyLock::new(|| Script::from_lua(include_str!("lua/find_gateways.lua")));

/// The time after which the entries of a gateway that died expire. A live gateway renews its own well before.
pub const ENTRY_TTL_S: i64 = 86_400;
/// The revision of every entry of a gateway of an earlier version, which receives no events of its own.
const EARLIER_VERSION: &str = "1";
/// Most users of one script call: other commands wait meanwhile.
const USERS_PER_CALL_MAX: usize = 100;

/// The entries of one gateway. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Presence {
    client: Client,
    gateway: String,
}

impl Presence {
    /// The entries of the gateway with this id, as it is in the liveness registry.
    #[must_use]
    pub fn new(client: Client, gateway: u64) -> Self {
        Self { client, gateway: name(gateway) }
    }

    /// Makes the users of `write` connected here or not, as `is_here` says in their order, and returns the mark of this gateway
    /// that was found. A write that begins a pass makes its revision the mark, before anything else: what is lost later is lost
    /// with the mark.
    ///
    /// # Errors
    /// Some entries may be recorded: retry with a higher revision.
    pub async fn record<W>(&self, write: &Write<W>, is_here: &[bool]) -> Result<Option<u64>, RedisError> {
        let key = &keys::presence_mark(&self.gateway);
        if write.begins {
            let mark = || write.revision.to_string();
            let expiry = || Some(Expiration::EX(ENTRY_TTL_S));
            let set = |redis: fred::clients::Client| async move {
                redis.set(key, mark(), expiry(), None, true).await
            };
            let found = self.client.at(key, set).await?;
            self.record_users(write, is_here).await?;
            return Ok(found);
        }
        self.record_users(write, is_here).await?;
        self.client.at(key, |redis| async move { redis.get(key).await }).await
    }

    async fn record_users<W>(&self, write: &Write<W>, is_here: &[bool]) -> Result<(), RedisError> {
        let states: Vec<(&UserId, bool)> = write.users.iter().zip(is_here.iter().copied()).collect();
        let recorded = states.chunks(self.client.keys_together(USERS_PER_CALL_MAX)).map(|states| {
            let keys = states.iter().map(|(user, _)| keys::online(user)).collect();
            let mut arguments =
                vec![self.gateway.clone(), write.revision.to_string(), ENTRY_TTL_S.to_string()];
            arguments.extend(states.iter().map(|(_, is_here)| u8::from(*is_here).to_string()));
            self.client.script::<i64>(&RECORD, keys, arguments)
        });
        try_join_all(recorded).await.map(drop)
    }

    /// The runs of all servers that keep entries: not of one that has a `maxmemory` and another `maxmemory-policy` than
    /// `noeviction`.
    ///
    /// # Errors
    /// A server does not answer.
    pub async fn runs(&self) -> Result<BTreeSet<String>, RedisError> {
        self.client.runs().await
    }

    /// Announces that all users of this gateway are recorded in these runs of the servers.
    ///
    /// # Errors
    /// Redis's.
    pub async fn announce_complete(&self, runs: &BTreeSet<String>) -> Result<(), RedisError> {
        let (key, runs) = (&keys::presence_runs(&self.gateway), &joined(runs));
        let set = |redis: fred::clients::Client| async move {
            redis.set(key, runs, Some(Expiration::EX(ENTRY_TTL_S)), None, false).await
        };
        self.client.at(key, set).await
    }

    /// The ids of the gateways that recorded a connection of each of `users`.
    ///
    /// # Errors
    /// Redis's.
    pub async fn gateways_of(&self, users: &[UserId]) -> Result<Vec<Vec<u64>>, RedisError> {
        let asked = users.iter().map(|user| async move {
            let key = &keys::online(user);
            let names: Vec<String> =
                self.client.at(key, |redis| async move { redis.hkeys(key).await }).await?;
            Ok(names.iter().filter_map(|name| u64::from_str_radix(name, 16).ok()).collect())
        });
        try_join_all(asked).await
    }
}

/// The entries of all gateways. Cheap to clone.
#[derive(Debug, Clone)]
pub struct AllPresence {
    client: Client,
}

impl AllPresence {
    /// The entries in this Redis.
    #[must_use]
    pub fn new(client: Client) -> Self {
        Self { client }
    }

    /// The gateways of each of `users`, in their order.
    ///
    /// # Errors
    /// Redis's.
    pub async fn find(&self, users: &[UserId]) -> Result<Vec<Found>, RedisError> {
        let asked = users.chunks(self.client.keys_together(USERS_PER_CALL_MAX)).map(|users| async move {
            let keys = users.iter().map(keys::online).collect();
            let answer: Vec<String> =
                self.client.script(&FIND, keys, vec![EARLIER_VERSION.to_owned()]).await?;
            match answer.split_first() {
                Some((run, found)) if found.len() == users.len() => {
                    Ok(found.iter().map(|gateways| parse_found(run, gateways)).collect::<Vec<_>>())
                }
                _ => Err(RedisError::Answer(format!("{answer:?} for the gateways of {} users", users.len()))),
            }
        });
        Ok(try_join_all(asked).await?.concat())
    }

    /// The runs that each of `gateways` has announced as complete; `None` for a gateway that has announced nothing.
    ///
    /// # Errors
    /// Redis's.
    pub async fn announced_by(&self, gateways: &[u64]) -> Result<Vec<Option<BTreeSet<String>>>, RedisError> {
        let asked = gateways.iter().map(|gateway| async move {
            let key = &keys::presence_runs(&name(*gateway));
            let runs: Option<String> =
                self.client.at(key, |redis| async move { redis.get(key).await }).await?;
            Ok(runs.map(|runs| runs.split(',').filter(|run| !run.is_empty()).map(str::to_owned).collect()))
        });
        try_join_all(asked).await
    }
}

fn name(gateway: u64) -> String {
    format!("{gateway:016x}")
}

fn joined(runs: &BTreeSet<String>) -> String {
    runs.iter().map(String::as_str).collect::<Vec<_>>().join(",")
}

fn parse_found(run: &str, gateways: &str) -> Found {
    let names = || gateways.split(',').filter(|name| !name.is_empty());
    Found {
        run: run.to_owned(),
        gateways: names().filter_map(|name| u64::from_str_radix(name, 16).ok()).collect(),
        at_earlier_version: names().any(|name| name == "*"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gateways_are_parsed_with_the_mark_of_an_earlier_version() {
        let table: [(&str, &[u64], bool); 4] = [
            ("", &[], false),
            ("000000000000000a", &[10], false),
            ("000000000000000a,*,ffffffffffffffff", &[10, u64::MAX], true),
            ("no gateway,0b", &[11], false),
        ];
        for (text, gateways, at_earlier_version) in table {
            let expected = Found { run: "r".to_owned(), gateways: gateways.into(), at_earlier_version };
            assert_eq!(parse_found("r", text), expected, "{text:?}");
        }
    }
}
