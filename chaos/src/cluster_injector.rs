//! Injects the faults of clusters, and repairs them.

use std::time::Duration;

use anyhow::Context as _;
use nix::sys::signal::Signal;
use testbed::stack::{End, RabbitServer, RedisServer, Servers, System, wait_for};
use tokio::time::sleep;

use crate::cluster_fault::ClusterFault;

/// Longer than an election, and than clients need to notice.
pub(crate) const NODE_AWAY: Duration = Duration::from_secs(15);
/// The same for a server that is silent: the others and all clients wait for it first.
const SILENT: Duration = Duration::from_secs(25);
/// The same for RabbitMQ, whose nodes wait longest.
const RABBITMQ_SILENT: Duration = Duration::from_secs(45);
/// For each node of RabbitMQ in turn.
const IN_TURN: Duration = Duration::from_secs(10);
/// For a node that is back to get what it missed.
const CATCH_UP: Duration = Duration::from_secs(5);
/// Between two failovers by Sentinel: twice its `failover-timeout`, and some time for servers that become replicas.
const SENTINEL_PAUSE: Duration = Duration::from_secs(15);
/// Of the 5,461 of a master.
const MOVED_SLOTS: usize = 5_000;
const TAKEOVER_TIMEOUT: Duration = Duration::from_secs(60);

/// Injects `fault` into the servers of `system`, and returns when all of them run again.
pub(crate) async fn inject(system: &mut System, fault: ClusterFault) -> anyhow::Result<()> {
    if fault == ClusterFault::SilenceMysqlPrimary {
        return silence_mysql(system).await;
    }
    let servers = system.servers().context("faults are for a system with private servers")?;
    match fault {
        ClusterFault::FailoverRedisSentinel
        | ClusterFault::KillRedisSentinelMaster
        | ClusterFault::SilenceRedisPrimary => sentinel(servers, fault).await,
        ClusterFault::KillRedisClusterMaster => {
            let master = busiest_redis(servers).await?;
            kill_redis(master).await
        }
        ClusterFault::SilenceRedisClusterMaster => {
            let master = busiest_redis(servers).await?;
            silence_redis(master).await
        }
        ClusterFault::MoveRedisSlots => {
            let masters = redis_masters(servers).await?;
            let [from, to, ..] = masters[..] else { anyhow::bail!("there are {} masters", masters.len()) };
            servers.move_redis_slots(from, to, MOVED_SLOTS).await?;
            servers.move_redis_slots(to, from, MOVED_SLOTS).await
        }
        ClusterFault::KillGaleraWriter => kill_galera_writer(servers).await,
        _ => rabbitmq(servers, fault).await,
    }
}

async fn kill_redis(server: &mut RedisServer) -> anyhow::Result<()> {
    server.kill();
    sleep(NODE_AWAY).await;
    redis_is_back(server).await
}

/// Starts a server again, and waits until it can replace its master.
async fn redis_is_back(server: &mut RedisServer) -> anyhow::Result<()> {
    server.start_again().await?;
    wait_for("a replica that is current", TAKEOVER_TIMEOUT, async || server.must_be_current().await).await
}

/// A frozen server never continues: what it would do then is another fault.
async fn silence_redis(server: &mut RedisServer) -> anyhow::Result<()> {
    server.process().context("it does not run")?.signal(Signal::SIGSTOP);
    sleep(SILENT).await;
    server.kill();
    redis_is_back(server).await
}

async fn sentinel(servers: &mut Servers, fault: ClusterFault) -> anyhow::Result<()> {
    let first = servers.sentinels.first().context("Redis is not behind Sentinel")?;
    let port = first.master().await?;
    if fault == ClusterFault::FailoverRedisSentinel {
        first.fail_over().await?;
    } else {
        let mut nodes = servers.redis_nodes();
        let master =
            nodes.find(|node| node.port() == port).context("the master is not one of the servers")?;
        match fault {
            ClusterFault::KillRedisSentinelMaster => kill_redis(master).await?,
            _ => silence_redis(master).await?,
        }
    }
    let first = servers.sentinels.first().context("Redis is not behind Sentinel")?;
    wait_for("another master", TAKEOVER_TIMEOUT, async || {
        anyhow::ensure!(first.master().await? != port, "it is still the old one");
        Ok(())
    })
    .await?;
    // Or the next fault would measure the pause.
    sleep(SENTINEL_PAUSE).await;
    Ok(())
}

