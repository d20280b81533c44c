//! The parts that gateways and workers share: ids, messages, permissions, access to the stores and the broker,
//! configuration, telemetry.
//!
//! All SQL of the project is under [`mysql`], all Redis keys and Lua scripts under [`redis`], all exchange and queue names
//! in [`amqp::topology`]. The modules [`ids`], [`conversation`], [`message`], [`permission`], [`feed`], [`webhook`], [`shard`], [`shard_state`], [`envelope`],
//! [`meta`], [`nickname`] and [`backoff`] are pure.

#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "the tasks of a test end with its runtime"))]

pub mod advertised_address;
pub mod amqp;
pub mod backoff;
pub mod concurrency_limit;
pub mod config;
pub mod conversation;
pub mod envelope;
pub mod error_text;
pub mod feed;
pub mod health;
pub mod health_command;
pub mod ids;
pub mod live;
pub mod message;
pub mod meta;
pub mod metrics;
pub mod mysql;
pub mod nickname;
pub mod open_files;
pub mod ops_client;
pub mod ops_listener;
pub mod ops_routes;
pub mod pace;
pub mod permission;
pub mod permits;
pub mod probes;
pub mod process;
pub mod redis;
pub mod reload;
pub mod runtime;
pub mod shard;
pub mod shard_follower;
pub mod shard_state;
pub mod shutdown;
pub mod targeted_push;
pub mod telemetry;
pub mod tls;
pub mod traces;
pub mod webhook;
pub mod webhook_signature;
