//! What gateways and workers both need: ids, the storage and broker access, configuration, telemetry.
//!
//! All SQL of the project is under [`mysql`], all Redis keys and Lua under [`redis`], all exchange and queue names in
//! [`amqp::topology`]. The modules [`ids`], [`conversation`], [`shard`], [`envelope`] and [`backoff`] are pure.

pub mod amqp;
pub mod backoff;
pub mod config;
pub mod conversation;
pub mod envelope;
pub mod health;
pub mod ids;
pub mod metrics;
pub mod mysql;
pub mod ops_routes;
pub mod redis;
pub mod shard;
pub mod shutdown;
pub mod telemetry;
pub mod turns;