/// The indexes of the masters.
async fn redis_masters(servers: &mut Servers) -> anyhow::Result<Vec<usize>> {
    let mut masters = Vec::new();
    for (n, node) in servers.redis_nodes().enumerate() {
        if node.command(&["ROLE"]).await?.contains("master") {
            masters.push(n);
        }
    }
    Ok(masters)
}

/// The master with the most keys.
async fn busiest_redis(servers: &mut Servers) -> anyhow::Result<&mut RedisServer> {
    let mut busiest = None;
    for node in servers.redis_nodes() {
        let role = node.command(&["ROLE"]).await?;
        let keys: u64 = node.command(&["DBSIZE"]).await?.trim_start_matches(':').trim().parse()?;
        if role.contains("master") && busiest.as_ref().is_none_or(|(most, _)| *most < keys) {
            busiest = Some((keys, node));
        }
    }
    Ok(busiest.context("there is no master")?.1)
}

async fn kill_galera_writer(servers: &mut Servers) -> anyhow::Result<()> {
    let balancer = servers.balancer.as_ref().context("there is no balancer in front of MySQL")?;
    let nodes: Vec<_> = std::iter::once(&servers.mysql).chain(&servers.mysql_peers).collect();
    let writer = balancer.writer(&nodes).await?;
    let writer = servers.mysql_nodes().nth(writer).context("there is no such node")?;
    writer.kill();
    sleep(NODE_AWAY).await;
    writer.start_again().await
}

/// As where a name or a virtual address leads to another server: connections to the silent one stay open.
async fn silence_mysql(system: &mut System) -> anyhow::Result<()> {
    let servers = system.servers().context("faults are for a system with private servers")?;
    servers.mysql.process().context("MySQL does not run")?.signal(Signal::SIGSTOP);
    let successor = servers.mysql_peers.first().context("MySQL has one node only")?;
    wait_for("the other nodes of MySQL", TAKEOVER_TIMEOUT, async || {
        let size = successor.cluster_size().await?;
        anyhow::ensure!(size == 2, "there are {size}");
        Ok(())
    })
    .await?;
    let port = successor.port();
    let gateways = (0..system.gateway_count()).map(End::Gateway);
    let ends = gateways.chain((0..system.worker_count()).map(End::Worker)).collect::<Vec<_>>();
    for end in ends {
        system.link(end, End::Mysql).context("the system is not linked")?.lead_to(port);
    }
    sleep(SILENT).await;
    let servers = system.servers().context("faults are for a system with private servers")?;
    servers.mysql.kill();
    servers.mysql.start_again().await
}

/// The index of the node that leads the most work queues.
pub(crate) async fn leader(servers: &mut Servers) -> anyhow::Result<usize> {
    anyhow::ensure!(!servers.rabbit_peers.is_empty(), "RabbitMQ is no cluster of several nodes");
    let leaders = servers.rabbit.leaders_of_work_queues().await?;
    let led = |node: &RabbitServer| leaders.iter().filter(|leader| *leader == node.name()).count();
    let nodes = servers.rabbit_nodes().enumerate();
    Ok(nodes.max_by_key(|(_, node)| led(node)).context("there is no node")?.0)
}

async fn rabbitmq(servers: &mut Servers, fault: ClusterFault) -> anyhow::Result<()> {
    if fault == ClusterFault::KillRabbitmqNodesInTurn {
        for node in servers.rabbit_nodes() {
            node.kill();
            sleep(IN_TURN).await;
            node.start_again().await?;
            sleep(CATCH_UP).await;
        }
        return Ok(());
    }
    let leader = leader(servers).await?;
    if fault == ClusterFault::PartitionRabbitmqNode {
        let wires = servers.rabbit_wires.as_ref().context("RabbitMQ has no wires")?;
        wires.isolate(leader);
        sleep(RABBITMQ_SILENT).await;
        wires.heal();
        let node = servers.rabbit_nodes().nth(leader).context("there is no such node")?;
        return wait_for("the node that was cut off", TAKEOVER_TIMEOUT, async || node.ready().await).await;
    }
    let node = servers.rabbit_nodes().nth(leader).context("there is no such node")?;
    node.process().context("it does not run")?.signal(Signal::SIGSTOP);
    sleep(RABBITMQ_SILENT).await;
    node.kill();
    node.start_again().await
}
