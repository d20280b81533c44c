//! Presence events (cmd 9): who watches whom, and what is told when a watched user comes or goes.
//!
//! * [`heartbeats`] decides which gateways are alive, and since when one is not. Pure.
//! * [`table`] has the watched users and the connections that watch them, and decides what is told. Pure.
//! * [`watcher`] reads the presence of the watched users from Redis once per second, and tells it.
//!
//! A login and a logout do nothing for it: `docs/decisions/0020-presence-events.md`.

mod heartbeats;
mod table;
mod watcher;

pub(crate) use watcher::{WatchDeps, Watches};
