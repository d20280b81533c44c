//! The three servers together.

use std::path::Path;
use std::time::Instant;

use super::{
    Balancer, MysqlServer, Process, RabbitServer, RabbitWires, RedisCluster, RedisSentinel, RedisServer,
    galera, rabbitmq_cluster, redis_cluster,
};

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
    /// Leads to one of the nodes of MySQL, if there are several.
    pub balancer: Option<Balancer>,
    /// MariaDB or MySQL.
    pub mysql: MysqlServer,
    /// The further nodes of MySQL.
    pub mysql_peers: Vec<MysqlServer>,
    /// They watch the servers of Redis, if there are several and no cluster.
    pub sentinels: Vec<RedisSentinel>,
    /// Redis or Valkey.
    pub redis: RedisServer,
    /// The further servers of Redis.
    pub redis_peers: Vec<RedisServer>,
    /// The wires between the nodes of RabbitMQ, if there are several.
    pub rabbit_wires: Option<RabbitWires>,
    /// The further nodes of a RabbitMQ cluster.
    pub rabbit_peers: Vec<RabbitServer>,
    /// RabbitMQ.
    pub rabbit: RabbitServer,
}

/// How servers are started.
#[derive(Debug, Clone)]
pub(super) struct ServerPlan {
    pub(super) mysql: MysqlKind,
    pub(super) redis: RedisKind,
    /// The number of nodes of RabbitMQ; more than one form a cluster.
    pub(super) rabbit_nodes: usize,
    /// Where the phases of the start are reported.
    pub(super) progress: Progress,
}

impl Default for ServerPlan {
    fn default() -> Self {
        Self { mysql: MysqlKind::Alone, redis: RedisKind::Alone, rabbit_nodes: 1, progress: |_| {} }
    }
}

/// How MySQL is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MysqlKind {
    /// One server.
    Alone,
    /// One server with its data on a small disk that can be filled.
    SmallDisk,
    /// Three nodes of MariaDB Galera, of which HAProxy chooses the one that is used.
    Balanced,
    /// Three nodes of MariaDB Galera. The address is that of the first one.
    Nodes,
}

/// How Redis is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RedisKind {
    /// One server.
    Alone,
    /// A master with two replicas, and three Sentinels.
    Sentinel,
    /// A cluster of three masters with a replica each.
    Cluster,
}

impl MysqlKind {
    async fn start(self, folder: &Path) -> anyhow::Result<(Option<Balancer>, Vec<MysqlServer>)> {
        let first = folder.join("mysql");
        Ok(match self {
            Self::Alone => (None, vec![MysqlServer::start(&first).await?]),
            Self::SmallDisk => (None, vec![MysqlServer::start_on_small_disk(&first).await?]),
            Self::Nodes => (None, galera::start_nodes(folder).await?),
            Self::Balanced => {
                let nodes = galera::start_nodes(folder).await?;
                (Some(Balancer::start(&folder.join("haproxy"), &nodes).await?), nodes)
            }
        })
    }
}

impl RedisKind {
    async fn start(self, folder: &Path) -> anyhow::Result<(Vec<RedisServer>, Vec<RedisSentinel>)> {
        match self {
            Self::Alone => Ok((vec![RedisServer::start(&folder.join("redis")).await?], Vec::new())),
            Self::Sentinel => RedisSentinel::start_all(folder).await,
            Self::Cluster => Ok((RedisCluster::start(folder).await?.into_nodes(), Vec::new())),
        }
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
        Box::pin(Self::start_as(folder, &ServerPlan::default())).await
    }

    /// As [`start`](Self::start), as `plan` says.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub(super) async fn start_as(folder: &Path, plan: &ServerPlan) -> anyhow::Result<Self> {
        let progress = plan.progress;
        // The servers have working folders of their own.
        let folder = std::path::absolute(folder)?;
        let (mysql, redis, rabbit) = tokio::try_join!(
            timed("MySQL", progress, plan.mysql.start(&folder)),
            timed("Redis", progress, plan.redis.start(&folder)),
            timed("RabbitMQ", progress, rabbitmq_cluster::start_nodes(&folder, plan.rabbit_nodes))
        )?;
        let (balancer, mut mysql_peers) = mysql;
        let (mut redis_peers, sentinels) = redis;
        let (rabbit, rabbit_peers, rabbit_wires) = rabbit;
        let (mysql, redis) = (mysql_peers.remove(0), redis_peers.remove(0));
        let create = format!("CREATE DATABASE IF NOT EXISTS {SCHEMA} DEFAULT CHARACTER SET utf8mb4");
        super::mysql::execute(&mysql.url(), create).await?;
        Ok(Self {
            balancer,
            mysql,
            mysql_peers,
            sentinels,
            redis,
            redis_peers,
            rabbit_wires,
            rabbit_peers,
            rabbit,
        })
    }

    /// Their addresses.
    #[must_use]
    pub fn urls(&self) -> Urls {
        let port = self.balancer.as_ref().map_or(self.mysql.port(), Balancer::port);
        let mysql = format!("mysql://root@127.0.0.1:{port}/{SCHEMA}");
        let redis_nodes: Vec<&RedisServer> = std::iter::once(&self.redis).chain(&self.redis_peers).collect();
        let redis = match (&self.sentinels[..], &redis_nodes[..]) {
            ([], [one]) => one.url(),
            ([], nodes) => redis_cluster::url(nodes),
            (sentinels, _) => RedisSentinel::url(sentinels),
        };
        let rabbit_nodes = std::iter::once(&self.rabbit).chain(&self.rabbit_peers);
        let amqp: Vec<String> = rabbit_nodes.map(RabbitServer::url).collect();
        Urls { mysql, redis, amqp: amqp.join(",") }
    }

    /// All nodes of RabbitMQ.
    pub fn rabbit_nodes(&mut self) -> impl Iterator<Item = &mut RabbitServer> {
        std::iter::once(&mut self.rabbit).chain(&mut self.rabbit_peers)
    }

    /// All nodes of MySQL.
    pub fn mysql_nodes(&mut self) -> impl Iterator<Item = &mut MysqlServer> {
        std::iter::once(&mut self.mysql).chain(&mut self.mysql_peers)
    }

    /// All servers of Redis.
    pub fn redis_nodes(&mut self) -> impl Iterator<Item = &mut RedisServer> {
        std::iter::once(&mut self.redis).chain(&mut self.redis_peers)
    }

    /// Moves `count` slots of a Redis Cluster from one node to another, as an operator does, and returns when they have
    /// moved.
    ///
    /// # Errors
    /// What `redis-cli` says.
    pub async fn move_redis_slots(&self, from: usize, to: usize, count: usize) -> anyhow::Result<()> {
        let nodes: Vec<&RedisServer> = std::iter::once(&self.redis).chain(&self.redis_peers).collect();
        redis_cluster::move_slots(nodes[from], nodes[to], count).await
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
        let redis = async {
            for server in self.redis_peers.iter_mut().chain([&mut self.redis]) {
                server.stop().await;
            }
        };
        let mysql = async {
            for node in self.mysql_peers.iter_mut().chain([&mut self.mysql]) {
                node.stop().await;
            }
        };
        tokio::join!(rabbit, redis, mysql);
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
