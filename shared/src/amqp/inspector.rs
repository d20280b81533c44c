//! A connection for the operator's tools: it declares nothing, consumes nothing, and is not restored.

use std::time::Duration;

use lapin::{Channel, Connection};
use tokio::time::timeout;

use super::Topology;
use super::addresses::Addresses;
use super::broker::BrokerError;
use super::management::Management;
use super::topology::{Removal, has_other_arguments, is_not_found};
use crate::config::{Amqp, ConfigError};
use crate::shard::ShardId;

/// Longest wait for each answer.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Why RabbitMQ gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum InspectError {
    /// A setting is invalid.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The server cannot be reached, or refuses.
    #[error("RabbitMQ at {url} (amqp.url): {source}")]
    Broker {
        /// Its address, without credentials.
        url: String,
        /// The failure.
        source: BrokerError,
    },
    /// A queue has arguments that no version declares: no process can start.
    #[error("RabbitMQ at {url} (amqp.url): queue {queue} has other arguments: {source}")]
    OtherArguments {
        /// Its address, without credentials.
        url: String,
        /// The queue.
        queue: String,
        /// What the server says.
        source: lapin::Error,
    },
}

/// A work queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueState {
    /// Bodies (batches of up to 256 messages) that wait for a consumer.
    pub ready_bodies: u32,
    /// Consumers; one of them is active.
    pub consumers: u32,
}

/// A connection for one question of an operator.
#[derive(Debug)]
pub struct Inspector {
    connection: Connection,
    topology: Topology,
    url: String,
}

impl Inspector {
    /// Connects. `name` is shown in RabbitMQ's management.
    ///
    /// # Errors
    /// [`InspectError`], after 5 s at the latest.
    pub async fn open(settings: &Amqp, topology: Topology, name: &str) -> Result<Self, InspectError> {
        let url = settings.url.to_string();
        match Addresses::new(settings)?.connect(name, TIMEOUT).await {
            Ok(connection) => Ok(Self { connection, topology, url }),
            Err(source) => Err(InspectError::Broker { url, source: source.into() }),
        }
    }

    /// The state of a shard's queue; `None` if there is no such queue.
    ///
    /// # Errors
    /// [`InspectError`]
    pub async fn shard_queue(&self, shard: ShardId) -> Result<Option<QueueState>, InspectError> {
        let asked = async |channel: &Channel| self.topology.inspect_shard_queue(channel, shard).await;
        let state = self.ask(asked).await?;
        Ok(state.map(|(ready_bodies, consumers)| QueueState { ready_bodies, consumers }))
    }

    /// The number of dead letters; `None` if there is no dead-letter queue: no worker was ever started on this broker.
    ///
    /// # Errors
    /// [`InspectError`]
    pub async fn dead_letters(&self) -> Result<Option<u32>, InspectError> {
        self.ask(async |channel: &Channel| self.topology.dead_letters(channel).await).await
    }

    /// Checks that a process could declare the queues that exist: that they have arguments of this version or an earlier
    /// one. Queues that do not exist are not declared; their names are returned.
    ///
    /// # Errors
    /// [`InspectError`]
    pub async fn check_queues(&self) -> Result<Vec<String>, InspectError> {
        let mut missing = Vec::new();
        for queue in self.topology.queues() {
            let exists =
                self.ask(async |channel: &Channel| self.topology.inspect(channel, queue.clone()).await);
            if exists.await?.is_none() {
                missing.push(queue.to_string());
                continue;
            }
            let name = queue.to_string();
            let declared = bounded(self.topology.declare_existing(&self.connection, queue)).await;
            declared.map_err(|error| match error {
                BrokerError::Lapin(source) if has_other_arguments(&source) => {
                    InspectError::OtherArguments { url: self.url.clone(), queue: name, source }
                }
                source => self.error(source),
            })?;
        }
        Ok(missing)
    }

    /// Declares all durable exchanges and queues, as a process does when it starts.
    ///
    /// # Errors
    /// [`InspectError`]
    pub async fn declare(&self) -> Result<(), InspectError> {
        bounded(self.topology.declare(&self.connection)).await.map_err(|source| self.error(source))
    }

    /// Removes the queue of a shard that no process publishes to or consumes, if it is empty.
    ///
    /// # Errors
    /// [`InspectError`]
    pub async fn remove(&self, shard: ShardId) -> Result<Removal, InspectError> {
        let asked = async |channel: &Channel| self.topology.remove_shard_queue(channel, shard).await;
        Ok(self.ask(asked).await?.unwrap_or(Removal::Gone))
    }

    /// Asks on a channel of its own, because an answer that something does not exist closes the channel.
    async fn ask<T>(
        &self,
        question: impl AsyncFnOnce(&Channel) -> lapin::Result<T>,
    ) -> Result<Option<T>, InspectError> {
        let asked = async {
            let channel = self.connection.create_channel().await?;
            match question(&channel).await {
                Ok(answer) => {
                    // The answer is there: an error while closing has no effect.
                    let _ = channel.close(200, "asked".into()).await;
                    Ok(Some(answer))
                }
                Err(error) if is_not_found(&error) => Ok(None),
                Err(error) => Err(error),
            }
        };
        bounded(asked).await.map_err(|source| self.error(source))
    }

    fn error(&self, source: BrokerError) -> InspectError {
        InspectError::Broker { url: self.url.clone(), source }
    }

    /// Closes the connection, and waits at most 5 s for that.
    pub async fn close(self) {
        let _ = bounded(self.connection.close(200, "bye".into())).await;
    }
}

/// The version of RabbitMQ as its management API says it; `None` if `amqp.management_url` is not set.
///
/// # Errors
/// Why the API does not say it.
pub async fn server_version(settings: &Amqp) -> Result<Option<String>, String> {
    let Some(management) = Management::new(settings).map_err(|error| error.to_string())? else {
        return Ok(None);
    };
    management.version().await.map(Some).map_err(|error| format!("amqp.management_url: {error}"))
}

async fn bounded<T>(asked: impl Future<Output = lapin::Result<T>>) -> Result<T, BrokerError> {
    Ok(timeout(TIMEOUT, asked).await.map_err(|_| BrokerError::Timeout)??)
}
