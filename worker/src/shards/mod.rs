//! Consuming the shards that fall to this worker.

pub mod assignment;
pub mod heartbeat;
pub mod shard_task;
mod standby;
