//! Injects faults, and removes them again.

use std::time::Duration;

use anyhow::Context as _;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use testbed::meter::metric;
use testbed::stack::{Direction, End, Servers, System, wait_for};
use tokio::time::sleep;

use crate::cluster_injector::{self, NODE_AWAY};
use crate::disk::MysqlDisk;
use crate::fault::{Damage, Fault, Target, Wire};
use crate::hostile;
use crate::reshard;
use crate::service_fault::{drain_and_restart, freeze, kill_and_restart, wrong_clock};

/// Between a kill and the new start.
const DOWN: Duration = Duration::from_secs(3);
/// The same where all workers are killed.
const ALL_DOWN: Duration = Duration::from_secs(5);
const MYSQL_AWAY: Duration = Duration::from_secs(60);
const BLOCKED: Duration = Duration::from_secs(10);
const WIRE: Duration = Duration::from_secs(10);
/// Longer than a worker without a heartbeat counts as alive.
const UNSEEN: Duration = Duration::from_secs(12);
/// Longer than a gateway waits for any event.
const UNHEARD: Duration = Duration::from_secs(15);
/// The age of the snapshot that replaces Redis' data.
const SNAPSHOT_AGE: Duration = Duration::from_secs(3);
const DISK_FULL: Duration = Duration::from_secs(15);
/// For a process to start, and for a fault to show its effect.
const TIMEOUT: Duration = Duration::from_secs(30);

const SLOW_DELAY: Duration = Duration::from_millis(150);
const SLOW_BYTES_PER_SECOND: u64 = 100_000;

/// Injects faults into a system, which must be [linked](testbed::stack::Builder::linked) and have private servers.
#[derive(Debug)]
pub(crate) struct FaultInjector<'s> {
    system: &'s mut System,
    groups: Vec<String>,
}

impl<'s> FaultInjector<'s> {
    /// `groups` are the groups with traffic, which hostile clients join.
    pub(crate) fn new(system: &'s mut System, groups: Vec<String>) -> Self {
        Self { system, groups }
    }

    /// Chooses the gateway or worker for `fault`: one that has work, a connection or a shard, if there is any.
    pub(crate) async fn target(&mut self, fault: Fault, random: &mut StdRng) -> anyhow::Result<usize> {
        let (urls, work) = match fault.target() {
            Target::Gateway => (self.system.ops_urls(), "im_gateway_connections"),
            Target::Worker => {
                let all = 0..self.system.worker_count();
                (all.map(|n| self.system.worker(n).ops_url()).collect(), "im_worker_shards")
            }
            Target::Other => return Ok(0),
        };
        let mut busy = Vec::new();
        for (n, url) in urls.iter().enumerate() {
            // A process that does not answer has no work to lose.
            if metric(url, work).await.is_ok_and(|work| work > 0.0) {
                busy.push(n);
            }
        }
        let all: Vec<_> = (0..urls.len()).collect();
        let candidates = if busy.is_empty() { all } else { busy };
        candidates.choose(random).copied().context("there is no such process")
    }

    /// Injects `fault` into gateway or worker `n`, if it concerns one, and returns when it is over: every process is ready
    /// again, and every wire works. The system may not have recovered by then.
    ///
    /// # Errors
    /// If the fault cannot be injected, or a process does not start again.
    pub(crate) async fn inject(&mut self, fault: Fault, n: usize) -> anyhow::Result<()> {
        let result = match fault.target() {
            Target::Gateway => self.gateway(fault, n).await,
            Target::Worker => self.worker(fault, n).await,
            Target::Other => self.other(fault).await,
        };
        result.with_context(|| format!("injecting {fault} into {n}"))
    }

    async fn gateway(&mut self, fault: Fault, n: usize) -> anyhow::Result<()> {
        match fault {
            Fault::KillGateway => kill_and_restart(self.system.gateway(n), DOWN).await,
            Fault::DrainGateway => drain_and_restart(self.system.gateway(n)).await,
            Fault::FreezeGateway => freeze(self.system.gateway(n).process().as_deref()).await,
            Fault::ClockGateway => wrong_clock(self.system.gateway(n)).await,
            Fault::Wire(damage, wire) => self.wire(damage, wire, n).await,
            hostile => {
                let url = self.system.ws_urls().into_iter().nth(n).context("no such gateway")?;
                let groups = self.groups.clone();
                let clients = async move {
                    match hostile {
                        Fault::HostileReaders => hostile::readers(&url, &groups).await,
                        Fault::HostileConnections => hostile::connections(&url).await,
                        Fault::HostileLogins => hostile::logins(&url).await,
                        _ => hostile::frames(&url).await,
                    }
                };
                hostile::at_low_priority(clients).await
            }
        }
    }

