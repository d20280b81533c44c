//! The faults.

use std::fmt;
use std::str::FromStr;

use crate::cluster_fault::{CLUSTER_FAULTS, Cluster, ClusterFault};

/// One way to break something, and to repair it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing breaks: the figures to compare the others with.
    Nothing,
    /// A gateway is killed, and started again after 3 s.
    KillGateway,
    /// A gateway drains after SIGTERM, and is started again when it has ended.
    DrainGateway,
    /// A worker is killed, and started again after 3 s.
    KillWorker,
    /// All workers are killed at once, and started again after 5 s.
    KillAllWorkers,
    /// Every gateway and worker drains after SIGTERM and is started again, one by one.
    RollingRestart,
    /// A gateway is frozen for 20 s; its connections stay open.
    FreezeGateway,
    /// A worker is frozen for 20 s, and continues as if it still owned its shards.
    FreezeWorker,
    /// MySQL is frozen for 20 s.
    FreezeMysql,
    /// Redis is frozen for 20 s.
    FreezeRedis,
    /// RabbitMQ is frozen for 20 s.
    FreezeRabbitmq,
    /// MySQL is killed and started again.
    KillMysql,
    /// Redis is killed and started again.
    KillRedis,
    /// RabbitMQ is killed and started again.
    KillRabbitmq,
    /// The node of a RabbitMQ cluster that leads the most work queues is killed, and started again after 15 s.
    KillRabbitmqLeader,
    /// Redis is replaced by an empty one.
    RedisEmpty,
    /// Redis loses its last seconds of writes: counters go back.
    RedisBack,
    /// Every gateway's push queue is deleted.
    PushQueuesDeleted,
    /// Every gateway's push queue loses its binding: nothing is delivered to it, and no gateway is notified.
    PushQueuesUnbound,
    /// MySQL is stopped for a minute.
    MysqlAway,
    /// RabbitMQ blocks publishers for 10 s.
    MemoryAlarm,
    /// The work queues are full: RabbitMQ refuses publishes.
    QueuesFull,
    /// A worker is killed after a commit, before its acknowledgements reach RabbitMQ.
    WorkerDiesUnacked,
    /// There is one work queue more, then as many as before.
    ChangeShards,
    /// A worker cannot reach Redis for 12 s: the others take its shards, and it keeps them.
    TwoOwners,
    /// A gateway's clock is an hour ahead, then an hour behind.
    ClockGateway,
    /// A worker's clock is an hour ahead, then an hour behind.
    ClockWorker,
    /// MySQL's disk is full for 15 s.
    DiskFull,
    /// Processes of another version are replaced, one by one (see [`previous`](testbed::stack::Builder::previous)).
    VersionChange,
    /// Members that never read, or one byte a second.
    HostileReaders,
    /// A thousand connections a second are opened and closed.
    HostileConnections,
    /// Ten thousand logins with wrong tokens.
    HostileLogins,
    /// Half frames, deep nesting, invalid UTF-8, compression, giant ids.
    HostileFrames,
    /// A wire is damaged for 10 s.
    Wire(Damage, Wire),
    /// A server of a cluster is lost.
    Cluster(ClusterFault),
}

/// How a wire is damaged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Damage {
    /// Open connections and new ones are reset.
    Cut,
    /// Nothing gets through, and no connection ends.
    Stall,
    /// A delay of 150 ms each way, and 100 KB/s.
    Slow,
}

/// The two ends of a wire. It is the wire of one gateway or worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wire {
    /// From all its clients to a gateway.
    ClientsGateway,
    /// From a gateway to MySQL.
    GatewayMysql,
    /// From a gateway to Redis.
    GatewayRedis,
    /// From a gateway to RabbitMQ.
    GatewayRabbitmq,
    /// From a worker to MySQL.
    WorkerMysql,
    /// From a worker to Redis.
    WorkerRedis,
    /// From a worker to RabbitMQ.
    WorkerRabbitmq,
}

/// What kind of process a fault concerns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Target {
    /// One gateway.
    Gateway,
    /// One worker.
    Worker,
    /// A server, all workers, all processes, or none.
    Other,
}

const DAMAGES: [(Damage, &str, &str); 3] = [
    (Damage::Cut, "cut", "is cut for 10 s"),
    (Damage::Stall, "stall", "lets nothing through for 10 s, and no connection ends"),
    (Damage::Slow, "slow", "has a delay of 150 ms each way and 100 KB/s for 10 s"),
];

