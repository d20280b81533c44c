//! The three servers together.

use std::path::Path;

use super::{MysqlServer, RabbitServer, RedisServer};

/// Where the servers are.
#[derive(Debug, Clone)]
pub struct Urls {
    /// With the schema.
    pub mysql: String,
    /// With the database number, if it is not 0.
    pub redis: String,
    /// With the virtual host.
    pub amqp: String,
}

/// Private servers.
#[derive(Debug)]
pub struct Servers {
    /// MariaDB or MySQL.
    pub mysql: MysqlServer,
    /// Redis or Valkey.
    pub redis: RedisServer,
    /// RabbitMQ.
    pub rabbit: RabbitServer,
}

/// Schema of a private server.
const SCHEMA: &str = "im";

impl Servers {
    /// Starts all three side by side under `folder`, and makes an empty schema.
    ///
    /// # Errors
    /// The first that does not start, with the end of its log.
    pub async fn start(folder: &Path) -> anyhow::Result<Self> {
        Self::start_on(folder, false).await
    }

    /// As [`start`](Self::start); MySQL's data on a [small disk](MysqlServer::start_on_small_disk) if wanted.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub async fn start_on(folder: &Path, small_disk: bool) -> anyhow::Result<Self> {
        // The servers have working folders of their own.
        let folder = std::path::absolute(folder)?;
        let (mysql, redis, rabbit) = (folder.join("mysql"), folder.join("redis"), folder.join("rabbitmq"));
        let (mysql, redis, rabbit) = tokio::try_join!(
            async {
                match small_disk {
                    true => MysqlServer::start_on_small_disk(&mysql).await,
                    false => MysqlServer::start(&mysql).await,
                }
            },
            RedisServer::start(&redis),
            RabbitServer::start(&rabbit)
        )?;
        let make = format!("CREATE DATABASE IF NOT EXISTS {SCHEMA} DEFAULT CHARACTER SET utf8mb4");
        super::mysql::execute(&mysql.url(), make).await?;
        Ok(Self { mysql, redis, rabbit })
    }

    /// Their addresses.
    #[must_use]
    pub fn urls(&self) -> Urls {
        let mysql = format!("{}/{SCHEMA}", self.mysql.url());
        Urls { mysql, redis: self.redis.url(), amqp: self.rabbit.url() }
    }

    /// Stops all three in order.
    pub async fn stop(&mut self) {
        tokio::join!(self.rabbit.stop(), self.redis.stop(), self.mysql.stop());
    }
}
