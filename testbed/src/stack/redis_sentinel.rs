//! Redis behind Sentinel: a master, two replicas, and three Sentinels that replace the master.
//!
//! All are started from the files in `deploy/clusters/redis-sentinel`.

use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::engines::Program;
use super::process::Process;
use super::{RedisServer, free_port, wait_for};

const CONFIGURATION: &str = include_str!("../../../deploy/clusters/redis-sentinel/sentinel.conf");
/// The address of the master in [`CONFIGURATION`], which is replaced.
const MASTER: &str = "10.0.0.21 6379";
/// The name of the master there.
const NAME: &str = "im";

const REPLICAS: usize = 2;
const SENTINELS: usize = 3;
const START_TIMEOUT: Duration = Duration::from_secs(30);
/// Sentinels learn of each other, and of replicas, from what they publish at the master every two seconds, and from its
/// `INFO` every ten.
const DISCOVERY_TIMEOUT: Duration = Duration::from_secs(40);

/// One of the processes that watch the master.
#[derive(Debug)]
pub struct RedisSentinel {
    process: Process,
    port: u16,
}

impl RedisSentinel {
    /// Starts a master and two replicas with their data in subfolders of `folder`, and three Sentinels that know all of them.
    /// The first server is the master.
    ///
    /// # Errors
    /// If one does not start, or they do not find each other.
    pub async fn start_all(folder: &Path) -> anyhow::Result<(Vec<RedisServer>, Vec<Self>)> {
        start(folder).await
    }

    /// The address of the master that `sentinels` watch.
    #[must_use]
    pub fn url(sentinels: &[Self]) -> String {
        let others = sentinels[1..].iter().map(|sentinel| format!("&node=127.0.0.1:{}", sentinel.port));
        let others = others.collect::<String>();
        format!("redis-sentinel://127.0.0.1:{}?sentinelServiceName={NAME}{others}", sentinels[0].port)
    }

    async fn start(folder: &Path, master: &RedisServer) -> anyhow::Result<Self> {
        std::fs::create_dir_all(folder)?;
        let (port, file) = (free_port()?, folder.join("sentinel.conf"));
        anyhow::ensure!(CONFIGURATION.contains(MASTER), "sentinel.conf does not monitor {MASTER}");
        let own = CONFIGURATION
            .replace(MASTER, &format!("127.0.0.1 {}", master.port()))
            .replace("port 26379", &format!("port {port}\nbind 127.0.0.1\ndir {}", folder.display()));
        std::fs::write(&file, own)?;
        let program = Program::find(&["redis-server", "valkey-server"]);
        let program = program.context("neither redis-server nor valkey-server is installed")?;
        let mut process = program.start("Sentinel", &folder.join("server.log"), folder, |command| {
            command.arg(&file).arg("--sentinel");
        })?;
        wait_for("Sentinel", START_TIMEOUT, async || {
            process.must_run()?;
            TcpStream::connect(("127.0.0.1", port)).await?;
            Ok(())
        })
        .await?;
        Ok(Self { process, port })
    }

    /// The port that it listens on.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its process.
    #[must_use]
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// The port of the present master.
    ///
    /// # Errors
    /// If it does not answer.
    pub async fn master(&self) -> anyhow::Result<u16> {
        let answer = self.command(&format!("SENTINEL GET-MASTER-ADDR-BY-NAME {NAME}")).await?;
        Ok(answer.lines().nth(4).context("it names no master")?.parse()?)
    }

    /// Makes a replica the master, as an operator does before the master is stopped.
    ///
    /// # Errors
    /// If no replica is suitable.
    pub async fn fail_over(&self) -> anyhow::Result<()> {
        self.command(&format!("SENTINEL FAILOVER {NAME}")).await.map(drop)
    }

    async fn command(&self, text: &str) -> anyhow::Result<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).await?;
        stream.write_all(format!("{text}\r\n").as_bytes()).await?;
        let mut answer = [0; 4_096];
        let length = stream.read(&mut answer).await?;
        let answer = String::from_utf8_lossy(&answer[..length]);
        anyhow::ensure!(!answer.is_empty() && !answer.starts_with('-'), "{text}: {answer}");
        Ok(answer.into_owned())
    }
}

/// Starts a master and its replicas with their data in subfolders of `folder`, and Sentinels that know all of them. The
/// first server is the master.
async fn start(folder: &Path) -> anyhow::Result<(Vec<RedisServer>, Vec<RedisSentinel>)> {
    let servers = (0..=REPLICAS).map(|n| {
        let folder = folder.join(format!("redis-{n}"));
        async move { RedisServer::start_behind_sentinel(&folder).await }
    });
    let servers = futures_util::future::try_join_all(servers).await?;
    for replica in &servers[1..] {
        replica.command(&["REPLICAOF", "127.0.0.1", &servers[0].port().to_string()]).await?;
    }
    wait_for("the replicas of Redis", DISCOVERY_TIMEOUT, async || {
        let info = servers[0].command(&["INFO", "replication"]).await?;
        let online = info.matches("state=online").count();
        anyhow::ensure!(online == REPLICAS, "{online} are online");
        Ok(())
    })
    .await?;
    let mut sentinels = Vec::new();
    for n in 0..SENTINELS {
        sentinels.push(RedisSentinel::start(&folder.join(format!("sentinel-{n}")), &servers[0]).await?);
    }
    for sentinel in &sentinels {
        wait_for("Sentinels that know each other", DISCOVERY_TIMEOUT, async || {
            let master = sentinel.command(&format!("SENTINEL MASTER {NAME}")).await?;
            let count =
                |name: &str| master.lines().skip_while(|line| *line != name).nth(2).map(str::to_owned);
            let known = (count("num-other-sentinels"), count("num-slaves"));
            let all = (Some((SENTINELS - 1).to_string()), Some(REPLICAS.to_string()));
            anyhow::ensure!(known == all, "{known:?}");
            Ok(())
        })
        .await?;
    }
    Ok((servers, sentinels))
}
