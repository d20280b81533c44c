//! MariaDB Galera: three nodes that commit together, and HAProxy in front of them, which leads all connections to one.
//!
//! Both are started from the files in `deploy/clusters/galera`.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::Context as _;
use sqlx::{AssertSqlSafe, Executor as _, MySqlConnection, Row as _};
use tokio::net::TcpStream;

use super::engines::Program;
use super::process::Process;
use super::{MysqlServer, free_port, wait_for};

/// The configuration of a node, whose addresses are replaced by arguments.
const CONFIGURATION: &str = include_str!("../../../deploy/clusters/galera/galera.cnf");
const BALANCER: &str = include_str!("../../../deploy/clusters/galera/haproxy.cfg");
const CHECK: &str = include_str!("../../../deploy/clusters/galera/galera-is-writable");
/// Where the check is in [`BALANCER`].
const CHECK_PATH: &str = "/etc/haproxy/galera-is-writable";

const NODES: usize = 3;
const START_TIMEOUT: Duration = Duration::from_secs(30);

/// What a node of a test has beside [`CONFIGURATION`]: in the file, because the program that copies the data of a node gets all
/// arguments of the server, and does not know these.
const SIZES: &str = "innodb_buffer_pool_size = 256M\nmax_connections = 500\n[sst]\ntransferfmt = socat\n";

pub(super) fn configuration() -> String {
    format!("{CONFIGURATION}{SIZES}")
}

/// The ports by which one node talks to others.
#[derive(Debug, Clone)]
pub(super) struct GaleraNode {
    number: usize,
    /// It makes the cluster at its next start; the others join.
    pub(super) is_first: bool,
    /// Of the group communication of all nodes, in their order.
    ports: Vec<u16>,
    /// Where it receives what it missed: writes, or everything.
    missed_ports: [u16; 2],
}

impl GaleraNode {
    pub(super) fn set_up(&self, command: &mut Command) {
        let all: Vec<String> = self.ports.iter().map(|port| format!("127.0.0.1:{port}")).collect();
        let own = &all[self.number];
        let [writes, everything] = self.missed_ports;
        command
            .arg(format!("--wsrep-cluster-address=gcomm://{}", all.join(",")))
            .arg(format!("--wsrep-node-name=db{}", self.number + 1))
            .arg("--wsrep-node-address=127.0.0.1")
            // Servers of tests have no other user.
            .arg("--wsrep-sst-auth=root:")
            .arg(format!("--wsrep-sst-receive-address=127.0.0.1:{everything}"))
            .arg(format!(
                "--wsrep-provider-options=base_port={};gmcast.listen_addr=tcp://{own};ist.recv_addr=127.0.0.1:{writes};\
                 gcache.size=64M",
                self.ports[self.number]
            ));
        if self.is_first {
            command.arg("--wsrep-new-cluster");
        }
    }
}

async fn status(connection: &mut MySqlConnection, name: &str) -> anyhow::Result<String> {
    let row = connection.fetch_one(AssertSqlSafe(format!("SHOW STATUS LIKE 'wsrep_{name}'"))).await?;
    Ok(row.try_get(1)?)
}

/// The number of nodes in the cluster, as one of them sees it.
pub(super) async fn cluster_size(connection: &mut MySqlConnection) -> anyhow::Result<u32> {
    Ok(status(connection, "cluster_size").await?.parse()?)
}

/// Whether a node has joined, and has all transactions.
pub(super) async fn must_be_synced(connection: &mut MySqlConnection) -> anyhow::Result<()> {
    let state = status(connection, "local_state_comment").await?;
    anyhow::ensure!(state == "Synced", "its state is {state}");
    Ok(())
}

/// Starts three nodes with their data in subfolders of `folder`.
pub(super) async fn start_nodes(folder: &Path) -> anyhow::Result<Vec<MysqlServer>> {
    let ports = (0..NODES).map(|_| free_port()).collect::<Result<Vec<_>, _>>()?;
    let mut nodes = Vec::new();
    for number in 0..NODES {
        let (ports, missed_ports) = (ports.clone(), [free_port()?, free_port()?]);
        let node = GaleraNode { number, is_first: number == 0, ports, missed_ports };
        let folder = folder.join(format!("mysql-{}", number + 1));
        // One by one: the others copy their data from those that run.
        nodes.push(MysqlServer::start_galera_node(&folder, node).await?);
    }
    Ok(nodes)
}

/// HAProxy in front of the nodes.
#[derive(Debug)]
pub struct Balancer {
    process: Process,
    port: u16,
}

impl Balancer {
    /// Starts it with its files in `folder`, and waits until it leads to a node.
    pub(super) async fn start(folder: &Path, nodes: &[MysqlServer]) -> anyhow::Result<Self> {
        std::fs::create_dir_all(folder)?;
        let (port, check, file) = (free_port()?, folder.join("is-writable"), folder.join("haproxy.cfg"));
        std::fs::write(&check, CHECK)?;
        std::fs::set_permissions(&check, std::fs::Permissions::from_mode(0o755))?;
        let mut text = BALANCER.replace(CHECK_PATH, &check.display().to_string());
        text = text.replace("127.0.0.1:3307", &format!("127.0.0.1:{port}"));
        for (n, node) in nodes.iter().enumerate() {
            let written = format!("10.0.0.3{}:3306", n + 1);
            anyhow::ensure!(text.contains(&written), "haproxy.cfg has no server {written}");
            text = text.replace(&written, &format!("127.0.0.1:{}", node.port()));
        }
        std::fs::write(&file, text)?;
        let first = nodes.first().context("there is no node")?;
        first.execute("CREATE USER IF NOT EXISTS im_check@'%'").await?;
        let program = Program::find(&["haproxy"]).context("haproxy is not installed")?;
        let mut process = program.start("HAProxy", &folder.join("haproxy.log"), folder, |command| {
            command.arg("-f").arg(&file);
        })?;
        wait_for("HAProxy", START_TIMEOUT, async || {
            process.must_run()?;
            TcpStream::connect(("127.0.0.1", port)).await?;
            let url = format!("mysql://root@127.0.0.1:{port}");
            super::mysql::execute(&url, "SELECT 1".to_owned()).await
        })
        .await?;
        Ok(Self { process, port })
    }

    /// The port that leads to the node that is written to.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its process.
    #[must_use]
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// The node, of `nodes`, to which it leads now.
    ///
    /// # Errors
    /// If it leads to none.
    pub async fn writer(&self, nodes: &[&MysqlServer]) -> anyhow::Result<usize> {
        let port = super::mysql::port_of_server(&format!("mysql://root@127.0.0.1:{}", self.port)).await?;
        nodes.iter().position(|node| node.port() == port).context("it leads to none of the nodes")
    }
}
