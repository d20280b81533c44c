//! Which shards this worker consumes, and the task that runs each of them.

pub mod assignment;
pub(crate) mod backlog;
pub(crate) mod drain;
mod gauges;
pub(crate) mod heartbeat;
pub mod resharding;
pub(crate) mod shard_task;
mod standby;
