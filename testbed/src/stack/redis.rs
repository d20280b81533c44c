//! A private Redis.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::engines::Program;
use super::process::Process;
use super::{ServerTls, free_port, wait_for};

const START_TIMEOUT: Duration = Duration::from_secs(30);
const STOP_TIMEOUT: Duration = Duration::from_secs(10);

/// A server with an append-only file in a folder of its own.
#[derive(Debug)]
pub struct RedisServer {
    process: Option<Process>,
    folder: PathBuf,
    port: u16,
    role: Role,
    tls: Option<(u16, Box<ServerTls>)>,
}

/// What a server is beside others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Alone,
    /// The master or a replica behind Sentinel.
    BehindSentinel,
    /// A node of a cluster, with the port where it talks to other nodes.
    ClusterNode(u16),
}

impl Role {
    /// The file in `deploy/clusters` from which such a server is started.
    fn configuration(self) -> Option<&'static str> {
        match self {
            Self::Alone => None,
            Self::BehindSentinel => Some(include_str!("../../../deploy/clusters/redis-sentinel/redis.conf")),
            Self::ClusterNode(_) => Some(include_str!("../../../deploy/clusters/redis-cluster/redis.conf")),
        }
    }
}

impl RedisServer {
    /// Starts it on the data in `folder`, or empty, and waits until it answers.
    ///
    /// # Errors
    /// With the end of its log.
    pub async fn start(folder: &Path) -> anyhow::Result<Self> {
        Self::start_on(folder, Role::Alone, None).await
    }

