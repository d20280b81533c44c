//! Redis 6.2+ or Valkey: message numbers, remembered ids, inboxes, and the board of live workers.
//!
//! All keys and all Lua of the project are here. fred, the client library, does not show outside this module.

mod client;
pub mod inbox;
pub mod keys;
pub mod live_board;
pub mod presence;
pub mod sequence;

pub use client::{Client, RedisError, connect};
