//! A private Redis Cluster.

use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;

use super::engines::Program;
use super::{RedisServer, wait_for};

/// Masters, each with one replica and a third of the slots: the fewest that can elect a new master.
const MASTERS: usize = 3;
/// Slots of a Redis Cluster, as its specification says.
const SLOTS: usize = 16_384;
const FORM_TIMEOUT: Duration = Duration::from_secs(60);
/// For all nodes to hear of a change; they talk to each other every second.
const AGREE_TIMEOUT: Duration = Duration::from_secs(30);
/// The end of what `redis-cli` says, if it fails.
const SAID_LINES: usize = 5;

/// Three masters with a replica each. A replica takes over some four seconds after its master is killed.
#[derive(Debug)]
pub struct RedisCluster {
    /// The masters, then their replicas in the same order.
    nodes: Vec<RedisServer>,
}

impl RedisCluster {
    /// Starts the nodes with their data in `folder`, and waits until all slots are served and replicated.
    ///
    /// # Errors
    /// With the end of a node's log, or if they do not form a cluster.
    pub async fn start(folder: &Path) -> anyhow::Result<Self> {
        let nodes = (0..2 * MASTERS).map(|n| {
            let folder = folder.join(format!("redis-{n}"));
            async move { RedisServer::start_cluster_node(&folder).await }
        });
        let nodes = futures_util::future::try_join_all(nodes).await?;
        let cluster = Self { nodes };
        cluster.form().await?;
        Ok(cluster)
    }

    async fn form(&self) -> anyhow::Result<()> {
        for (n, master) in self.nodes[..MASTERS].iter().enumerate() {
            let (first, next) = (n * SLOTS / MASTERS, (n + 1) * SLOTS / MASTERS);
            master
                .command(&["CLUSTER", "ADDSLOTSRANGE", &first.to_string(), &(next - 1).to_string()])
                .await?;
        }
        for (n, node) in self.nodes.iter().enumerate() {
            node.command(&["CLUSTER", "SET-CONFIG-EPOCH", &(n + 1).to_string()]).await?;
        }
        for node in &self.nodes[1..] {
            let (port, bus) = (node.port().to_string(), node.bus_port().context("it has a bus")?.to_string());
            self.nodes[0].command(&["CLUSTER", "MEET", "127.0.0.1", &port, &bus]).await?;
        }
        for (master, replica) in self.nodes[..MASTERS].iter().zip(&self.nodes[MASTERS..]) {
            let id = master.command(&["CLUSTER", "MYID"]).await?;
            let id = id.lines().nth(1).context("a node has an id")?.to_owned();
            // A node can be named once it is known.
            wait_for("a replica of each master", FORM_TIMEOUT, async || {
                replica.command(&["CLUSTER", "REPLICATE", &id]).await.map(drop)
            })
            .await?;
        }
        for node in &self.nodes {
            wait_for("the Redis Cluster", FORM_TIMEOUT, async || {
                let info = node.command(&["CLUSTER", "INFO"]).await?;
                // A node that knows no others is content with its own slots.
                let complete = [
                    "cluster_state:ok".to_owned(),
                    format!("cluster_slots_ok:{SLOTS}\r"),
                    format!("cluster_known_nodes:{}\r", 2 * MASTERS),
                    format!("cluster_size:{MASTERS}\r"),
                ];
                anyhow::ensure!(complete.iter().all(|line| info.contains(line)), "{info}");
                node.must_be_current().await
            })
            .await?;
        }
        Ok(())
    }

    /// The nodes, in the order of [`node`](Self::node).
    pub(super) fn into_nodes(self) -> Vec<RedisServer> {
        self.nodes
    }

    /// The address of one node, as one would write it who knows only one.
    #[must_use]
    pub fn url_of(&self, node: usize) -> String {
        format!("redis-cluster://127.0.0.1:{}", self.nodes[node].port())
    }

    /// The address with all nodes.
    #[must_use]
    pub fn url(&self) -> String {
        url(&self.nodes.iter().collect::<Vec<_>>())
    }

    /// Moves `count` slots from one node to another, as an operator does, and returns when they have moved.
    ///
    /// # Errors
    /// What `redis-cli` says.
    pub async fn move_slots(&self, from: usize, to: usize, count: usize) -> anyhow::Result<()> {
        move_slots(&self.nodes[from], &self.nodes[to], count).await
    }

    /// A node: 0, 1 and 2 are the masters of the lowest, the middle and the highest slots at the start.
    pub fn node(&mut self, node: usize) -> &mut RedisServer {
        &mut self.nodes[node]
    }
}

/// The address of a cluster that has these nodes.
pub(super) fn url(nodes: &[&RedisServer]) -> String {
    let others = nodes[1..].iter().map(|node| format!("node=127.0.0.1:{}", node.port()));
    format!("redis-cluster://127.0.0.1:{}?{}", nodes[0].port(), others.collect::<Vec<_>>().join("&"))
}

/// Moves `count` slots, as an operator does, and returns when they have moved. Waits before until the nodes agree who has
/// which slot, as they do not for some seconds after a master was replaced.
///
/// # Errors
/// What `redis-cli` says.
pub(super) async fn move_slots(from: &RedisServer, to: &RedisServer, count: usize) -> anyhow::Result<()> {
    let id = async |node: &RedisServer| {
        let answer = node.command(&["CLUSTER", "MYID"]).await?;
        anyhow::Ok(answer.lines().nth(1).context("a node has an id")?.to_owned())
    };
    let address = format!("127.0.0.1:{}", from.port());
    wait_for("nodes that agree", AGREE_TIMEOUT, async || redis_cli(&["check", &address]).await).await?;
    let (from, to, count) = (id(from).await?, id(to).await?, count.to_string());
    let moved = ["--cluster-from", &from, "--cluster-to", &to, "--cluster-slots", &count, "--cluster-yes"];
    redis_cli(&[&["reshard", &address], &moved[..]].concat()).await
}

/// Runs `redis-cli --cluster`.
async fn redis_cli(arguments: &[&str]) -> anyhow::Result<()> {
    let program = Program::find(&["redis-cli", "valkey-cli"]).context("redis-cli is not installed")?;
    let mut command = program.command(Path::new("/"));
    command.arg("--cluster").args(arguments).stdin(std::process::Stdio::null());
    let output = tokio::process::Command::from(command).output().await?;
    let said = String::from_utf8_lossy(&output.stdout);
    let end = said.lines().rev().take(SAID_LINES).collect::<Vec<_>>().join("\n");
    anyhow::ensure!(output.status.success(), "redis-cli --cluster {}:\n{end}", arguments[0]);
    Ok(())
}