    /// As [`start`](Self::start), with TLS at a second port.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub async fn start_with_tls(folder: &Path, tls: ServerTls) -> anyhow::Result<Self> {
        Self::start_on(folder, Role::Alone, Some((free_port()?, Box::new(tls)))).await
    }

    /// Starts a node of a cluster that it is not part of yet.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub(super) async fn start_cluster_node(folder: &Path) -> anyhow::Result<Self> {
        Self::start_on(folder, Role::ClusterNode(free_port()?), None).await
    }

    /// Starts a server that is to be monitored by Sentinel: a master.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub(super) async fn start_behind_sentinel(folder: &Path) -> anyhow::Result<Self> {
        Self::start_on(folder, Role::BehindSentinel, None).await
    }

    async fn start_on(folder: &Path, role: Role, tls: Option<(u16, Box<ServerTls>)>) -> anyhow::Result<Self> {
        let (folder, port) = (folder.to_owned(), free_port()?);
        let mut server = Self { process: None, folder, port, role, tls };
        server.start_again().await?;
        Ok(server)
    }

    /// Starts it again on the same port after [`kill`](Self::kill).
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub async fn start_again(&mut self) -> anyhow::Result<()> {
        std::fs::create_dir_all(self.folder.join("data"))?;
        let program = Program::find(&["redis-server", "valkey-server"]);
        let program = program.context("neither redis-server nor valkey-server is installed")?;
        let file = self.folder.join("redis.conf");
        if let Some(configuration) = self.role.configuration() {
            std::fs::write(&file, configuration)?;
        }
        let process = program.start("Redis", &self.folder.join("server.log"), &self.folder, |command| {
            if self.role != Role::Alone {
                // Must be the first argument; the others replace what it says.
                command.arg(&file);
            }
            command.args(["--port", &self.port.to_string(), "--bind", "127.0.0.1"]);
            command.arg("--dir").arg(self.folder.join("data"));
            command.args(["--appendonly", "yes", "--appendfsync", "everysec", "--save", ""]);
            command.args(["--maxmemory-policy", "noeviction"]);
            if let Role::ClusterNode(port) = self.role {
                command.args(["--cluster-port", &port.to_string()]);
            }
            if let Some((port, tls)) = &self.tls {
                let names = ["--tls-ca-cert-file", "--tls-cert-file", "--tls-key-file"];
                tls.named(names).into_iter().for_each(|(name, file)| {
                    command.args([name, &file]);
                });
                let asks = if tls.asks_clients { "yes" } else { "no" };
                command.args(["--tls-port", &port.to_string(), "--tls-auth-clients", asks]);
            }
        })?;
        let process = self.process.insert(process);
        wait_for("Redis", START_TIMEOUT, async || {
            process.must_run()?;
            ping(self.port).await
        })
        .await
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// Sends one command, whose answer must not be an error, and returns the answer as the protocol has it, up to 4 KiB. For
    /// arguments without blanks.
    ///
    /// # Errors
    /// The error that the server answers.
    pub async fn command(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).await?;
        stream.write_all(format!("{}\r\n", arguments.join(" ")).as_bytes()).await?;
        let mut answer = [0; 4_096];
        let length = stream.read(&mut answer).await?;
        let answer = String::from_utf8_lossy(&answer[..length]);
        anyhow::ensure!(!answer.is_empty() && !answer.starts_with('-'), "{arguments:?}: {answer}");
        Ok(answer.into_owned())
    }

    /// Whether it is a master, or a replica that has all that its master has.
    ///
    /// # Errors
    /// If it is a replica that is behind.
    pub async fn must_be_current(&self) -> anyhow::Result<()> {
        let role = self.command(&["ROLE"]).await?;
        anyhow::ensure!(role.contains("master") || role.contains("connected"), "{role}");
        Ok(())
    }

    pub(super) fn bus_port(&self) -> Option<u16> {
        match self.role {
            Role::ClusterNode(port) => Some(port),
            Role::Alone | Role::BehindSentinel => None,
        }
    }

    /// The port that it listens on.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Removes all data, as if the server was replaced. Only after [`kill`](Self::kill).
    ///
    /// # Errors
    /// If the files cannot be removed.
    pub fn lose_data(&mut self) -> anyhow::Result<()> {
        anyhow::ensure!(self.process.is_none(), "kill it first");
        Ok(std::fs::remove_dir_all(self.folder.join("data"))?)
    }

    /// Copies the data that are on disk now, for [`restore_snapshot`](Self::restore_snapshot).
    ///
    /// # Errors
    /// If the files cannot be copied.
    pub fn take_snapshot(&self) -> anyhow::Result<()> {
        copy_folder(&self.folder.join("data"), &self.folder.join("snapshot"))
    }

    /// Replaces the data by those of the snapshot, as after a disk lost its last writes, or a failover to a replica that
    /// was behind. Only after [`kill`](Self::kill).
    ///
    /// # Errors
    /// If the files cannot be copied.
    pub fn restore_snapshot(&mut self) -> anyhow::Result<()> {
        self.lose_data()?;
        copy_folder(&self.folder.join("snapshot"), &self.folder.join("data"))
    }

    /// The process, unless it was killed or stopped.
    #[must_use]
    pub fn process(&self) -> Option<&Process> {
        self.process.as_ref()
    }

    pub(super) fn process_mut(&mut self) -> Option<&mut Process> {
        self.process.as_mut()
    }

    /// SIGTERM, and waits for the end.
    pub async fn stop(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.terminate(STOP_TIMEOUT).await;
        }
    }

    /// Its address.
    #[must_use]
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Its address with TLS.
    #[must_use]
    pub fn tls_url(&self) -> Option<String> {
        self.tls.as_ref().map(|(port, _)| format!("rediss://127.0.0.1:{port}"))
    }

    /// A command line that opens it in a client.
    #[must_use]
    pub fn client_command(&self) -> String {
        format!("redis-cli -h 127.0.0.1 -p {}", self.port)
    }
}

async fn ping(port: u16) -> anyhow::Result<()> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
    stream.write_all(b"PING\r\n").await?;
    let mut answer = [0; 7];
    stream.read_exact(&mut answer).await?;
    anyhow::ensure!(answer.starts_with(b"+PONG"), "it answered {}", String::from_utf8_lossy(&answer));
    Ok(())
}

fn copy_folder(from: &Path, to: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_folder(&entry.path(), &target)?;
        } else {
            std::fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}
