//! A private Redis Cluster.

use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;

use super::{RedisServer, wait_for};

/// Masters, each with one replica and a third of the slots: the fewest that can elect a new master.
const MASTERS: usize = 3;
/// Slots of a Redis Cluster, as its specification says.
const SLOTS: usize = 16_384;
const FORM_TIMEOUT: Duration = Duration::from_secs(60);

/// Three masters with a replica each. A replica takes over some two seconds after its master is killed.
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
                anyhow::ensure!(info.contains("cluster_state:ok"), "{info}");
                let role = node.command(&["ROLE"]).await?;
                let is_complete = if role.contains("slave") { role.contains("connected") } else { true };
                anyhow::ensure!(is_complete, "{role}");
                Ok(())
            })
            .await?;
        }
        Ok(())
    }

    /// The address of one node, as one would write it who knows only one.
    #[must_use]
    pub fn url_of(&self, node: usize) -> String {
        format!("redis-cluster://127.0.0.1:{}", self.nodes[node].port())
    }

    /// A node: 0, 1 and 2 are the masters of the lowest, the middle and the highest slots at the start.
    pub fn node(&mut self, node: usize) -> &mut RedisServer {
        &mut self.nodes[node]
    }
}
