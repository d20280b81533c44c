//! The gateway: the process that clients connect to. It keeps nothing that matters; any of them can be killed, and any
//! number can run side by side.
//!
//! The way of a chat message through it:
//!
//! 1. [`listen`] accepts the TCP connection, [`http`] makes it a WebSocket.
//! 2. [`connection::task`] reads a frame, [`wire::request`] parses it, [`connection::login`] says what to do.
//! 3. [`send`] admits the message, numbers it, publishes it, and answers its sender when the broker has it.
//! 4. A worker commits it and tells all gateways. [`push::listener`] hears that, [`hub`] knows who is concerned, and
//!    [`push::fanout`] puts one frame into every [`outbox`], from which the connection's task writes it.
//!
//! A pull (cmd 3) goes from the connection to [`read`] and back through the outbox.

#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "the tasks of a test end with its runtime"))]

mod announce;
pub mod app;
mod auth;
mod batch_loader;
pub mod config;
pub mod connection;
mod http;
pub mod hub;
pub mod identity;
mod listen;
mod membership;
pub mod outbox;
mod presence;
mod push;
mod rates;
mod read;
mod send;
mod typing;
pub mod wire;
