//! The faults of clusters: a server is lost, and others take over.

use testbed::stack::{Builder, MysqlKind, RedisKind};

/// One way to lose a server of several.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClusterFault {
    /// Sentinel makes a replica the master, and the old master a replica.
    FailoverRedisSentinel,
    /// The master behind Sentinel is killed, and started again after 15 s.
    KillRedisSentinelMaster,
    /// The master behind Sentinel is frozen for good; it is replaced after 25 s.
    SilenceRedisPrimary,
    /// A master of a Redis Cluster is killed, and started again after 15 s.
    KillRedisClusterMaster,
    /// A master of a Redis Cluster is frozen for good; it is replaced after 25 s.
    SilenceRedisClusterMaster,
    /// Most slots of one server of a Redis Cluster move to another one, and back.
    MoveRedisSlots,
    /// The node of Galera that is written to is killed, and started again after 15 s.
    KillGaleraWriter,
    /// The node of Galera that is used is frozen for good, and its address leads to another one.
    SilenceMysqlPrimary,
    /// Each node of RabbitMQ is killed, and started again after 10 s, one after the other.
    KillRabbitmqNodesInTurn,
    /// The node of RabbitMQ that leads the most work queues is cut off from the others for 45 s.
    PartitionRabbitmqNode,
    /// The node of RabbitMQ that leads the most work queues is frozen for good; it is replaced after 45 s.
    SilenceRabbitmqNode,
}

/// The servers that a fault needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cluster {
    /// Redis behind Sentinel.
    RedisSentinel,
    /// A Redis Cluster.
    RedisCluster,
    /// MariaDB Galera behind HAProxy.
    Galera,
    /// MariaDB Galera at an address that leads to one node.
    GaleraNodes,
    /// Three nodes of RabbitMQ.
    Rabbitmq,
}

impl Cluster {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::RedisSentinel, Self::RedisCluster, Self::Galera, Self::GaleraNodes, Self::Rabbitmq];

    /// A system with these servers.
    #[must_use]
    pub fn of(self, builder: Builder) -> Builder {
        match self {
            Self::RedisSentinel => builder.redis(RedisKind::Sentinel),
            Self::RedisCluster => builder.redis(RedisKind::Cluster),
            Self::Galera => builder.mysql(MysqlKind::Balanced),
            Self::GaleraNodes => builder.mysql(MysqlKind::Nodes),
            Self::Rabbitmq => builder.rabbit_nodes(3),
        }
    }

    /// Whether a system can have both.
    #[must_use]
    pub fn fits(self, other: Self) -> bool {
        let store = |cluster| match cluster {
            Self::RedisSentinel | Self::RedisCluster => 0,
            Self::Galera | Self::GaleraNodes => 1,
            Self::Rabbitmq => 2,
        };
        self == other || store(self) != store(other)
    }
}

pub(crate) const CLUSTER_FAULTS: &[(ClusterFault, &str, &str)] = &[
    (
        ClusterFault::FailoverRedisSentinel,
        "failover-redis-sentinel",
        "Sentinel makes a replica the master, as an operator asks (SENTINEL FAILOVER)",
    ),
    (
        ClusterFault::KillRedisSentinelMaster,
        "kill-redis-sentinel-master",
        "kill -9 of the master behind Sentinel, started again after 15 s",
    ),
    (
        ClusterFault::SilenceRedisPrimary,
        "silence-redis-primary",
        "SIGSTOP of the master behind Sentinel, for good; replaced after 25 s",
    ),
    (
        ClusterFault::KillRedisClusterMaster,
        "kill-redis-cluster-master",
        "kill -9 of a master of a Redis Cluster, started again after 15 s",
    ),
    (
        ClusterFault::SilenceRedisClusterMaster,
        "silence-redis-cluster-master",
        "SIGSTOP of a master of a Redis Cluster, for good; replaced after 25 s",
    ),
    (
        ClusterFault::MoveRedisSlots,
        "move-redis-slots",
        "5,000 slots of a Redis Cluster move to another server and back (redis-cli --cluster reshard)",
    ),
    (
        ClusterFault::KillGaleraWriter,
        "kill-galera-writer",
        "kill -9 of the node of Galera that HAProxy uses, started again after 15 s",
    ),
    (
        ClusterFault::SilenceMysqlPrimary,
        "silence-mysql-primary",
        "SIGSTOP of the node of Galera that is used, for good; its address leads to another one",
    ),
    (
        ClusterFault::KillRabbitmqNodesInTurn,
        "kill-rabbitmq-nodes-in-turn",
        "kill -9 of each node of RabbitMQ, one after the other, each started again after 10 s",
    ),
    (
        ClusterFault::PartitionRabbitmqNode,
        "partition-rabbitmq-node",
        "the node that leads the most queues is cut off from the others for 45 s (nothing gets through)",
    ),
    (
        ClusterFault::SilenceRabbitmqNode,
        "silence-rabbitmq-node",
        "SIGSTOP of the node that leads the most queues, for good; replaced after 45 s",
    ),
];

impl ClusterFault {
    /// The servers that it needs.
    #[must_use]
    pub fn cluster(self) -> Cluster {
        match self {
            Self::FailoverRedisSentinel | Self::KillRedisSentinelMaster | Self::SilenceRedisPrimary => {
                Cluster::RedisSentinel
            }
            Self::KillRedisClusterMaster | Self::SilenceRedisClusterMaster | Self::MoveRedisSlots => {
                Cluster::RedisCluster
            }
            Self::KillGaleraWriter => Cluster::Galera,
            Self::SilenceMysqlPrimary => Cluster::GaleraNodes,
            Self::KillRabbitmqNodesInTurn | Self::PartitionRabbitmqNode | Self::SilenceRabbitmqNode => {
                Cluster::Rabbitmq
            }
        }
    }
}
