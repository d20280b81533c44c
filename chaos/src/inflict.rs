//! How each fault is done, and undone.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use nix::sys::signal::Signal;
use tokio::time::sleep;

use crate::fault::{Damage, Fault, Wire};
use crate::hostile;
use testbed::meter::metric;
use testbed::stack::{Direction, End, Process, Service, System, libfaketime, wait_for};

/// Between a kill and the new start.
const DOWN: Duration = Duration::from_secs(3);
/// The same where nobody is left.
const ALL_DOWN: Duration = Duration::from_secs(5);
const FROZEN: Duration = Duration::from_secs(20);
const MYSQL_AWAY: Duration = Duration::from_secs(60);
const BLOCKED: Duration = Duration::from_secs(10);
const WIRE: Duration = Duration::from_secs(10);
/// Longer than a worker's sign of life is believed.
const UNSEEN: Duration = Duration::from_secs(12);
/// Longer than a gateway puts up with hearing nothing.
const UNHEARD: Duration = Duration::from_secs(15);
/// What Redis forgets.
const FORGOTTEN: Duration = Duration::from_secs(3);
/// How long a clock is wrong in each direction.
const WRONG: Duration = Duration::from_secs(6);
const DISK_FULL: Duration = Duration::from_secs(15);
/// Longest that something may take to show its effect.
const PATIENCE: Duration = Duration::from_secs(30);

const SLOW_DELAY: Duration = Duration::from_millis(150);
const SLOW_BYTES_PER_SECOND: u64 = 100_000;

/// Does faults to a system. It must be [linked](testbed::stack::Builder::linked) and have servers of its own.
#[derive(Debug)]
pub struct Inflictor<'s> {
    system: &'s mut System,
    groups: Vec<String>,
}

impl<'s> Inflictor<'s> {
    /// For this system, in which people talk in these groups.
    pub fn new(system: &'s mut System, groups: Vec<String>) -> Self {
        Self { system, groups }
    }

    /// The system again.
    pub fn system(&mut self) -> &mut System {
        self.system
    }

    /// Does `fault` to gateway or worker `n`, where it concerns one, and returns when it is over: everything runs again
    /// and says that it is ready, or the wire is whole. What was disturbed has not come to rest by then.
    ///
    /// # Errors
    /// If something cannot be broken or does not come back.
    pub async fn inflict(&mut self, fault: Fault, n: usize) -> anyhow::Result<()> {
        let done = self.done(fault, n).await;
        done.with_context(|| format!("doing {fault} to {n}"))
    }

