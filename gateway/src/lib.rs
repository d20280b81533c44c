//! The gateway: the process that clients connect to. It has no state that must survive it: any gateway may be killed, and
//! any number of them can run side by side.
//!
//! The path of a chat message:
//!
//! 1. [`listen`] accepts the TCP connection, [`http`] upgrades it to a WebSocket.
//! 2. [`connection::task`] reads a frame, [`wire::request`] parses it, [`connection::login`] decides what the client may do.
//! 3. [`send`] admits the message, assigns its sequence number, publishes it, and replies when the broker confirms it.
//! 4. A worker commits it and announces it to all gateways. [`push::listener`] receives the event, [`push::fanout`] adds one
//!    frame to the [`outbox`] of each connection that [`hub`] finds, and the connection tasks write it.
//!
//! A pull (cmd 3) goes from the connection to [`read`] and back through the outbox.
//!
//! Which module may import which is a table in `shared/tests/tidy/main.rs`.

#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "the tasks of a test end with its runtime"))]

mod announce;
pub mod app;
mod auth;
mod batch_loader;
mod budget;
pub mod config;
pub mod connection;
mod devices;
mod features;
mod feed;
mod files;
mod hook;
mod http;
pub mod hub;
mod id_profile;
pub mod identity;
mod key_files;
mod listen;
mod membership;
mod notifications;
mod origin;
pub mod outbox;
mod outgoing;
mod presence;
pub mod processes;
mod push;
mod rates;
mod read;
mod send;
mod shares;
mod tls;
mod typing;
mod views;
mod watches;
pub mod webhooks;
pub mod wire;
mod write_timeout;

pub use auth::token::{check_keys, mint};
