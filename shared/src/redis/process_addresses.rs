//! Where live processes serve their metrics. Each address is a key of its own that expires, beside the entry of the process
//! in the liveness registry: processes of earlier versions have an entry and no address.

use std::time::Duration;

use fred::interfaces::KeysInterface as _;
use fred::types::Expiration;
use futures_util::future::try_join_all;

use super::client::Client;
use super::error::RedisError;
use super::keys;

/// The addresses of processes. Cheap to clone.
#[derive(Debug, Clone)]
pub struct ProcessAddresses {
    client: Client,
}

impl ProcessAddresses {
    /// Addresses on this server.
    #[must_use]
    pub fn new(client: Client) -> Self {
        Self { client }
    }

    /// Records `address` (host and port) for the process with this id, for as long as `expiry`.
    ///
    /// # Errors
    /// Redis's.
    pub async fn publish(&self, process: &str, address: &str, expiry: Duration) -> Result<(), RedisError> {
        let expiry = Expiration::PX(i64::try_from(expiry.as_millis()).unwrap_or(i64::MAX));
        let key = keys::process_address(process);
        let set = |redis: fred::clients::Client| {
            let (key, expiry) = (key.clone(), expiry.clone());
            async move { redis.set(key, address, Some(expiry), None, false).await }
        };
        self.client.at(&key, set).await
    }

    /// Removes the address of the process with this id.
    ///
    /// # Errors
    /// Redis's: the address stays until it expires.
    pub async fn remove(&self, process: &str) -> Result<(), RedisError> {
        let key = &keys::process_address(process);
        self.client.at(key, |redis| async move { redis.del(key).await }).await
    }

    /// The address of each process, in the order of their ids; `None` for one that has published none.
    ///
    /// # Errors
    /// Redis's.
    pub async fn of(&self, processes: &[String]) -> Result<Vec<Option<String>>, RedisError> {
        // One command each, sent together: in a cluster they are on different servers.
        let asked = processes.iter().map(|process| async move {
            let key = &keys::process_address(process);
            self.client.at(key, |redis| async move { redis.get(key).await }).await
        });
        try_join_all(asked).await
    }
}