const WIRES: [(Wire, &str, &str); 7] = [
    (Wire::ClientsGateway, "clients-gateway", "the wire between one gateway and its clients"),
    (Wire::GatewayMysql, "gateway-mysql", "the wire between one gateway and MySQL"),
    (Wire::GatewayRedis, "gateway-redis", "the wire between one gateway and Redis"),
    (Wire::GatewayRabbitmq, "gateway-rabbitmq", "the wire between one gateway and RabbitMQ"),
    (Wire::WorkerMysql, "worker-mysql", "the wire between one worker and MySQL"),
    (Wire::WorkerRedis, "worker-redis", "the wire between one worker and Redis"),
    (Wire::WorkerRabbitmq, "worker-rabbitmq", "the wire between one worker and RabbitMQ"),
];

const OTHERS: &[(Fault, &str, &str)] = &[
    (Fault::Nothing, "nothing", "nothing breaks: the figures to compare the others with"),
    (Fault::KillGateway, "kill-gateway", "kill -9 of one gateway, started again after 3 s"),
    (Fault::DrainGateway, "drain-gateway", "SIGTERM of one gateway, started again when it has ended"),
    (Fault::KillWorker, "kill-worker", "kill -9 of one worker, started again after 3 s"),
    (Fault::KillAllWorkers, "kill-all-workers", "kill -9 of all workers at once, started again after 5 s"),
    (
        Fault::RollingRestart,
        "rolling-restart",
        "SIGTERM and a new start of every gateway and worker, one by one",
    ),
    (Fault::FreezeGateway, "freeze-gateway", "SIGSTOP of one gateway for 20 s"),
    (Fault::FreezeWorker, "freeze-worker", "SIGSTOP of one worker for 20 s"),
    (Fault::FreezeMysql, "freeze-mysql", "SIGSTOP of MySQL for 20 s"),
    (Fault::FreezeRedis, "freeze-redis", "SIGSTOP of Redis for 20 s"),
    (Fault::FreezeRabbitmq, "freeze-rabbitmq", "SIGSTOP of RabbitMQ for 20 s"),
    (Fault::KillMysql, "kill-mysql", "kill -9 of MySQL, started again at once"),
    (Fault::KillRedis, "kill-redis", "kill -9 of Redis, started again at once"),
    (Fault::KillRabbitmq, "kill-rabbitmq", "kill -9 of RabbitMQ, started again at once"),
    (
        Fault::KillRabbitmqLeader,
        "kill-rabbitmq-leader",
        "kill -9 of the node that leads the most queues, started again after 15 s",
    ),
    (Fault::RedisEmpty, "redis-empty", "kill -9 of Redis, started again empty"),
    (Fault::RedisBack, "redis-back", "kill -9 of Redis, started again without its last 3 s of writes"),
    (Fault::PushQueuesDeleted, "push-queues-deleted", "every gateway's push queue is deleted"),
    (
        Fault::PushQueuesUnbound,
        "push-queues-unbound",
        "every gateway's push queue loses its binding and gets nothing",
    ),
    (Fault::MysqlAway, "mysql-away", "MySQL is stopped for a minute"),
    (Fault::MemoryAlarm, "memory-alarm", "RabbitMQ blocks publishers for 10 s"),
    (Fault::QueuesFull, "queues-full", "workers are frozen until RabbitMQ refuses messages (reject-publish)"),
    (
        Fault::WorkerDiesUnacked,
        "worker-dies-unacked",
        "kill -9 of a worker between commit and acknowledgement",
    ),
    (
        Fault::TwoOwners,
        "two-owners",
        "one worker cannot reach Redis for 12 s: two act as owners of its shards",
    ),
    (Fault::ClockGateway, "clock-gateway", "one gateway's clock is an hour ahead, then an hour behind"),
    (Fault::ClockWorker, "clock-worker", "one worker's clock is an hour ahead, then an hour behind"),
    (Fault::ChangeShards, "change-shards", "one work queue more, then as many as before (imctl shards set)"),
    (
        Fault::HostileReaders,
        "hostile-readers",
        "40 members of busy groups that never read, or one byte a second",
    ),
    (
        Fault::HostileConnections,
        "hostile-connections",
        "1,000 connections a second, opened and closed, for 10 s",
    ),
    (Fault::HostileLogins, "hostile-logins", "10,000 logins with wrong tokens"),
    (
        Fault::HostileFrames,
        "hostile-frames",
        "half frames, 64 KiB of nesting, invalid UTF-8, compression, giant ids",
    ),
    (Fault::VersionChange, "version-change", "the processes of --previous are replaced by this version's"),
    (Fault::DiskFull, "disk-full", "MySQL's disk is full for 15 s"),
];