    async fn worker(&mut self, fault: Fault, n: usize) -> anyhow::Result<()> {
        match fault {
            Fault::KillWorker => kill_and_restart(self.system.worker(n), DOWN).await,
            Fault::FreezeWorker => freeze(self.system.worker(n).process().as_deref()).await,
            Fault::ClockWorker => wrong_clock(self.system.worker(n)).await,
            Fault::WorkerDiesUnacked => self.worker_dies_unacked(n).await,
            Fault::Wire(damage, wire) => self.wire(damage, wire, n).await,
            // Two owners: its heartbeats do not arrive, so the others take its shards.
            _ => {
                let link =
                    self.system.link(End::Worker(n), End::Redis).context("the system is not linked")?;
                link.stall(Direction::Both);
                sleep(UNSEEN).await;
                link.heal();
                Ok(())
            }
        }
    }

    async fn other(&mut self, fault: Fault) -> anyhow::Result<()> {
        match fault {
            Fault::KillAllWorkers => self.kill_all_workers().await,
            Fault::RollingRestart => {
                for n in 0..self.system.worker_count() {
                    drain_and_restart(self.system.worker(n)).await?;
                }
                for n in 0..self.system.gateway_count() {
                    drain_and_restart(self.system.gateway(n)).await?;
                }
                Ok(())
            }
            Fault::Cluster(fault) => cluster_injector::inject(self.system, fault).await,
            Fault::VersionChange => self.system.change_version().await,
            Fault::ChangeShards => reshard::grow_and_shrink(self.system).await,
            Fault::QueuesFull => self.queues_full().await,
            Fault::DiskFull => {
                let disk = MysqlDisk::of(self.servers()?)?;
                disk.fill()?;
                let effect = self.commits_fail().await;
                sleep(DISK_FULL).await;
                disk.free()?;
                effect
            }
            Fault::FreezeMysql | Fault::KillMysql | Fault::MysqlAway => self.mysql(fault).await,
            Fault::FreezeRedis | Fault::KillRedis | Fault::RedisEmpty | Fault::RedisBack => {
                self.redis(fault).await
            }
            Fault::FreezeRabbitmq
            | Fault::KillRabbitmq
            | Fault::KillRabbitmqLeader
            | Fault::PushQueuesDeleted
            | Fault::PushQueuesUnbound
            | Fault::MemoryAlarm => self.rabbitmq(fault).await,
            // Nothing.
            _ => {
                sleep(DOWN).await;
                Ok(())
            }
        }
    }

    fn servers(&mut self) -> anyhow::Result<&mut Servers> {
        self.system.servers().context("faults are for a system with private servers")
    }

    async fn mysql(&mut self, fault: Fault) -> anyhow::Result<()> {
        let mysql = &mut self.servers()?.mysql;
        match fault {
            Fault::FreezeMysql => return freeze(mysql.process()).await,
            Fault::KillMysql => mysql.kill(),
            _ => {
                mysql.stop().await;
                sleep(MYSQL_AWAY).await;
            }
        }
        mysql.start_again().await
    }

    async fn redis(&mut self, fault: Fault) -> anyhow::Result<()> {
        let redis = &mut self.servers()?.redis;
        match fault {
            Fault::FreezeRedis => return freeze(redis.process()).await,
            Fault::KillRedis => redis.kill(),
            Fault::RedisEmpty => {
                redis.kill();
                redis.lose_data()?;
            }
            _ => {
                redis.take_snapshot()?;
                sleep(SNAPSHOT_AGE).await;
                redis.kill();
                redis.restore_snapshot()?;
            }
        }
        redis.start_again().await
    }

    async fn kill_rabbitmq_leader(&mut self) -> anyhow::Result<()> {
        let servers = self.servers()?;
        let leader = cluster_injector::leader(servers).await?;
        let leader = servers.rabbit_nodes().nth(leader).context("there is no such node")?;
        leader.kill();
        sleep(NODE_AWAY).await;
        leader.start_again().await
    }

    async fn rabbitmq(&mut self, fault: Fault) -> anyhow::Result<()> {
        if fault == Fault::KillRabbitmqLeader {
            return self.kill_rabbitmq_leader().await;
        }
        let rabbit = &mut self.servers()?.rabbit;
        match fault {
            Fault::FreezeRabbitmq => freeze(rabbit.process()).await,
            Fault::KillRabbitmq => {
                rabbit.kill();
                rabbit.start_again().await
            }
            Fault::PushQueuesDeleted => rabbit.delete_exclusive_queues().await,
            Fault::PushQueuesUnbound => {
                rabbit.unbind_exclusive_queues().await?;
                sleep(UNHEARD).await;
                Ok(())
            }
            _ => {
                rabbit.set_memory_alarm(true).await?;
                sleep(BLOCKED).await;
                rabbit.set_memory_alarm(false).await
            }
        }
    }

