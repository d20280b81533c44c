//! Redis 6.2+ or Valkey: sequence numbers, remembered ids, inboxes, presence, ranks of devices, attempts to log in, the
//! liveness registry, and the addresses of processes.
//!
//! All keys and all Lua scripts of the project are here. fred, the client library, is not visible outside of this module.

mod client;
pub mod device_ranks;
mod discovery;
mod error;
mod fault;
pub mod inbox;
pub mod inspection;
mod keys;
pub mod liveness_registry;
pub mod login_attempts;
mod node;
pub mod presence;
pub mod process_addresses;
mod redirect;
mod routes;
pub mod sequence;

pub use client::{Client, connect};
pub use error::RedisError;