impl Fault {
    /// All faults.
    pub fn all() -> impl Iterator<Item = Self> {
        let wires = WIRES.iter().flat_map(|(wire, ..)| DAMAGES.map(|(damage, ..)| Self::Wire(damage, *wire)));
        let clusters = CLUSTER_FAULTS.iter().map(|(fault, ..)| Self::Cluster(*fault));
        OTHERS.iter().map(|(fault, ..)| *fault).chain(wires).chain(clusters)
    }

    /// Whether it needs a system that other faults cannot use: another version, servers on a small disk, which end with
    /// MySQL, or a cluster, to which there are no wires.
    #[must_use]
    pub fn needs_own_system(self) -> bool {
        matches!(self, Self::DiskFull | Self::VersionChange) || self.cluster().is_some()
    }

    /// The cluster that it needs.
    #[must_use]
    pub fn cluster(self) -> Option<Cluster> {
        match self {
            Self::KillRabbitmqLeader => Some(Cluster::Rabbitmq),
            Self::Cluster(fault) => Some(fault.cluster()),
            _ => None,
        }
    }

    /// What kind of process it concerns.
    pub(crate) fn target(self) -> Target {
        match self {
            Self::KillGateway
            | Self::DrainGateway
            | Self::FreezeGateway
            | Self::ClockGateway
            | Self::HostileReaders
            | Self::HostileConnections
            | Self::HostileLogins
            | Self::HostileFrames
            | Self::Wire(
                _,
                Wire::ClientsGateway | Wire::GatewayMysql | Wire::GatewayRedis | Wire::GatewayRabbitmq,
            ) => Target::Gateway,
            Self::KillWorker
            | Self::FreezeWorker
            | Self::ClockWorker
            | Self::WorkerDiesUnacked
            | Self::TwoOwners
            | Self::Wire(_, Wire::WorkerMysql | Wire::WorkerRedis | Wire::WorkerRabbitmq) => Target::Worker,
            _ => Target::Other,
        }
    }

    /// The name on the command line.
    #[must_use]
    pub fn name(self) -> String {
        match self {
            Self::Wire(damage, wire) => {
                let damage = DAMAGES.iter().find(|(one, ..)| *one == damage).map_or("", |(_, name, _)| name);
                let wire = WIRES.iter().find(|(one, ..)| *one == wire).map_or("", |(_, name, _)| name);
                format!("{damage}-{wire}")
            }
            Self::Cluster(fault) => of_cluster(fault).0.to_owned(),
            other => OTHERS.iter().find(|(one, ..)| *one == other).map_or("", |(_, name, _)| name).to_owned(),
        }
    }

    /// A description in a few words.
    #[must_use]
    pub fn description(self) -> String {
        match self {
            Self::Wire(damage, wire) => {
                let damage = DAMAGES.iter().find(|(one, ..)| *one == damage).map_or("", |(.., what)| what);
                let wire = WIRES.iter().find(|(one, ..)| *one == wire).map_or("", |(.., what)| what);
                format!("{wire} {damage}")
            }
            Self::Cluster(fault) => of_cluster(fault).1.to_owned(),
            other => OTHERS.iter().find(|(one, ..)| *one == other).map_or("", |(.., what)| what).to_owned(),
        }
    }
}

/// Name and description.
fn of_cluster(fault: ClusterFault) -> (&'static str, &'static str) {
    let found = CLUSTER_FAULTS.iter().find(|(one, ..)| *one == fault);
    found.map_or(("", ""), |(_, name, what)| (*name, *what))
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name())
    }
}

impl FromStr for Fault {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        Self::all().find(|fault| fault.name() == name).ok_or_else(|| {
            let names: Vec<_> = Self::all().map(Self::name).collect();
            format!("there is no fault {name}; there are: {}", names.join(", "))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_of_one_process_are_named_after_its_kind() {
        let (gateways, workers) =
            (["-gateway", "gateway-", "hostile-"], ["-worker", "worker-", "two-owners"]);
        for fault in Fault::all().filter(|fault| *fault != Fault::KillAllWorkers) {
            let name = fault.name();
            let expected = match name {
                _ if gateways.iter().any(|part| name.contains(part)) => Target::Gateway,
                _ if workers.iter().any(|part| name.contains(part)) => Target::Worker,
                _ => Target::Other,
            };
            assert_eq!(fault.target(), expected, "{name}");
        }
    }

    #[test]
    fn every_fault_has_a_unique_name() {
        assert_eq!(Fault::all().count(), OTHERS.len() + WIRES.len() * DAMAGES.len() + CLUSTER_FAULTS.len());
        for fault in Fault::all() {
            assert_eq!(fault.name().parse(), Ok(fault));
            assert!(!fault.description().is_empty());
        }
        assert!("no-such-fault".parse::<Fault>().unwrap_err().contains("stall-worker-redis"));
    }
}