    async fn done(&mut self, fault: Fault, n: usize) -> anyhow::Result<()> {
        match fault {
            Fault::Nothing => sleep(DOWN).await,
            Fault::KillGateway => restart(self.system.gateway(n), DOWN).await?,
            Fault::DrainGateway => in_order(self.system.gateway(n)).await?,
            Fault::KillWorker => restart(self.system.worker(n), DOWN).await?,
            Fault::KillAllWorkers => {
                let all = self.system.worker_count();
                (0..all).for_each(|n| self.system.worker(n).kill());
                sleep(ALL_DOWN).await;
                (0..all).try_for_each(|n| self.system.worker(n).launch())?;
                for n in 0..all {
                    self.system.worker(n).ready(PATIENCE).await?;
                }
            }
            Fault::RollingRestart => {
                for n in 0..self.system.worker_count() {
                    in_order(self.system.worker(n)).await?;
                }
                for n in 0..self.system.gateway_count() {
                    in_order(self.system.gateway(n)).await?;
                }
            }
            Fault::VersionChange => self.system.change_version().await?,
            Fault::FreezeGateway => freeze(self.system.gateway(n).process().as_deref()).await?,
            Fault::FreezeWorker => freeze(self.system.worker(n).process().as_deref()).await?,
            Fault::FreezeMysql => freeze(self.servers()?.mysql.process()).await?,
            Fault::FreezeRedis => freeze(self.servers()?.redis.process()).await?,
            Fault::FreezeRabbitmq => freeze(self.servers()?.rabbit.process()).await?,
            Fault::KillMysql => {
                let mysql = &mut self.servers()?.mysql;
                mysql.kill();
                mysql.start_again().await?;
            }
            Fault::KillRedis => {
                let redis = &mut self.servers()?.redis;
                redis.kill();
                redis.start_again().await?;
            }
            Fault::KillRabbitmq => {
                let rabbit = &mut self.servers()?.rabbit;
                rabbit.kill();
                rabbit.start_again().await?;
            }
            Fault::RedisEmpty => {
                let redis = &mut self.servers()?.redis;
                redis.kill();
                redis.lose_data()?;
                redis.start_again().await?;
            }
            Fault::RedisBack => {
                let redis = &mut self.servers()?.redis;
                redis.remember_data()?;
                sleep(FORGOTTEN).await;
                redis.kill();
                redis.go_back()?;
                redis.start_again().await?;
            }
            Fault::PushQueuesDeleted => self.servers()?.rabbit.delete_exclusive_queues().await?,
            Fault::PushQueuesUnbound => {
                self.servers()?.rabbit.unbind_exclusive_queues().await?;
                sleep(UNHEARD).await;
            }
            Fault::MysqlAway => {
                let mysql = &mut self.servers()?.mysql;
                mysql.stop().await;
                sleep(MYSQL_AWAY).await;
                mysql.start_again().await?;
            }
            Fault::MemoryAlarm => {
                let rabbit = &self.servers()?.rabbit;
                rabbit.set_memory_alarm(true).await?;
                sleep(BLOCKED).await;
                rabbit.set_memory_alarm(false).await?;
            }
            Fault::QueuesFull => self.queues_full().await?,
            Fault::WorkerDiesUnacked => self.worker_dies_unacked(n).await?,
            Fault::TwoOwners => {
                let link =
                    self.system.link(End::Worker(n), End::Redis).context("the system is not linked")?;
                link.stall(Direction::Both);
                sleep(UNSEEN).await;
                link.heal();
            }
            Fault::ClockGateway => wrong_clock(self.system.gateway(n)).await?,
            Fault::ClockWorker => wrong_clock(self.system.worker(n)).await?,
            Fault::HostileReaders
            | Fault::HostileConnections
            | Fault::HostileLogins
            | Fault::HostileFrames => {
                let (url, groups) = (self.url(n)?, self.groups.clone());
                let clients = async move {
                    match fault {
                        Fault::HostileReaders => hostile::readers(&url, &groups).await,
                        Fault::HostileConnections => hostile::connections(&url).await,
                        Fault::HostileLogins => hostile::logins(&url).await,
                        _ => hostile::frames(&url).await,
                    }
                };
                hostile::aside(clients).await?;
            }
            Fault::DiskFull => {
                let disk = MysqlDisk::of(self.system)?;
                disk.fill()?;
                let felt = self.commits_fail().await;
                sleep(DISK_FULL).await;
                disk.free()?;
                felt?;
            }
            Fault::Wire(damage, wire) => self.wire(damage, wire, n).await?,
        }
        Ok(())
    }

    /// Where clients of gateway `n` connect.
    fn url(&self, n: usize) -> anyhow::Result<String> {
        self.system.ws_urls().into_iter().nth(n).context("no such gateway")
    }

