//! The three servers together.

use std::path::Path;
use std::time::Instant;

use super::{MysqlServer, Process, RabbitServer, RedisServer};

/// The addresses of the servers.
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

/// What a user needs to open a server.
#[derive(Debug, Clone)]
pub struct ServerInfo {
    /// Such as `MySQL`.
    pub name: &'static str,
    /// Its address, with user and password.
    pub url: String,
    /// User and password in words.
    pub login: &'static str,
    /// A command line that opens it in a client, if one is known.
    pub command: Option<String>,
    /// Its process id.
    pub process: u32,
}

/// Schema of a private server.
const SCHEMA: &str = "im";

/// Where the phases of a start are reported, one line each.
pub(super) type Progress = fn(String);

impl Servers {
    /// Starts all three side by side with their data in `folder`, and creates an empty schema.
    ///
    /// # Errors
    /// The first that does not start, with the end of its log.
    pub async fn start(folder: &Path) -> anyhow::Result<Self> {
        Self::start_on(folder, false, |_| {}).await
    }

    /// As [`start`](Self::start); with MySQL's data on a [small disk](MysqlServer::start_on_small_disk) if wanted.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub(super) async fn start_on(
        folder: &Path,
        small_disk: bool,
        progress: Progress,
    ) -> anyhow::Result<Self> {
        // The servers have working folders of their own.
        let folder = std::path::absolute(folder)?;
        let (mysql, redis, rabbit) = (folder.join("mysql"), folder.join("redis"), folder.join("rabbitmq"));
        let mysql = async {
            match small_disk {
                true => MysqlServer::start_on_small_disk(&mysql).await,
                false => MysqlServer::start(&mysql).await,
            }
        };
        let (mysql, redis, rabbit) = tokio::try_join!(
            timed("MySQL", progress, mysql),
            timed("Redis", progress, RedisServer::start(&redis)),
            timed("RabbitMQ", progress, RabbitServer::start(&rabbit))
        )?;
        let create = format!("CREATE DATABASE IF NOT EXISTS {SCHEMA} DEFAULT CHARACTER SET utf8mb4");
        super::mysql::execute(&mysql.url(), create).await?;
        Ok(Self { mysql, redis, rabbit })
    }

    /// Their addresses.
    #[must_use]
    pub fn urls(&self) -> Urls {
        let mysql = format!("{}/{SCHEMA}", self.mysql.url());
        Urls { mysql, redis: self.redis.url(), amqp: self.rabbit.url() }
    }

    /// How to open each of them.
    #[must_use]
    pub fn infos(&self) -> Vec<ServerInfo> {
        let Urls { mysql, redis, amqp } = self.urls();
        let info = |name, url, login, command, process: Option<&Process>| {
            let process = process.map_or(0, Process::id);
            ServerInfo { name, url, login, command, process }
        };
        let mysql_command = Some(self.mysql.client_command(SCHEMA));
        let redis_command = Some(self.redis.client_command());
        vec![
            info("MySQL", mysql, "user root, no password", mysql_command, self.mysql.process()),
            info("Redis", redis, "no password", redis_command, self.redis.process()),
            info(
                "RabbitMQ",
                amqp,
                "user guest, password guest",
                self.rabbit.client_command(),
                self.rabbit.process(),
            ),
        ]
    }

    /// Stops all three.
    pub async fn stop(&mut self) {
        tokio::join!(self.rabbit.stop(), self.redis.stop(), self.mysql.stop());
    }
}

/// Reports how long a start took.
pub(super) async fn timed<T>(
    name: &str,
    progress: Progress,
    start: impl Future<Output = anyhow::Result<T>>,
) -> anyhow::Result<T> {
    let begin = Instant::now();
    let started = start.await?;
    progress(format!("{name} ready after {:.1} s", begin.elapsed().as_secs_f64()));
    Ok(started)
}
