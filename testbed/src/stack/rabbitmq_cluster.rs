//! A RabbitMQ cluster whose nodes can be cut off from each other.
//!
//! Each node has a port mapper of its own, in which the other nodes are registered at ports of [links](Link): whatever nodes
//! say to each other goes through these.

use std::collections::BTreeMap;
use std::path::Path;

use super::epmd::Registration;
use super::{Direction, Link, RabbitServer};

/// The configuration of a node, whose names of nodes are replaced.
pub(super) const CONFIGURATION: &str = include_str!("../../../deploy/clusters/rabbitmq/rabbitmq.conf");

/// The wires between the nodes of a cluster.
#[derive(Debug)]
pub struct RabbitWires {
    /// By the node that connects and the one that listens.
    links: BTreeMap<(usize, usize), Link>,
    _names: Vec<Registration>,
}

impl RabbitWires {
    /// Cuts `node` off from all others, without a word: connections stay open, and nothing gets through.
    pub fn isolate(&self, node: usize) {
        let concerned = self.links.iter().filter(|((from, to), _)| *from == node || *to == node);
        concerned.for_each(|(_, link)| link.stall(Direction::Both));
    }

    /// Ends all damage. Connections that the nodes have given up meanwhile stay closed.
    pub fn heal(&self) {
        self.links.values().for_each(Link::heal);
    }
}

/// Starts `count` nodes with their data in subfolders of `folder`. The first one is the one that the others join.
pub(super) async fn start_nodes(
    folder: &Path,
    count: usize,
) -> anyhow::Result<(RabbitServer, Vec<RabbitServer>, Option<RabbitWires>)> {
    if count < 2 {
        return Ok((RabbitServer::start(&folder.join("rabbitmq")).await?, Vec::new(), None));
    }
    let home = folder.join("rabbitmq");
    let mut nodes = Vec::new();
    for number in 1..=count {
        let own = if number == 1 { home.clone() } else { folder.join(format!("rabbitmq-{number}")) };
        nodes.push(RabbitServer::prepare_node(&own, &home, number, count).await?);
    }
    let (mut links, mut names) = (BTreeMap::new(), Vec::new());
    for (from, node) in nodes.iter().enumerate() {
        for (to, other) in nodes.iter().enumerate().filter(|(to, _)| *to != from) {
            let link = Link::to(other.dist_port()).await?;
            names.push(Registration::new(node.epmd_port(), other.short_name(), link.port()).await?);
            links.insert((from, to), link);
        }
    }
    for node in &mut nodes {
        node.start_again().await?;
    }
    let peers = nodes.split_off(1);
    let first = nodes.remove(0);
    Ok((first, peers, Some(RabbitWires { links, _names: names })))
}