    fn servers(&mut self) -> anyhow::Result<&mut testbed::stack::Servers> {
        self.system.servers().context("only a system with servers of its own can be broken")
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

    /// Workers stand still, queues may hold one body each, and it goes on until a gateway was refused.
    async fn queues_full(&mut self) -> anyhow::Result<()> {
        self.servers()?.rabbit.bound_work_queues(Some(1)).await?;
        let workers = self.system.worker_count();
        (0..workers).for_each(|n| self.system.worker(n).freeze());
        // All senders may have gone to one of them.
        let gateways: Vec<_> =
            (0..self.system.gateway_count()).map(|n| self.system.gateway(n).http_url()).collect();
        let refusals = async || {
            let mut sum = 0.0;
            for gateway in &gateways {
                sum += metric(gateway, "im_gateway_refused_total{code=\"503\"}").await?;
            }
            anyhow::Ok(sum)
        };
        let before = refusals().await?;
        let refused = wait_for("a full queue", PATIENCE, async || {
            anyhow::ensure!(refusals().await? > before, "nothing was refused yet");
            Ok(())
        })
        .await;
        sleep(DOWN).await;
        (0..workers).for_each(|n| self.system.worker(n).thaw());
        self.servers()?.rabbit.bound_work_queues(None).await?;
        refused
    }

    /// Until a worker says that it cannot commit.
    async fn commits_fail(&mut self) -> anyhow::Result<()> {
        let urls: Vec<_> =
            (0..self.system.worker_count()).map(|n| self.system.worker(n).http_url() + "/readyz").collect();
        wait_for("a failed commit", PATIENCE, async || {
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

    /// Lets deliveries come but no acknowledgement go, until something was committed.
    async fn worker_dies_unacked(&mut self, n: usize) -> anyhow::Result<()> {
        let url = self.system.worker(n).http_url();
        let committed = async || metric(&url, "im_worker_messages_committed_total").await;
        let before = committed().await.unwrap_or(0.0);
        let link = self.system.link(End::Worker(n), End::Rabbitmq).context("the system is not linked")?;
        link.stall(Direction::There);
        let unacked = wait_for("a commit", PATIENCE, async || {
            anyhow::ensure!(committed().await? > before, "nothing was committed yet");
            Ok(())
        })
        .await;
        // Before the kill, or what the link holds back would be sent after it.
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

async fn restart(service: &mut Service, down: Duration) -> anyhow::Result<()> {
    service.kill();
    sleep(down).await;
    service.start_again().await
}

async fn in_order(service: &mut Service) -> anyhow::Result<()> {
    let ended = service.terminate().await.context("it had to be killed")?;
    anyhow::ensure!(ended.success(), "{} ended with {ended}", service.name());
    service.start_again().await
}

async fn freeze(process: Option<&Process>) -> anyhow::Result<()> {
    let process = process.context("it does not run")?;
    process.signal(Signal::SIGSTOP);
    sleep(FROZEN).await;
    process.signal(Signal::SIGCONT);
    Ok(())
}

/// Started with a clock of its own (libfaketime), which then jumps under its feet. Timers go by another clock and are
/// not touched.
async fn wrong_clock(service: &mut Service) -> anyhow::Result<()> {
    let library = libfaketime().context("libfaketime is not installed: apt-get install faketime")?;
    let folder = tempfile::tempdir()?;
    let offset = folder.path().join("offset");
    std::fs::write(&offset, "+0")?;
    let environment = [
        ("LD_PRELOAD", library.display().to_string()),
        ("FAKETIME_TIMESTAMP_FILE", offset.display().to_string()),
        ("FAKETIME_CACHE_DURATION", "1".to_owned()),
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
        ("DONT_FAKE_MONOTONIC", "1".to_owned()),
    ];
    for (key, value) in &environment {
        service.set(key, value);
    }
    in_order(service).await?;
    for hours in ["+1h", "-1h"] {
        std::fs::write(&offset, hours)?;
        sleep(WRONG).await;
    }
    for (key, _) in &environment {
        service.unset(key);
    }
    in_order(service).await
}

/// The small disk that MySQL's data are on, if the system was made so.
#[derive(Debug)]
pub struct MysqlDisk {
    filler: PathBuf,
}

impl MysqlDisk {
    /// The disk of this system's MySQL.
    ///
    /// # Errors
    /// If its data are not on a disk of their own, which it would be rude to fill.
    pub fn of(system: &mut System) -> anyhow::Result<Self> {
        let servers = system.servers().context("only a system with servers of its own can be broken")?;
        let disk = servers.mysql.small_disk().context("MySQL has no small disk of its own")?;
        Ok(Self { filler: disk.join("filler") })
    }

    /// Takes all that is left.
    ///
    /// # Errors
    /// Anything but the end of the room.
    pub fn fill(&self) -> anyhow::Result<()> {
        use std::io::Write as _;
        let mut file = std::fs::File::create(&self.filler)?;
        let block = vec![0; 64 * 1024];
        loop {
            match file.write_all(&block) {
                Ok(()) => {}
                Err(error) if error.kind() == std::io::ErrorKind::StorageFull => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Gives it back.
    ///
    /// # Errors
    /// If the filler cannot be removed.
    pub fn free(&self) -> anyhow::Result<()> {
        Ok(std::fs::remove_file(&self.filler)?)
    }
}
