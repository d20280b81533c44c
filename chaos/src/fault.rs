//! What can break.

use std::fmt;
use std::str::FromStr;

/// One way to break something, and to mend it again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing breaks: what the others are compared with.
    Nothing,
    /// A gateway is killed, and started again after 3 s.
    KillGateway,
    /// A gateway is stopped in order, and started again when it has ended.
    DrainGateway,
    /// A worker is killed, and started again after 3 s.
    KillWorker,
    /// All workers are killed at once, and started again after 5 s.
    KillAllWorkers,
    /// Every gateway and worker is stopped in order and started again, one by one.
    RollingRestart,
    /// A gateway stands still for 20 s, its connections open.
    FreezeGateway,
    /// A worker stands still for 20 s and wakes up believing that it owns its shards.
    FreezeWorker,
    /// MySQL stands still for 20 s.
    FreezeMysql,
    /// Redis stands still for 20 s.
    FreezeRedis,
    /// RabbitMQ stands still for 20 s.
    FreezeRabbitmq,
    /// MySQL is killed and started again.
    KillMysql,
    /// Redis is killed and started again.
    KillRedis,
    /// RabbitMQ is killed and started again.
    KillRabbitmq,
    /// Redis is replaced by an empty one.
    RedisEmpty,
    /// Redis loses the last seconds of its file: counters fall back.
    RedisBack,
    /// Every gateway's push queue is deleted.
    PushQueuesDeleted,
    /// Nothing is delivered to any gateway's push queue any more, and no gateway is told.
    PushQueuesUnbound,
    /// MySQL is away for a minute.
    MysqlAway,
    /// RabbitMQ blocks publishers for 10 s.
    MemoryAlarm,
    /// The work queues are full: RabbitMQ refuses what is published.
    QueuesFull,
    /// A worker commits, and dies before its acknowledgements reach RabbitMQ.
    WorkerDiesUnacked,
    /// A worker cannot reach Redis for 12 s: the others share out its shards, it keeps them.
    TwoOwners,
    /// A gateway's clock is an hour ahead, then an hour behind.
    ClockGateway,
    /// A worker's clock is an hour ahead, then an hour behind.
    ClockWorker,
    /// MySQL's disk is full for 15 s.
    DiskFull,
    /// Those of another version are replaced, one by one (see [`previous`](testbed::stack::Builder::previous)).
    VersionChange,
    /// Members who never read, or a byte a second.
    HostileReaders,
    /// A thousand connections a second are opened and closed.
    HostileConnections,
    /// Ten thousand logins with wrong tokens.
    HostileLogins,
    /// Half frames, nesting, no UTF-8, compression, giant ids.
    HostileFrames,
    /// Something happens to a wire for 10 s.
    Wire(Damage, Wire),
}

/// What happens to a wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Damage {
    /// Connections are reset, and new ones too.
    Cut,
    /// Nothing gets through, and nobody is told.
    Stall,
    /// 150 ms each way, and 100 KB/s.
    Slow,
}

/// Between whom. One of the gateways or workers is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wire {
    /// All clients of a gateway.
    ClientsGateway,
    /// A gateway's to MySQL.
    GatewayMysql,
    /// A gateway's to Redis.
    GatewayRedis,
    /// A gateway's to RabbitMQ.
    GatewayRabbitmq,
    /// A worker's to MySQL.
    WorkerMysql,
    /// A worker's to Redis.
    WorkerRedis,
    /// A worker's to RabbitMQ.
    WorkerRabbitmq,
}

const DAMAGES: [(Damage, &str, &str); 3] = [
    (Damage::Cut, "cut", "is cut for 10 s"),
    (Damage::Stall, "stall", "lets nothing through for 10 s, and nobody is told"),
    (Damage::Slow, "slow", "takes 150 ms each way and 100 KB/s for 10 s"),
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
    (Fault::Nothing, "nothing", "nothing breaks, to compare with"),
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
    (Fault::RedisEmpty, "redis-empty", "Redis is killed and comes back empty"),
    (Fault::RedisBack, "redis-back", "Redis is killed and comes back without its last 3 s"),
    (Fault::PushQueuesDeleted, "push-queues-deleted", "every gateway's push queue is deleted"),
    (
        Fault::PushQueuesUnbound,
        "push-queues-unbound",
        "every gateway's push queue stays, but gets nothing any more",
    ),
    (Fault::MysqlAway, "mysql-away", "MySQL is stopped for a minute"),
    (Fault::MemoryAlarm, "memory-alarm", "RabbitMQ blocks publishers for 10 s"),
    (
        Fault::QueuesFull,
        "queues-full",
        "workers stand still until RabbitMQ refuses messages (reject-publish)",
    ),
    (
        Fault::WorkerDiesUnacked,
        "worker-dies-unacked",
        "kill -9 of a worker between commit and acknowledgement",
    ),
    (
        Fault::TwoOwners,
        "two-owners",
        "one worker is cut off the board for 12 s: two believe they own its shards",
    ),
    (Fault::ClockGateway, "clock-gateway", "one gateway's clock goes an hour ahead, then an hour behind"),
    (Fault::ClockWorker, "clock-worker", "one worker's clock goes an hour ahead, then an hour behind"),
    (
        Fault::HostileReaders,
        "hostile-readers",
        "40 members of busy groups who never read, or a byte a second",
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
        "half frames, 64 KiB of nesting, no UTF-8, compression, giant ids",
    ),
    (Fault::VersionChange, "version-change", "the processes of --previous are replaced by this version's"),
    (Fault::DiskFull, "disk-full", "MySQL's disk is full for 15 s"),
];

impl Fault {
    /// All of them.
    pub fn all() -> impl Iterator<Item = Self> {
        let wires = WIRES.iter().flat_map(|(wire, ..)| DAMAGES.map(|(damage, ..)| Self::Wire(damage, *wire)));
        OTHERS.iter().map(|(fault, ..)| *fault).chain(wires)
    }

    /// As on the command line.
    #[must_use]
    pub fn name(self) -> String {
        match self {
            Self::Wire(damage, wire) => {
                let damage = DAMAGES.iter().find(|(one, ..)| *one == damage).map_or("", |(_, name, _)| name);
                let wire = WIRES.iter().find(|(one, ..)| *one == wire).map_or("", |(_, name, _)| name);
                format!("{damage}-{wire}")
            }
            other => OTHERS.iter().find(|(one, ..)| *one == other).map_or("", |(_, name, _)| name).to_owned(),
        }
    }

    /// What happens, in a few words.
    #[must_use]
    pub fn what(self) -> String {
        match self {
            Self::Wire(damage, wire) => {
                let damage = DAMAGES.iter().find(|(one, ..)| *one == damage).map_or("", |(.., what)| what);
                let wire = WIRES.iter().find(|(one, ..)| *one == wire).map_or("", |(.., what)| what);
                format!("{wire} {damage}")
            }
            other => OTHERS.iter().find(|(one, ..)| *one == other).map_or("", |(.., what)| what).to_owned(),
        }
    }
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
            format!("there is no such fault; there are: {}", names.join(", "))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_has_a_name_of_its_own_that_leads_back_to_it() {
        assert_eq!(Fault::all().count(), OTHERS.len() + WIRES.len() * DAMAGES.len());
        for fault in Fault::all() {
            assert_eq!(fault.name().parse(), Ok(fault));
            assert!(!fault.what().is_empty());
        }
        assert!("no-such-fault".parse::<Fault>().unwrap_err().contains("stall-worker-redis"));
    }
}
