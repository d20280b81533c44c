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
    /// With the virtual host; the nodes of a cluster with commas between them.
    pub amqp: String,
}

/// Private servers.
#[derive(Debug)]
pub struct Servers {
    /// MariaDB or MySQL.
    pub mysql: MysqlServer,
    /// Redis or Valkey.
    pub redis: RedisServer,
    /// The further nodes of a RabbitMQ cluster. Declared before the first node, whose port mapper they use.
    pub rabbit_peers: Vec<RabbitServer>,
    /// RabbitMQ.
    pub rabbit: RabbitServer,
}

/// How servers are started.
#[derive(Debug, Clone)]
pub(super) struct ServerPlan {
    /// With MySQL's data on a small disk that can be filled.
    pub(super) small_disk: bool,
    /// The number of nodes of RabbitMQ; more than one form a cluster.
    pub(super) rabbit_nodes: usize,
    /// Where the phases of the start are reported.
    pub(super) progress: Progress,
}

impl Default for ServerPlan {
    fn default() -> Self {
        Self { small_disk: false, rabbit_nodes: 1, progress: |_| {} }
    }
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
        Self::start_as(folder, &ServerPlan::default()).await
    }

    /// As [`start`](Self::start), as `plan` says.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub(super) async fn start_as(folder: &Path, plan: &ServerPlan) -> anyhow::Result<Self> {
        let progress = plan.progress;
        // The servers have working folders of their own.
        let folder = std::path::absolute(folder)?;
        let (mysql, redis, rabbit) = (folder.join("mysql"), folder.join("redis"), folder.join("rabbitmq"));
        let mysql = async {
            match plan.small_disk {
                true => MysqlServer::start_on_small_disk(&mysql).await,
                false => MysqlServer::start(&mysql).await,
            }
        };
        let rabbit_nodes = async {
            let first = RabbitServer::start(&rabbit).await?;
            let mut peers = Vec::new();
            for number in 2..=plan.rabbit_nodes {
                let folder = folder.join(format!("rabbitmq-{number}"));
                peers.push(first.start_peer(&folder, number).await?);
            }
            Ok((first, peers))
        };
        let (mysql, redis, (rabbit, rabbit_peers)) = tokio::try_join!(
            timed("MySQL", progress, mysql),
            timed("Redis", progress, RedisServer::start(&redis)),
            timed("RabbitMQ", progress, rabbit_nodes)
        )?;
        let create = format!("CREATE DATABASE IF NOT EXISTS {SCHEMA} DEFAULT CHARACTER SET utf8mb4");
        super::mysql::execute(&mysql.url(), create).await?;
        Ok(Self { mysql, redis, rabbit_peers, rabbit })
    }

    /// Their addresses.
    #[must_use]
    pub fn urls(&self) -> Urls {
        let mysql = format!("{}/{SCHEMA}", self.mysql.url());
        let rabbit_nodes = std::iter::once(&self.rabbit).chain(&self.rabbit_peers);
        let amqp: Vec<String> = rabbit_nodes.map(RabbitServer::url).collect();
        Urls { mysql, redis: self.redis.url(), amqp: amqp.join(",") }
    }

    /// All nodes of RabbitMQ.
    pub fn rabbit_nodes(&mut self) -> impl Iterator<Item = &mut RabbitServer> {
        std::iter::once(&mut self.rabbit).chain(&mut self.rabbit_peers)
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
        let rabbit = async {
            for node in self.rabbit_peers.iter_mut().chain([&mut self.rabbit]) {
                node.stop().await;
            }
        };
        tokio::join!(rabbit, self.redis.stop(), self.mysql.stop());
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