    async fn kill_all_workers(&mut self) -> anyhow::Result<()> {
        let all = self.system.worker_count();
        (0..all).for_each(|n| self.system.worker(n).kill());
        sleep(ALL_DOWN).await;
        (0..all).try_for_each(|n| self.system.worker(n).launch())?;
        for n in 0..all {
            self.system.worker(n).ready(TIMEOUT).await?;
        }
        Ok(())
    }

    async fn wire(&mut self, damage: Damage, wire: Wire, n: usize) -> anyhow::Result<()> {
        let (from, to) = match wire {
            Wire::ClientsGateway => (End::Clients, End::Gateway(n)),
            Wire::GatewayMysql => (End::Gateway(n), End::Mysql),
            Wire::GatewayRedis => (End::Gateway(n), End::Redis),
            Wire::GatewayRabbitmq => (End::Gateway(n), End::Rabbitmq),
            Wire::WorkerMysql => (End::Worker(n), End::Mysql),
            Wire::WorkerRedis => (End::Worker(n), End::Redis),
            Wire::WorkerRabbitmq => (End::Worker(n), End::Rabbitmq),
        };
        let link = self.system.link(from, to).context("the system is not linked")?;
        match damage {
            Damage::Cut => link.cut(),
            Damage::Stall => link.stall(Direction::Both),
            Damage::Slow => {
                link.delay(Direction::Both, SLOW_DELAY);
                link.throttle(Direction::Both, SLOW_BYTES_PER_SECOND);
            }
        }
        sleep(WIRE).await;
        link.heal();
        Ok(())
    }

    /// Freezes the workers and limits each queue to one body, until a gateway has refused a message and for a while longer.
    async fn queues_full(&mut self) -> anyhow::Result<()> {
        self.servers()?.rabbit.limit_work_queues(Some(1)).await?;
        let workers = self.system.worker_count();
        (0..workers).for_each(|n| self.system.worker(n).freeze());
        // All senders may be connected to one of them.
        let gateways = self.system.ops_urls();
        let refusals = async || {
            let mut sum = 0.0;
            for gateway in &gateways {
                sum += metric(gateway, "im_gateway_refused_total{code=\"503\"}").await?;
            }
            anyhow::Ok(sum)
        };
        let before = refusals().await?;
        let refused = wait_for("a full queue", TIMEOUT, async || {
            anyhow::ensure!(refusals().await? > before, "nothing was refused yet");
            Ok(())
        })
        .await;
        sleep(DOWN).await;
        (0..workers).for_each(|n| self.system.worker(n).thaw());
        self.servers()?.rabbit.limit_work_queues(None).await?;
        refused
    }

    /// Waits until a worker reports that it cannot commit.
    async fn commits_fail(&mut self) -> anyhow::Result<()> {
        let urls: Vec<_> =
            (0..self.system.worker_count()).map(|n| self.system.worker(n).ops_url() + "/readyz").collect();
        wait_for("a failed commit", TIMEOUT, async || {
            for url in &urls {
                let answer = reqwest::get(url).await?;
                if !answer.status().is_success() && answer.text().await?.contains("commits") {
                    return Ok(());
                }
            }
            anyhow::bail!("all commits succeed")
        })
        .await
    }

    /// Lets deliveries through but no acknowledgement, until a message is committed; then kills the worker.
    async fn worker_dies_unacked(&mut self, n: usize) -> anyhow::Result<()> {
        let url = self.system.worker(n).ops_url();
        let committed = async || metric(&url, "im_worker_messages_committed_total").await;
        let before = committed().await.unwrap_or(0.0);
        let link = self.system.link(End::Worker(n), End::Rabbitmq).context("the system is not linked")?;
        link.stall(Direction::There);
        let unacked = wait_for("a commit", TIMEOUT, async || {
            anyhow::ensure!(committed().await? > before, "nothing was committed yet");
            Ok(())
        })
        .await;
        // Before the kill: the link would deliver afterwards what it holds back.
        link.cut();
        self.system.worker(n).kill();
        if let Some(link) = self.system.link(End::Worker(n), End::Rabbitmq) {
            link.heal();
        }
        sleep(DOWN).await;
        self.system.worker(n).start_again().await?;
        unacked
    }
}
